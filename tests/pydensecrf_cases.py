"""What both pydensecrf and its stand-in are asked to compute; numpy alone."""

import numpy as np

HEIGHT, WIDTH, LABELS = 12, 17, 3
NORMALISATIONS = (
    "NO_NORMALIZATION",
    "NORMALIZE_BEFORE",
    "NORMALIZE_AFTER",
    "NORMALIZE_SYMMETRIC",
)
RNG = np.random.default_rng(0)
# Two regions, with noise: neither constant nor every pixel a vertex of its own.
IMAGE = np.full((HEIGHT, WIDTH, 3), (60, 120, 200), np.uint8)
IMAGE[4:, 6:] = 200, 90, 30
IMAGE += RNG.integers(0, 12, IMAGE.shape).astype(np.uint8)
SCORES = RNG.normal(size=(LABELS, HEIGHT, WIDTH))
SOFTMAX = np.exp(SCORES) / np.exp(SCORES).sum(0)
# Not symmetric: both take the symmetric part.
MATRIX = RNG.normal(size=(LABELS, LABELS)).astype(np.float32) - 2 * np.eye(
    LABELS, dtype=np.float32
)
# Of the spatial and the bilateral kernel.
COMPATIBILITIES = {
    "potts": (1.5, 2.0),
    "diagonal": (
        np.array([-1, -2, -0.5], np.float32),
        np.array([-2, -1, -1.5], np.float32),
    ),
    "matrix": (MATRIX, MATRIX.T.copy()),
}
# Unnormalised sums are as large as the neighbourhood.
SCALE = {"NO_NORMALIZATION": 0.02}
SEGMENTS = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 50


def results(dcrf, utils, normalisation, form):
    """Marginals, those of steps, and the divergence, of 5 iterations."""
    spatial, bilateral = COMPATIBILITIES[form]
    scale = np.float32(SCALE.get(normalisation, 1.0))
    options = {"normalization": getattr(dcrf, normalisation)}
    crf = dcrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(utils.unary_from_softmax(SOFTMAX))
    as_given = float if form == "potts" else np.ascontiguousarray
    crf.addPairwiseGaussian(sxy=(3.3, 2.1), compat=as_given(spatial * scale), **options)
    crf.addPairwiseBilateral(
        sxy=9.7,
        srgb=(13, 17, 11),
        rgbim=IMAGE,
        compat=as_given(bilateral * scale),
        **options,
    )
    marginals = np.array(crf.inference(5))
    stepped, first, second = crf.startInference()
    for _ in range(3):
        crf.stepInference(stepped, first, second)
    return {
        "inference": marginals,
        "steps": np.array(stepped),
        "divergence": np.float64(crf.klDivergence(stepped)),
    }


def case(utils):
    """What the functions of `utils` give, and inference with their features."""
    return {
        "unary_from_softmax": utils.unary_from_softmax(SOFTMAX),
        "scaled": utils.unary_from_softmax(SOFTMAX, scale=0.7, clip=0.2),
        "unary_from_labels": utils.unary_from_labels(SEGMENTS, 5, 0.7),
        "sure": utils.unary_from_labels(SEGMENTS, 5, 0.7, zero_unsure=False),
        "compute_unary": utils.compute_unary(SEGMENTS, 5),
        "softmax_to_unary": utils.softmax_to_unary(SOFTMAX, GT_PROB=0.8),
        "gaussian": utils.create_pairwise_gaussian((3, 4), (HEIGHT, WIDTH)),
        "volume": utils.create_pairwise_gaussian((3, 4, 0.5), (2, 3, 4)),
        "bilateral": utils.create_pairwise_bilateral((7, 8), (13, 17, 9), IMAGE, 2),
        "one_width": utils.create_pairwise_bilateral((7, 8), 13.0, IMAGE, 2),
        "gray": utils.create_pairwise_bilateral((7, 8), (9,), IMAGE[..., 0]),
        "first": utils.create_pairwise_bilateral(
            (7, 8), (9, 3, 2), np.ascontiguousarray(IMAGE.transpose(2, 0, 1)), 0
        ),
    }
