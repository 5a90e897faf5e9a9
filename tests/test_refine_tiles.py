"""Tiles of an image: the whole's marginals, read and written part by part."""

import numpy as np
import pytest
from oracles import softmax

from crfrnn_jax import InputError, refine
from crfrnn_jax.refine.refining import _refine

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 37, 150, 3
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LOGITS = 2 * RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
PROBABILITIES = softmax(LOGITS).astype(np.float32)
# Narrow, so that an overlap can hold all that reaches a pixel.
OPTIONS = {
    "theta_alpha": 2.0,
    "theta_beta": 60.0,
    "theta_gamma": 1.7,
    "bilateral_weight": 2.0,
    "spatial_weight": 1.5,
    "num_iterations": 1,
    "method": "exact",
}
# A filter of the lattice ends after 6 widths: at most 1.5 from a point to a vertex of
# its simplex, and as much from one to a point; between them one step along each of 6
# axes, which come furthest, 3, if three go against the other three. The Gaussian is
# below float32's rounding there. One iteration reaches two filters far: that of the
# messages, and that of the sums by which they are divided.
REACH = 2 * 6 * 2
TILED = OPTIONS | {"tile": 2 * REACH + 11, "overlap": REACH}


@pytest.mark.parametrize(
    "methods",
    [
        {"method": "lattice"},
        {"method": "exact", "normalisation": "after"},
        {"method": "exact", "spatial_method": "separable", "normalisation": "none"},
    ],
    ids=lambda methods: "/".join(methods.values()),
)
def test_with_all_context_tiles_are_the_whole(methods):
    whole = refine(IMAGE, logits=LOGITS, **(OPTIONS | methods))
    tiled = refine(IMAGE, logits=LOGITS, **(TILED | methods))
    assert np.abs(whole - PROBABILITIES).max() > 0.1
    # Where a tile starts moves float32's rounding of x / theta, up to 75, by 4e-6.
    np.testing.assert_allclose(tiled, whole, atol=3e-5)


def test_without_context_they_are_not():
    whole = refine(IMAGE, logits=LOGITS, **OPTIONS)
    tiled = refine(IMAGE, logits=LOGITS, **OPTIONS, tile=40, overlap=0)
    assert np.abs(tiled - whole).max() > 0.05


def test_all_tiles_are_of_one_program():
    compiled = _refine._cache_size()
    options = TILED | {"tile": 51}  # of which no other test has made one
    refine(IMAGE, logits=LOGITS, **options)
    refine(IMAGE[:, :100], logits=LOGITS[:, :100], **options)
    assert _refine._cache_size() == compiled + 1


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (20, 30)])
def test_images_of_any_sides_go_in(shape):
    """A line, and an image that is smaller than a tile."""
    image, logits = IMAGE.reshape(-1, 3), LOGITS.reshape(-1, LABELS)
    count = shape[0] * shape[1]
    image = image[:count].reshape(*shape, 3)
    logits = logits[:count].reshape(*shape, LABELS)
    whole = refine(image, logits=logits, **OPTIONS)
    np.testing.assert_allclose(refine(image, logits=logits, **TILED), whole, atol=3e-5)


def test_a_batch_and_its_masks_go_by_tiles():
    images = np.stack([IMAGE, 255 - IMAGE])[..., 0]
    logits = np.stack([LOGITS, LOGITS[::-1]])
    mask = np.ones(images.shape, bool)
    mask[0, :, 60:], mask[1, 9:12] = False, False  # of the first, whole windows
    logits = np.where(mask[..., None], logits, np.nan)
    whole = refine(images, logits=logits, mask=mask, **OPTIONS)
    tiled = refine(images, logits=logits, mask=mask, **TILED)
    np.testing.assert_allclose(tiled[mask], whole[mask], atol=3e-5)
    assert np.isnan(tiled[~mask]).all()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2"])
def test_files_are_read_and_written_in_place(tmp_path, dtype):
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "scores.npy", LOGITS.astype(dtype))
    image = np.load(tmp_path / "image.npy", "r")
    logits = np.load(tmp_path / "scores.npy", "r")
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", "w+", np.float16, LOGITS.shape
    )
    assert refine(image, logits=logits, **TILED, out=out) is out
    out.flush()
    whole = refine(IMAGE, logits=LOGITS.astype(dtype), **OPTIONS)
    # Half precision rounds numbers in 0..1 by 2^-12 at most.
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), whole, atol=3e-4)


