"""The stand-in for pydensecrf against what pydensecrf2 1.1 computed.

`recorded/pydensecrf.npz` is written by `record_pydensecrf.py`, from the same cases.
"""

from pathlib import Path

import numpy as np
import pydensecrf_cases as cases
import pytest

from crfrnn_jax import InputError
from crfrnn_jax.pydensecrf import densecrf, utils

RECORDED = np.load(Path(__file__).parent / "recorded" / "pydensecrf.npz")
IMAGE, LABELS = cases.IMAGE, cases.LABELS
HEIGHT, WIDTH = IMAGE.shape[:2]


@pytest.mark.parametrize("normalisation", cases.NORMALISATIONS)
@pytest.mark.parametrize("form", cases.COMPATIBILITIES)
def test_inference_is_pydensecrfs(normalisation, form):
    """The same lattice, in float32 there and float64 here, and float32 sums."""
    ours = cases.results(densecrf, utils, normalisation, form)
    for name, value in ours.items():
        recorded = RECORDED[f"{normalisation}/{form}/{name}"]
        assert value.shape == recorded.shape
        if name == "divergence":
            np.testing.assert_allclose(value, recorded, rtol=1e-4)
        else:
            np.testing.assert_allclose(value, recorded, atol=1e-4)
    unary = RECORDED["utils/unary_from_softmax"]
    moved = np.abs(ours["inference"] - np.exp(-unary)).max()
    assert moved > 0.05


@pytest.mark.filterwarnings("ignore:compute_unary", "ignore:softmax_to_unary")
def test_utils_are_pydensecrfs():
    for name, value in cases.case(utils).items():
        recorded = RECORDED[f"utils/{name}"]
        assert value.dtype == recorded.dtype == np.float32
        np.testing.assert_allclose(value, recorded, rtol=1e-5, atol=1e-6)


def test_deprecated_names_say_so():
    with pytest.deprecated_call(match="use unary_from_labels"):
        utils.compute_unary(cases.SEGMENTS, 5)
    with pytest.deprecated_call(match="use unary_from_softmax"):
        utils.softmax_to_unary(cases.SOFTMAX)


def make(unary=None):
    crf = densecrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(
        utils.unary_from_softmax(cases.SOFTMAX) if unary is None else unary
    )
    return crf


def test_features_by_hand_are_the_images_kernels():
    """What `create_pairwise_*` are for; rows come first in them."""
    by_hand, of_image = make(), make()
    by_hand.addPairwiseEnergy(
        utils.create_pairwise_gaussian((3, 3), (HEIGHT, WIDTH))[::-1], compat=3
    )
    bilateral = utils.create_pairwise_bilateral((9, 9), 13.0, IMAGE, chdim=2)
    by_hand.addPairwiseEnergy(bilateral[[1, 0, 2, 3, 4]], compat=10)
    of_image.addPairwiseGaussian(sxy=3, compat=3)
    of_image.addPairwiseBilateral(sxy=9, srgb=13, rgbim=IMAGE, compat=10)
    np.testing.assert_allclose(by_hand.inference(5), of_image.inference(5), atol=1e-5)


def test_steps_are_iterations_and_write_in_place():
    crf = make()
    crf.addPairwiseGaussian(sxy=3, compat=3)
    marginals, first, second = crf.startInference()
    same = marginals
    for iterations in (1, 2):
        assert crf.stepInference(marginals, first, second) is None
        np.testing.assert_allclose(marginals, crf.inference(iterations), atol=1e-5)
    assert same is marginals
    assert marginals.flags.c_contiguous


def test_without_kernels_the_unary_is_the_answer():
    crf = make()
    softmax = cases.SOFTMAX.reshape(LABELS, -1)
    for marginals in (crf.inference(5), crf.startInference()[0]):
        np.testing.assert_allclose(marginals, softmax, atol=1e-4)
    blank = densecrf.DenseCRF(4, 2)
    np.testing.assert_allclose(blank.inference(3), 0.5)


def test_kernels_added_later_count():
    crf = make()
    crf.addPairwiseGaussian(sxy=3, compat=3)
    marginals, *rest = crf.startInference()
    crf.stepInference(marginals, *rest)
    crf.addPairwiseBilateral(sxy=9, srgb=13, rgbim=IMAGE, compat=10)
    crf.stepInference(marginals, *rest)
    both = make()
    both.addPairwiseGaussian(sxy=3, compat=3)
    one = both.inference(1)
    both.addPairwiseBilateral(sxy=9, srgb=13, rgbim=IMAGE, compat=10)
    stepped = one.copy()
    both.stepInference(stepped, *rest)
    np.testing.assert_allclose(marginals, stepped, atol=1e-6)


# What pydensecrf refused, or took and gave garbage for


def test_any_memory_layout_and_dtype_works():
    unary = utils.unary_from_softmax(cases.SOFTMAX)
    truth = make()
    truth.addPairwiseBilateral(sxy=9, srgb=13, rgbim=IMAGE, compat=10)
    other = make(np.asfortranarray(unary.astype(np.float64)))
    image = np.repeat(IMAGE, 2, axis=1)[:, ::2].astype(np.float64)
    other.addPairwiseBilateral(sxy=9, srgb=13, rgbim=image, compat=np.float64(10))
    np.testing.assert_allclose(other.inference(5), truth.inference(5), atol=1e-6)


def test_unaries_may_have_the_images_shape():
    unary = utils.unary_from_softmax(cases.SOFTMAX)
    shaped = make(unary.reshape(LABELS, HEIGHT, WIDTH))
    np.testing.assert_array_equal(shaped.inference(0), make(unary).inference(0))
    with pytest.raises(InputError, match=r"u: .*\[3, 12, 17\], got \[3, 17, 12\]"):
        make(unary.reshape(LABELS, WIDTH, HEIGHT))


