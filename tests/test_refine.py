"""One call for post-processing: what goes in, what comes out, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import pixel_features, softmax
from PIL import Image
from test_kernels import dense_kernel

from crfrnn_jax import InputError, refine
from crfrnn_jax.refine.refining import _refine

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 5, 6, 3
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LOGITS = RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
PROBABILITIES = softmax(LOGITS).astype(np.float32)
OPTIONS = {
    "theta_alpha": 4.7,
    "theta_beta": 60.0,
    "theta_gamma": 2.3,
    "bilateral_weight": 2.0,
    "spatial_weight": 1.5,
    "method": "exact",
}


def reference(image, logits, normalisation="symmetric", num_iterations=5):
    """Marginals in float64, by the widths and weights of `OPTIONS`."""
    features = pixel_features(image, 4.7, 60.0, 2.3)
    kernels = [dense_kernel(f, normalisation=normalisation) for f in features]
    unary = np.asarray(logits, np.float64).reshape(-1, logits.shape[-1])
    current = unary
    for _ in range(num_iterations):
        marginals = softmax(current)
        spatial, bilateral = (kernel @ marginals for kernel in kernels)
        current = unary + 1.5 * spatial + 2.0 * bilateral
    return softmax(current).reshape(logits.shape)


@pytest.mark.parametrize("normalisation", ["none", "before", "after", "symmetric"])
def test_refined_probabilities_are_the_references(normalisation):
    refined = refine(
        IMAGE, logits=LOGITS, **OPTIONS, normalisation=normalisation, num_iterations=3
    )
    assert isinstance(refined, np.ndarray)
    assert refined.flags.writeable
    assert refined.dtype == np.float32
    truth = reference(IMAGE, LOGITS, normalisation, 3)
    assert np.abs(truth - PROBABILITIES).max() > 0.05
    np.testing.assert_allclose(refined, truth, atol=1e-5)


def test_probabilities_and_logits_are_told_apart_by_name():
    by_logits = refine(IMAGE, logits=LOGITS, **OPTIONS)
    by_probabilities = refine(IMAGE, probabilities=PROBABILITIES, **OPTIONS)
    np.testing.assert_allclose(by_probabilities, by_logits, atol=1e-5)
    with pytest.raises(InputError, match=r"logits: .*are they probabilities"):
        refine(IMAGE, logits=PROBABILITIES, **OPTIONS)


def test_the_default_is_the_lattice():
    lattice = refine(IMAGE, logits=LOGITS, **(OPTIONS | {"method": "lattice"}))
    separable = refine(
        IMAGE,
        logits=LOGITS,
        **(OPTIONS | {"method": "lattice", "spatial_method": "separable"}),
    )
    exact = refine(IMAGE, logits=LOGITS, **OPTIONS)
    assert 1e-4 < np.abs(lattice - exact).max() < 0.3
    assert np.abs(separable - lattice).max() > 1e-4


def test_a_batch_is_its_items():
    images = np.stack([IMAGE, 255 - IMAGE])
    logits = np.stack([LOGITS, LOGITS[::-1]])
    together = refine(images, logits=logits, **OPTIONS)
    for i in range(2):
        alone = refine(images[i], logits=logits[i], **OPTIONS)
        np.testing.assert_allclose(together[i], alone, atol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_gray_images_need_no_axis_of_channels(batch):
    gray, logits = IMAGE[..., 0], LOGITS
    if batch:
        gray, logits = gray[None], logits[None]
    refined = refine(gray, logits=logits, **OPTIONS)
    with_axis = refine(gray[..., None], logits=logits, **OPTIONS)
    np.testing.assert_array_equal(refined, with_axis)
    truth = reference(IMAGE[..., :1], LOGITS)
    np.testing.assert_allclose(refined.reshape(truth.shape), truth, atol=1e-5)


def test_images_of_other_ranges_are_told_by_their_greatest_intensity():
    whole = refine(IMAGE, logits=LOGITS, **OPTIONS)
    for image, most in (
        ((IMAGE / 255.0).astype(np.float32), 1.0),
        (IMAGE.astype(np.uint16) * 257, 65535),
    ):
        refined = refine(image, logits=LOGITS, **OPTIONS, max_intensity=most)
        np.testing.assert_allclose(refined, whole, atol=1e-5)


def test_masked_pixels_keep_what_they_have_and_send_nothing():
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[3:], mask[:, 4:] = False, False
    image = np.where(mask[..., None], IMAGE, 7).astype(np.float32)
    image[~mask] = np.nan
    probabilities = np.where(mask[..., None], PROBABILITIES, 0.0)
    refined = refine(image, probabilities=probabilities, mask=mask, **OPTIONS)
    np.testing.assert_array_equal(refined[~mask], 0)
    alone = refine(IMAGE[:3, :4], probabilities=PROBABILITIES[:3, :4], **OPTIONS)
    np.testing.assert_allclose(refined[:3, :4], alone, atol=1e-5)


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnAnotherDevice(Foreign):
    """As PyTorch's on a GPU, which numpy can't take."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [jnp.asarray, Foreign, OnAnotherDevice])