class Stored:
    """As a data set of h5py or zarr: numpy's where it is indexed, and only there."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __getitem__(self, window):
        self.most = max(self.most, self.array[window].size)
        return self.array[window].copy()

    def __setitem__(self, window, values):
        self.most = max(self.most, values.size)
        self.array[window] = values


def test_nothing_larger_than_a_tile_is_read_or_written():
    arrays = {"image": Stored(IMAGE), "logits": Stored(LOGITS)}
    arrays["mask"] = Stored(np.ones((HEIGHT, WIDTH), bool))
    arrays["out"] = Stored(np.zeros(LOGITS.shape, np.float32))
    refine(**arrays, **TILED)
    whole = refine(IMAGE, logits=LOGITS, **OPTIONS)
    np.testing.assert_allclose(arrays["out"].array, whole, atol=3e-5)
    for array in arrays.values():
        assert 0 < array.most <= HEIGHT * TILED["tile"] * array.array[0, 0].size


def test_a_tile_may_be_what_an_image_must_not():
    """Dark, which a whole image of 0..1 is taken for; sure, as probabilities are."""
    image, logits = IMAGE.astype(np.float32), LOGITS.copy()
    image[:, :75] = 1
    logits[:, 75:] = [0, 1, 0]
    whole = refine(image, logits=logits, **OPTIONS)
    np.testing.assert_allclose(refine(image, logits=logits, **TILED), whole, atol=3e-5)
    with pytest.raises(InputError, match=r"image: .*max_intensity=1"):
        refine(np.full_like(image, 1), logits=logits, **TILED)
    with pytest.raises(InputError, match=r"logits: .*are they probabilities"):
        refine(image, logits=np.full_like(logits, [0, 1, 0]), **TILED)


def read_only():
    array = np.zeros(LOGITS.shape, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 48}, "tile: expected more than twice the overlap, 48 pixels, got 48"),
        ({"overlap": -1}, "overlap: expected at least 0, got -1"),
        ({"tile": 99.0}, "tile: expected an integer, got 99.0"),
        ({"tile": None}, "overlap: expected it with tile alone, got 24"),
        ({"tile": 320, "overlap": None, "theta_alpha": 80}, "tile: .*320 pixels"),
        ({"out": "out.npy"}, "out: expected an array of NumPy, .*got str"),
        ({"out": np.zeros((2, 2, 2), np.float32)}, r"out: .*the logits' shape \[37, 1"),
        ({"out": np.zeros(LOGITS.shape, int)}, "out: expected floating-point"),
        ({"out": read_only()}, "out: expected an array to write to"),
        ({"out": LOGITS}, "out: expected other memory than what is read"),
        ({"out": LOGITS[..., ::-1]}, "out: expected other memory than what is read"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        refine(IMAGE, logits=LOGITS, **(TILED | changes))


def test_nothing_is_written_before_all_is_checked():
    out = np.full(LOGITS.shape, 7, np.float32)
    logits = LOGITS.copy()
    logits[-1, -1] = np.nan  # in the last tile
    with pytest.raises(InputError, match="logits: expected finite numbers"):
        refine(IMAGE, logits=logits, **TILED, out=out)
    np.testing.assert_array_equal(out, 7)


@pytest.mark.parametrize("seed", range(2))
def test_the_default_overlap_errs_less_than_the_lattice(seed):
    """Up to 7 labels of 1000 and 0.007 of a marginal, as docs/accuracy.md has them."""
    image, logits = make_scene(seed)
    options = {"theta_alpha": 8.0, "theta_gamma": 1.0}
    whole = refine(image, logits=logits, **options)
    changed, differences = {}, {}
    for tile, overlap in ((32, 0), (64, None)):  # of both 32 are kept
        tiled = refine(image, logits=logits, **options, tile=tile, overlap=overlap)
        changed[overlap] = (tiled.argmax(-1) != whole.argmax(-1)).mean()
        differences[overlap] = np.abs(tiled - whole).max(-1).mean()
    assert changed[None] <= 0.007
    assert differences[None] <= 0.007
    assert differences[None] < differences[0] / 5


def make_scene(seed):
    """Waves on 96 x 256 pixels, regions of other waves, and noise of 4 pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :256]

    def waves():
        first, second, third = rng.uniform(0, 2 * np.pi, 3)
        wide = np.sin(rows / 17 + first) + np.cos(columns / 23 + rows / 31 + second)
        return wide + np.sin((rows - columns) / 9 + third) / 2

    image = 128 + 15 * waves()[..., None] + rng.normal(0, 3, (96, 256, 3))
    regions = np.argmax([waves() for _ in range(LABELS)], axis=0)
    noise = rng.normal(0, 2, (24, 64, LABELS)).repeat(4, axis=0).repeat(4, axis=1)
    return image, 2 * np.eye(LABELS)[regions] + noise