@pytest.mark.filterwarnings("ignore:softmax_to_unary")
def test_probabilities_of_zero_stay_finite():
    certain = np.zeros((2, 3))
    certain[0] = 1
    for unary in (
        utils.unary_from_softmax(certain),
        utils.unary_from_softmax(certain, clip=None),
        utils.softmax_to_unary(certain),
    ):
        assert np.isfinite(unary).all()
    crf = densecrf.DenseCRF(3, 2)
    crf.setUnaryEnergy(np.array([[0, 0, np.inf], [np.inf, 1, 0]]))
    crf.addPairwiseEnergy(np.zeros((1, 3)), compat=3)
    marginals = crf.inference(5)
    assert np.isfinite(marginals).all()
    np.testing.assert_array_equal(marginals[[1, 0], [0, 2]], 0)


PROBABILITIES = cases.SOFTMAX


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: densecrf.DenseCRF(0, 2), "nvar: expected at least 1, got 0"),
        (lambda: densecrf.DenseCRF(2.0, 2), "nvar: expected an integer, got 2.0"),
        (lambda: densecrf.DenseCRF2D(3, 0, 2), "h: expected at least 1, got 0"),
        (lambda: densecrf.DenseCRF2D(3, 4, 0), "nlabels: expected at least 1, got 0"),
        (lambda: make(np.zeros((204, 3))), r"u: .*\[3, 204\], got \[204, 3\]"),
        (lambda: make(np.full((3, 204), np.nan)), "u: expected energies above minus"),
        (
            lambda: make(np.full((3, 204), np.inf)),
            "u: expected a finite energy of each",
        ),
        (lambda: make("unary"), "u: expected an array of NumPy.*got str"),
        (
            lambda: make(-utils.unary_from_softmax(cases.SOFTMAX)),
            "u: expected energies, minus log-probabilities, got log-prob",
        ),
        (
            lambda: utils.unary_from_softmax(np.moveaxis(cases.SOFTMAX, 0, -1)),
            r"sm: expected \[labels, \.\.\.\], got .*over the last axis",
        ),
        (
            lambda: make().addPairwiseBilateral(9, 13, IMAGE.swapaxes(0, 1), 3),
            r"rgbim: .*got \[17, 12, 3\]; .*width 17 and the height 12",
        ),
        (
            lambda: make().addPairwiseBilateral(9, 13, IMAGE / 255.0, 3),
            "rgbim: expected intensities in 0..255, got 0",
        ),
        (
            lambda: make().addPairwiseBilateral(9, (1, 2), IMAGE, 3),
            r"srgb: expected one number or 3, got shape \(2,\)",
        ),
        (
            lambda: make().addPairwiseGaussian((1, 2, 3), 3),
            "sxy: expected one number or 2",
        ),
        (lambda: make().addPairwiseGaussian(0, 3), "sxy: expected a positive finite"),
        (lambda: make().addPairwiseGaussian("3", 3), "sxy: expected an array, got str"),
        (lambda: make().addPairwiseGaussian(3, np.ones(2)), r"compat: .*got \[2\]"),
        (lambda: make().addPairwiseGaussian(3, np.nan), "compat: expected finite"),
        (lambda: make().addPairwiseGaussian(3, 1e300), "compat: expected finite"),
        (
            lambda: make().klDivergence(np.ones((3, 204), int)),
            "Q: expected floating-po",
        ),
        (lambda: make().klDivergence(np.zeros((3, 204))), "Q: expected marginals"),
        (lambda: make().klDivergence(np.full((3, 204), -0.1)), "Q: expected marginals"),
        (lambda: make().addPairwiseGaussian(3, "potts"), "compat: expected numbers"),
        (lambda: make().addPairwiseGaussian(3, 3, 7), "kernel: expected one of"),
        (
            lambda: make().addPairwiseGaussian(3, 3, normalization=9),
            "normalization: expected one of",
        ),
        (
            lambda: make().addPairwiseEnergy(np.zeros((204, 2)), 3),
            r"features: expected \[d, points\], \[d, 204\], got \[204, 2\]",
        ),
        (
            lambda: make().addPairwiseEnergy(np.full((1, 204), np.nan), 3),
            "features: expected finite numbers",
        ),
        (lambda: make(np.full((3, 204), 1e39)), "u: expected a finite energy of each"),
        (lambda: make().inference(-1), "niter: expected at least 0, got -1"),
        (lambda: make().klDivergence(np.ones((204, 3))), r"Q: .*got \[204, 3\]"),
        (lambda: utils.unary_from_labels(cases.SEGMENTS, 4, 1), "gt_prob: expected"),
        (lambda: utils.unary_from_labels(cases.SEGMENTS, 3, 0.5), "labels: .*0..3"),
        (lambda: utils.unary_from_labels(-cases.SEGMENTS, 5, 0.5), "labels: .*-4..0"),
        (lambda: utils.unary_from_softmax(cases.SCORES), "sm: .*take the softmax"),
        (
            lambda: utils.unary_from_softmax(PROBABILITIES, 2),
            "scale: expected a number above 0",
        ),
        (
            lambda: utils.unary_from_softmax(PROBABILITIES, clip=0),
            "clip: expected a number above",
        ),
        (
            lambda: utils.create_pairwise_gaussian((3,), (4, 5)),
            "sdims: expected 2 widths, of the shape's axes",
        ),
        (
            lambda: utils.create_pairwise_gaussian((3,), (0,)),
            "shape: expected the sides",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 4), (9,), IMAGE, 2),
            "schan: expected 3 widths, of the channels",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 4), 9, IMAGE, 5),
            r"chdim: expected -1 or an axis of img, \[12, 17, 3\], got 5",
        ),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
