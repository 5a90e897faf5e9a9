"""Logits out of probabilities and labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crfrnn_jax import InputError, logits_from_probabilities, unary_from_labels


@settings(max_examples=50)
@given(hnp.arrays(np.float32, (7, 4), elements=st.floats(-20, 20, width=32)))
def test_the_softmax_of_the_logits_are_the_probabilities(scores):
    probabilities = np.asarray(jax.nn.softmax(scores))
    again = jax.nn.softmax(logits_from_probabilities(probabilities))
    # Those below 1e-5 were lifted to it, at the others' cost.
    np.testing.assert_allclose(again, probabilities, atol=4e-5)


def test_zeros_become_the_lowest_and_not_infinite():
    logits = logits_from_probabilities(np.array([[1.0, 0.0]]), lowest=1e-3)
    np.testing.assert_allclose(logits, [[0, np.log(1e-3)]], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_of_many_labels_still_adds_up(dtype):
    scores = np.random.default_rng(0).normal(size=(50, 150))
    probabilities = jax.nn.softmax(scores).astype(dtype)
    assert logits_from_probabilities(probabilities).dtype == jnp.float32


@settings(max_examples=50)
@given(
    hnp.arrays(np.int32, hnp.array_shapes(max_dims=3), elements=st.integers(0, 4)),
    st.floats(0.05, 0.95),
)
def test_labels_have_their_confidence_and_the_others_the_rest(labels, confidence):
    unary = unary_from_labels(labels, confidence, 4, unknown=4)
    probabilities = np.exp(np.asarray(unary, np.float64))
    assert probabilities.shape == (*labels.shape, 4)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    known = labels < 4
    of_labels = np.take_along_axis(probabilities[known], labels[known][:, None], 1)
    np.testing.assert_allclose(of_labels, confidence, rtol=1e-5)
    np.testing.assert_allclose(probabilities[~known], 1 / 4, rtol=1e-5)
    is_even = np.abs(probabilities[known] - (1 - confidence) / 3) < 1e-5
    assert (is_even.sum(1) >= 3).all()


def test_every_point_may_have_its_own_confidence():
    unary = unary_from_labels(np.array([0, 1]), np.array([0.6, 0.9]), 2)
    np.testing.assert_allclose(np.exp(unary), [[0.6, 0.4], [0.1, 0.9]], rtol=1e-5)


def test_under_jit_labels_out_of_range_are_nan():
    unary = jax.jit(lambda labels: unary_from_labels(labels, 0.8, 3, unknown=9))
    result = np.asarray(unary(np.array([0, 3, -1, 9])))
    assert np.isnan(result).all(1).tolist() == [False, True, True, False]


def test_labels_of_eight_bits_do_not_wrap():
    labels = np.array([5, 255], np.uint8)
    unary = unary_from_labels(labels, 0.9, 300)
    assert (np.exp(unary) > 0.5).sum(1).tolist() == [1, 1]
    under_jit = jax.jit(lambda labels: unary_from_labels(labels, 0.9, 3, unknown=-1))
    assert np.isnan(under_jit(labels[1:])).all()


LABELS = np.array([0, 1, 2])


def test_double_precision_stays():
    probabilities = np.array([[0.2, 0.3, 0.5]])
    with jax.enable_x64(True):
        logits = logits_from_probabilities(probabilities)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, np.log(probabilities), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: logits_from_probabilities(np.array([[2.0, -1.0]])),
            r"probabilities: expected numbers in 0..1 .*got -1..2 with a sum of 1",
        ),
        (
            lambda: logits_from_probabilities(np.array([[0.3, 0.3]])),
            "probabilities: .*sum of 0.6; if they are scores, give them as logits",
        ),
        (
            lambda: logits_from_probabilities(np.array([[np.nan, 1.0]])),
            "probabilities: expected finite numbers",
        ),
        (lambda: logits_from_probabilities(np.array([1, 0])), "expected floating"),
        (lambda: logits_from_probabilities(0.5), "probabilities: expected shape"),
        (
            lambda: logits_from_probabilities(np.array([0.5, 0.5]), lowest=0),
            "lowest: expected a number of at least .* and below 1, got 0",
        ),
        (lambda: unary_from_labels(LABELS, 0.8, 2), "labels: expected 0..1, got 2"),
        (
            lambda: unary_from_labels(LABELS - 1, 0.8, 3, unknown=7),
            "labels: expected 0..2 or 7, unknown, got -1",
        ),
        (lambda: unary_from_labels(LABELS * 1.0, 0.8, 3), "labels: expected integers"),
        (
            lambda: logits_from_probabilities(np.array([0.5, 0.5]), lowest=1e-50),
            "lowest: expected a number of at least 1.2e-38",
        ),
        (lambda: unary_from_labels(LABELS, 1.0, 3), "confidence: expected at least"),
        (lambda: unary_from_labels(LABELS, 1e-44, 3), "confidence: expected at least"),
        (
            lambda: unary_from_labels(LABELS, 1 - 1e-9, 3),
            "confidence: expected at least",
        ),
        (lambda: unary_from_labels(LABELS, np.ones(2), 3), "confidence: expected a"),
        (lambda: unary_from_labels(LABELS, 0.8, 1), "num_labels: expected at least 2"),
        (
            lambda: unary_from_labels(LABELS, 0.8, 3, unknown=2),
            "unknown: expected a number that is no label, of 3, got 2",
        ),
        (
            lambda: unary_from_labels(LABELS, 0.8, 3, unknown=2**40),
            "unknown: expected integers of 32 bits",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
