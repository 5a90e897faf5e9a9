"""Arguments of the mean field that are wrong are named."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_crf import CASE, HEIGHT, LABELS, WIDTH

from crfrnn_jax import (
    GaussianKernel,
    crf_rnn,
    init_crf_params,
    mean_field_step,
    normalised_filter,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": np.ones((HEIGHT, WIDTH))},
            r"image: expected shape \[height, width, channels\], got \[6, 7\]",
        ),
        (
            {"image": np.ones((HEIGHT, WIDTH, 0))},
            r"image: axis 'channels' is empty, got shape \[6, 7, 0\]",
        ),
        (
            {"logits": np.ones((HEIGHT, LABELS))},
            r"logits: expected shape \[height=6, width=7, labels\], got \[6, 3\]",
        ),
        (
            {"logits": np.ones((WIDTH, HEIGHT, LABELS))},
            r"logits: expected shape \[height=6, width=7, labels\], got \[7, 6, 3\]",
        ),
        (
            {"image": np.ones((2, HEIGHT, WIDTH, 3))},
            r"logits: expected shape \[batch=2, height=6, .*labels\], got \[6, 7, 3\]",
        ),
        (
            {"logits": np.ones((1, HEIGHT, WIDTH, LABELS))},
            r"logits: expected shape \[height=6, width=7, .*, got \[1, 6, 7, 3\]",
        ),
        (
            {
                "image": np.ones((2, HEIGHT, WIDTH, 3)),
                "logits": np.ones((2, HEIGHT, WIDTH, LABELS)),
                "mask": np.ones((HEIGHT, WIDTH), bool),
            },
            r"mask: expected shape \[batch=2, height=6, width=7\], got \[6, 7\]",
        ),
        (
            {"logits": np.ones((HEIGHT, WIDTH, LABELS), int)},
            r"logits: expected floating-point values, got dtype int",
        ),
        (
            {"params": init_crf_params(4)},
            r"params\.spatial_weights: expected shape .*labels=3.*got \[4, 4\]",
        ),
        (
            {"params": CASE[2]._replace(bilateral_weights=np.ones(LABELS))},
            r"params\.bilateral_weights: expected shape .*labels=3.*got \[3\]",
        ),
        (
            {"params": CASE[2]._replace(compatibility=np.eye(LABELS, dtype=int))},
            r"params\.compatibility: expected floating-point .*got dtype int",
        ),
        ({"theta_alpha": 0.0}, "theta_alpha: expected a positive finite .*got 0.0"),
        ({"theta_beta": -3}, "theta_beta: expected a positive finite .*got -3"),
        ({"theta_gamma": np.nan}, "theta_gamma: expected a positive .*got nan"),
        ({"theta_gamma": np.ones(2)}, r"theta_gamma: expected one number, .*\[2\]"),
        ({"num_iterations": -1}, "num_iterations: expected at least 0, got -1"),
        ({"num_iterations": 2.0}, r"num_iterations: expected an integer, got 2\.0"),
        ({"method": "dense"}, r"method: expected one of .*'exact'.*got 'dense'"),
        (
            {"spatial_method": "fast"},
            r"spatial_method: expected one of .*'separable'.*got 'fast'",
        ),
        ({"spatial_method": ""}, r"spatial_method: expected one of .*got ''"),
    ],
)
def test_bad_arguments_raise(changes, message):
    image, logits, params = CASE
    arguments = {"image": image, "logits": logits, "params": params} | changes
    with pytest.raises(ValueError, match=message):
        crf_rnn(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unary": np.ones((1, LABELS))}, r"current: expected shape \[points=1,"),
        ({"unary": np.ones((4, 1))}, r"current: expected shape .*labels=1\], got"),
        ({"unary": np.ones(4)}, r"unary: expected shape \[points, labels\], got \[4\]"),
        ({"unary": np.ones((4, LABELS), int)}, r"unary: expected floating-point"),
        ({"current": np.ones((4, LABELS), int)}, r"current: expected floating-point"),
        (
            {"mixings": [np.eye(LABELS)]},
            r"mixings: expected one for each filter, 2, got 1",
        ),
        (
            {"mixings": [np.eye(LABELS), np.ones((1, LABELS))]},
            r"mixings\[1\]: expected shape \[labels=3, labels'=3\], got \[1, 3\]",
        ),
        (
            {"mixings": [np.eye(LABELS, dtype=int)] * 2},
            r"mixings\[0\]: expected floating-point values, got dtype int",
        ),
    ],
)
def test_bad_arguments_of_a_step_raise(changes, message):
    logits = np.ones((4, LABELS), np.float32)
    mixings = [np.eye(LABELS, dtype=np.float32)] * 2
    arguments = {"current": logits, "unary": logits, "mixings": mixings} | changes

    def identity(values, mixing=None, /):
        return values if mixing is None else jnp.matmul(values, mixing.T)

    with pytest.raises(ValueError, match=message):
        mean_field_step(**arguments, filters=[identity, identity])


def test_unknown_methods_of_a_filter_raise():
    with pytest.raises(
        ValueError, match=r"kernel\.method: expected one of .*got 'fast'"
    ):
        normalised_filter(GaussianKernel(np.ones((4, 2)), method="fast"))


@pytest.mark.parametrize("num_labels", [0, -2, 3.0])
def test_bad_numbers_of_labels_raise(num_labels):
    with pytest.raises(ValueError, match=f"num_labels: expected .*got {num_labels}"):
        init_crf_params(num_labels)