def test_arrays_of_any_library_go_in(kind):
    refined = refine(kind(IMAGE), logits=kind(LOGITS), **OPTIONS)
    assert isinstance(refined, np.ndarray)
    truth = refine(IMAGE, logits=LOGITS, **OPTIONS)
    np.testing.assert_array_equal(refined, truth)


def test_torch_tensors_go_in():
    torch = pytest.importorskip("torch")
    truth = refine(IMAGE, logits=LOGITS, **OPTIONS)
    image, logits = torch.tensor(IMAGE), torch.tensor(LOGITS)
    np.testing.assert_array_equal(refine(image, logits=logits, **OPTIONS), truth)
    # What a network gives, [batch, labels, height, width], seen in our order.
    batch = logits.permute(2, 0, 1)[None]
    seen = refine(image[None], logits=batch.permute(0, 2, 3, 1), **OPTIONS)
    np.testing.assert_allclose(seen[0], truth, atol=1e-6)
    half = refine(image, logits=logits.bfloat16(), **OPTIONS)
    np.testing.assert_allclose(half, truth, atol=0.02)
    with pytest.raises(InputError, match=r"logits: .*torch.*detach"):
        refine(image, logits=logits.clone().requires_grad_(), **OPTIONS)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_dtypes_of_scores_give_float32(dtype):
    refined = refine(IMAGE, logits=LOGITS.astype(dtype), **OPTIONS)
    assert refined.dtype == np.float32
    truth = reference(IMAGE, LOGITS.astype(dtype))
    np.testing.assert_allclose(refined, truth, atol=1e-5)


def test_other_values_do_not_compile_again():
    refine(IMAGE, logits=LOGITS, **OPTIONS)
    compiled = _refine._cache_size()
    wider = OPTIONS | {"theta_alpha": 9.0, "bilateral_weight": 1.0}
    refine(255 - IMAGE, logits=2 * LOGITS, **wider)
    assert _refine._cache_size() == compiled


