"""Whatever is given for an argument, what is raised is the documented error."""

import datetime

import numpy as np
import pytest

import crfrnn_jax as c
from crfrnn_jax.losses import dense_crf_loss, expected_iou_loss, softmax_cross_entropy
from crfrnn_jax.pydensecrf import densecrf, utils

IMAGE = np.zeros((4, 5, 3), np.uint8)
LOGITS = np.zeros((4, 5, 2), np.float32)
PROBABILITIES = np.full((4, 5, 2), 0.5, np.float32)
LABELS = np.zeros((4, 5), int)
POINTS = np.zeros((20, 3), np.float32)
VALUES = np.zeros((20, 2), np.float32)
KERNEL = c.GaussianKernel(POINTS, method="exact", normalisation="symmetric")
PARAMS = c.init_crf_params(2)
FILTER = c.normalised_filter(KERNEL)
MIXING = np.eye(2, dtype=np.float32)

# Arguments that are right, by function; each is replaced by what is odd.
CALLS = {
    c.refine: {
        "image": IMAGE,
        "probabilities": PROBABILITIES,
        "mask": LABELS == 0,
        "theta_alpha": 3.0,
        "theta_beta": 3.0,
        "theta_gamma": 3.0,
        "bilateral_weight": 3.0,
        "spatial_weight": 3.0,
        "num_iterations": 1,
        "normalisation": "none",
        "method": "exact",
        "spatial_method": "exact",
        "max_intensity": 255,
    },
    c.crf_rnn: {
        "image": IMAGE,
        "logits": LOGITS,
        "params": PARAMS,
        "mask": LABELS == 0,
        "num_iterations": 1,
        "theta_alpha": 3.0,
        "theta_beta": 3.0,
        "theta_gamma": 3.0,
        "method": "exact",
        "spatial_method": "exact",
        "normalisation": "softmax",
    },
    c.mean_field: {
        "logits": LOGITS,
        "kernels": [KERNEL],
        "compatibility": -1.0,
        "mask": LABELS == 0,
        "num_iterations": 1,
        "damping": 0.1,
    },
    c.mean_field_until: {"logits": LOGITS, "kernels": [KERNEL], "tolerance": 0.1},
    c.mean_field_trajectory: {"logits": LOGITS, "kernels": [KERNEL], "damping": 0.1},
    c.mean_field_step: {
        "current": VALUES,
        "unary": VALUES,
        "filters": [FILTER],
        "mixings": [MIXING],
        "normalisation": "softmax",
    },
    c.spatial_kernel: {"shape": (4, 5), "theta_gamma": 3.0, "spacing": 1.0},
    c.bilateral_kernel: {
        "image": IMAGE,
        "theta_alpha": 3.0,
        "theta_beta": 3.0,
        "dims": 2,
        "spacing": 1.0,
    },
    c.normalised_filter: {"kernel": KERNEL, "mask": LABELS.ravel() == 0},
    c.prepare_kernel: {"kernel": KERNEL, "mask": LABELS == 0},
    c.labelling_energy: {"labels": LABELS, "logits": LOGITS, "kernels": [KERNEL]},
    c.free_energy: {"marginal_logits": LOGITS, "logits": LOGITS, "kernels": [KERNEL]},
    c.map_labels: {"marginal_logits": LOGITS},
    c.marginal_entropy: {"marginal_logits": LOGITS},
    c.exact_filter: {"features": POINTS, "values": VALUES},
    c.separable_filter: {"shape": (4, 5), "theta_gamma": 3.0, "values": VALUES},
    c.build_lattice: {"features": POINTS, "capacity": 80},
    c.filter_lattice: {
        "lattice": c.build_lattice(POINTS),
        "values": VALUES,
        "mixing": MIXING,
    },
    c.position_features: {"shape": (4, 5), "spacing": 1.0},
    c.image_features: {"image": IMAGE, "dims": 2, "spacing": 1.0},
    c.spatial_features: {"shape": (4, 5), "theta_gamma": 3.0},
    c.bilateral_features: {"image": IMAGE, "theta_alpha": 3.0, "theta_beta": 3.0},
    c.init_crf_params: {"num_labels": 2},
    c.logits_from_probabilities: {"probabilities": PROBABILITIES, "lowest": 1e-5},
    c.unary_from_labels: {
        "labels": LABELS,
        "confidence": 0.5,
        "num_labels": 2,
        "unknown": 255,
    },
    softmax_cross_entropy: {
        "logits": LOGITS,
        "labels": LABELS,
        "class_weights": np.ones(2, np.float32),
        "reduction": "mean",
        "robustness": 0.0,
        "ignore_label": 255,
    },
    expected_iou_loss: {"logits": LOGITS, "labels": LABELS, "ignore_label": 255},
    dense_crf_loss: {
        "images": IMAGE[None],
        "logits": LOGITS[None],
        "mask": LABELS[None] == 0,
        "theta_alpha": 3.0,
        "theta_beta": 3.0,
        "normalisation": "none",
        "method": "exact",
    },
    densecrf.DenseCRF2D: {"w": 5, "h": 4, "nlabels": 2},
    utils.unary_from_labels: {"labels": LABELS, "n_labels": 2, "gt_prob": 0.5},
    utils.unary_from_softmax: {"sm": PROBABILITIES.T, "scale": 1.0, "clip": 0.1},
    utils.create_pairwise_gaussian: {"sdims": (3, 3), "shape": (4, 5)},
    utils.create_pairwise_bilateral: {
        "sdims": (3, 3),
        "schan": (9, 9, 9),
        "img": IMAGE,
        "chdim": 2,
    },
}
ODD = {
    "text": "photo.jpg",
    "bytes": b"\x00",
    "a set": {1.5},
    "a function": print,
    "a date": datetime.date(2015, 12, 7),
    "complex": 3j * np.ones((4, 5, 2)),
    "of objects": np.array([[object()] * 5] * 4),
    "of text": np.array([["a"] * 5] * 4),
    "of dates": np.zeros((4, 5, 2), "datetime64[s]"),
    "empty": np.zeros((0, 5, 2), np.float32),
    "seven axes": np.zeros((1,) * 7, np.float32),
    "ragged": [[1], [2, 3]],
    "not a number": float("nan"),
    "negative": -7,
}
# What is odd in name alone: NaN is as good a value of these as any other.
RIGHT = {
    ("refine", "mask", "none"),
    ("unary_from_labels", "unknown", "negative"),
    ("softmax_cross_entropy", "ignore_label", "negative"),
    ("expected_iou_loss", "ignore_label", "negative"),
    ("mean_field", "compatibility", "negative"),
    ("mean_field", "compatibility", "not a number"),
    # Of any shape.
    ("map_labels", "marginal_logits", "empty"),
    ("map_labels", "marginal_logits", "seven axes"),
    ("marginal_entropy", "marginal_logits", "empty"),
    ("marginal_entropy", "marginal_logits", "seven axes"),
    ("unary_from_softmax", "sm", "seven axes"),
}
CASES = [
    pytest.param(function, argument, odd, id=f"{function.__name__}-{argument}-{odd}")
    for function, arguments in CALLS.items()
    for argument in arguments
    for odd in ODD
    if (function.__name__, argument, odd) not in RIGHT
]


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_what_is_right_is_taken(function):
    function(**CALLS[function])


@pytest.mark.parametrize(("function", "argument", "odd"), CASES)
def test_what_is_odd_is_named(function, argument, odd):
    arguments = CALLS[function] | {argument: ODD[odd]}
    with pytest.raises(c.InputError) as raised:
        function(**arguments)
    assert len(str(raised.value)) < 600
    assert ": " in str(raised.value)


def test_there_are_many():
    assert len(CASES) > 200