def test_it_is_not_touched_by_the_64_bit_mode():
    truth = refine(IMAGE, logits=LOGITS, **OPTIONS)
    with jax.enable_x64(True):
        refined = refine(IMAGE, logits=LOGITS.astype(np.float64), **OPTIONS)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, truth, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": None}, "probabilities, logits: expected one of them, got none"),
        ({"probabilities": PROBABILITIES}, "expected one of them, got both"),
        ({"image": "cat.jpg"}, r"image: expected an array of NumPy.*got str"),
        ({"image": IMAGE.tolist()}, "image: expected an array of .*got list"),
        (
            {"image": IMAGE[:-1]},
            r"image: .*as the logits have shape \[5, 6, 3\], got shape \[4, 6, 3\]",
        ),
        ({"image": IMAGE.swapaxes(0, 1)}, r"image: .*height before width"),
        (
            {"image": np.moveaxis(IMAGE, -1, 0)},
            "image: .*channels and labels come last",
        ),
        ({"image": IMAGE / 255.0}, r"image: .*in 0..255, got 0.*max_intensity=1"),
        ({"image": IMAGE - 128.0}, r"image: .*0..255, got -.*no mean"),
        ({"image": IMAGE * 1j}, "image: expected real numbers, got dtype complex"),
        ({"image": IMAGE.astype(object)}, "image: expected numbers, got dtype object"),
        ({"image": IMAGE.astype(np.float32) * np.nan}, "image: expected intensities"),
        ({"logits": LOGITS[0]}, r"logits: expected shape \[height, width, labels\] or"),
        ({"logits": LOGITS[None, None]}, r"got \[1, 1, 5, 6, 3\]"),
        ({"logits": LOGITS.argmax(-1)}, "logits: expected floating-point values"),
        ({"logits": LOGITS * np.inf}, "logits: expected finite numbers"),
        ({"logits": np.abs(LOGITS) * -np.inf}, "logits: .* finite one of each pixel"),
        (
            {"logits": LOGITS.astype(np.float64) * 1e39},
            "logits: expected finite numbers",
        ),
        ({"mask": np.ones((5, 6))}, "mask: expected True and False"),
        ({"mask": np.ones((6, 5), bool)}, r"mask: expected shape .*got \[6, 5\]"),
        ({"theta_alpha": 0}, "theta_alpha: expected a positive finite number"),
        ({"theta_beta": np.inf}, "theta_beta: expected a positive finite number"),
        ({"theta_gamma": "3"}, "theta_gamma: expected one number, got '3'"),
        ({"theta_beta": (9, 9, 9)}, r"theta_beta: expected one number, got \(9, 9, 9"),
        ({"bilateral_weight": -1}, "bilateral_weight: .*at least 0, got -1"),
        ({"spatial_weight": np.ones(3)}, "spatial_weight: expected one number, got an"),
        ({"num_iterations": 1.5}, "num_iterations: expected an integer, got 1.5"),
        ({"normalisation": "softmax"}, "normalisation: expected one of"),
        ({"method": "fast"}, "method: expected one of"),
        ({"spatial_method": "fast"}, "spatial_method: expected one of"),
        ({"max_intensity": 0}, "max_intensity: expected a positive finite number"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    arguments = OPTIONS | {"image": IMAGE, "logits": LOGITS} | changes
    with pytest.raises(InputError, match=message):
        refine(**arguments)


def picture(mode):
    return Image.fromarray(IMAGE).convert(mode)


def test_pictures_of_colour_or_gray_are_images():
    for mode, array in (("RGB", IMAGE), ("L", np.asarray(picture("L")))):
        np.testing.assert_array_equal(
            refine(picture(mode), logits=LOGITS, **OPTIONS),
            refine(array, logits=LOGITS, **OPTIONS),
        )


TALL = np.zeros((2, 3, 24, 32), np.float32)


@pytest.mark.parametrize(
    ("image", "logits", "message"),
    [
        # PyTorch's order, which fits if there are as many labels as channels.
        (TALL, TALL, r"image: .*\[2, 3, 24, 32\]; channels and labels come last"),
        (TALL[0], TALL[0], "image: .*channels and labels come last"),
        (IMAGE, LOGITS.transpose(2, 0, 1)[None], "image: .*channels and labels come"),
        (IMAGE, LOGITS[None], r"got shape \[5, 6, 3\]; image\[None\] is a batch"),
        # A picture of scribbles in colour, not a batch of gray images of width 3.
        (IMAGE, np.zeros((5, 6, 3, 2), np.float32), "image: .*labels of one channel"),
        (picture("P"), LOGITS, r"image: .*got one of mode P; \.convert\('RGB'\)"),
        (picture("RGBA"), LOGITS, "image: .*got one of mode RGBA"),
        (IMAGE, LOGITS[..., :1], r"logits: .*2 labels, got \[5, 6, 1\]; one prob"),
        (IMAGE, LOGITS.argmax(-1), "logits: .*int64; labels go through unary_from_la"),
    ],
)
def test_likely_mistakes_are_told_the_way_out(image, logits, message):
    with pytest.raises(InputError, match=message):
        refine(image, logits=logits, **OPTIONS)


def test_a_few_rows_of_many_channels_are_no_mistake():
    rows = RNG.integers(0, 256, (2, 12, 40)).astype(np.uint8)
    assert refine(rows, logits=RNG.normal(size=(2, 12, 3)), **OPTIONS).shape[-1] == 3


@pytest.mark.parametrize(
    "changes",
    [{"theta_beta": 1e-20, "method": "lattice"}, {"bilateral_weight": 1e300}],
)
def test_what_float32_can_not_compute_is_an_error(changes):
    with pytest.raises(
        InputError, match="spatial_weight: expected numbers that float32"
    ):
        refine(IMAGE, logits=LOGITS, **OPTIONS | changes)


def test_what_is_traced_is_sent_elsewhere():
    with pytest.raises(InputError, match=r"logits: .*what goes into jit are crf_rnn"):
        jax.jit(lambda logits: refine(IMAGE, logits=logits))(LOGITS)


def test_scores_are_not_taken_for_probabilities():
    with pytest.raises(InputError, match="if they are scores, give them as logits"):
        refine(IMAGE, probabilities=LOGITS, **OPTIONS)
    first = np.moveaxis(PROBABILITIES, -1, 0)
    with pytest.raises(InputError, match="if labels come first, move that axis"):
        refine(IMAGE[:3, :5], probabilities=first, **OPTIONS)
