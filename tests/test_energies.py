"""Energies against sums over all pairs in float64, and what inference does to them."""

from itertools import product

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import softmax
from test_inference import as_matrix
from test_kernels import dense_kernel

from crfrnn_jax import (
    GaussianKernel,
    InputError,
    free_energy,
    labelling_energy,
    map_labels,
    marginal_entropy,
    mean_field_trajectory,
)

RNG = np.random.default_rng(0)
POINTS, LABELS = 5, 3
LOGITS = RNG.normal(size=(POINTS, LABELS)).astype(np.float32)
HALF = RNG.normal(size=(LABELS, LABELS)).astype(np.float32)
SYMMETRIC = HALF + HALF.T


def make_kernels(method="exact", weights=1.3):
    return [
        GaussianKernel(
            RNG.normal(size=(POINTS, d)).astype(np.float32),
            weights=weights,
            normalisation=normalisation,
            method=method,
        )
        for d, normalisation in ((1, "none"), (2, "symmetric"))
    ]


KERNELS = make_kernels()


def pairwise(kernels, compatibility):
    """Of every pair of points and labels, [points, points, labels, labels]."""
    total = np.zeros((POINTS, POINTS, LABELS, LABELS))
    for kernel in kernels:
        matrix = dense_kernel(kernel.features, kernel.widths, kernel.normalisation)
        mixing = as_matrix(compatibility) @ as_matrix(kernel.weights)
        total += matrix[:, :, None, None] * mixing
    return total


def energy_of(labels, kernels, compatibility):
    """Each pair once, each point with itself by half."""
    pairs = pairwise(kernels, compatibility)
    energy = -sum(float(LOGITS[i, label]) for i, label in enumerate(labels))
    for i, j in product(range(POINTS), repeat=2):
        share = 1.0 if i < j else 0.5 if i == j else 0.0
        energy += share * pairs[i, j, labels[i], labels[j]]
    return energy


@pytest.mark.parametrize("compatibility", [-1.0, SYMMETRIC])
def test_energies_of_all_labellings_are_sums_over_pairs(compatibility):
    labellings = np.array(list(product(range(LABELS), repeat=POINTS)))
    ours = jax.vmap(
        lambda labels: labelling_energy(
            labels, LOGITS, KERNELS, compatibility=compatibility
        )
    )(labellings)
    truth = [energy_of(labels, KERNELS, compatibility) for labels in labellings]
    np.testing.assert_allclose(ours, truth, atol=2e-5)


def test_the_free_energy_is_the_expectation_over_all_labellings():
    """By its definition: E_Q[E] - H(Q), the self terms apart, which are not Q's square.

    In E_Q[E] a point agrees with itself; the mean field takes it for two.
    """
    marginal_logits = RNG.normal(size=(POINTS, LABELS)).astype(np.float32)
    marginals = softmax(marginal_logits.astype(np.float64))
    pairs = pairwise(KERNELS, SYMMETRIC)
    truth = 0.0
    for labels in product(range(LABELS), repeat=POINTS):
        q = np.prod([marginals[i, label] for i, label in enumerate(labels)])
        itself = sum(pairs[i, i, label, label] for i, label in enumerate(labels)) / 2
        truth += q * (energy_of(labels, KERNELS, SYMMETRIC) - itself + np.log(q))
    for i in range(POINTS):
        truth += marginals[i] @ pairs[i, i] @ marginals[i] / 2
    ours = free_energy(marginal_logits, LOGITS, KERNELS, compatibility=SYMMETRIC)
    np.testing.assert_allclose(ours, truth, atol=2e-5)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.5))
def test_enough_damping_lowers_the_free_energy_in_every_iteration(seed, weight):
    """Steps of 1 / (1 + |K|) against the gradient, in the geometry of the softmax.

    The quadratic part is |K| smooth, of the largest sum of a row's absolute entries.
    """
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(LABELS, LABELS)).astype(np.float32)
    kernels = [
        GaussianKernel(
            rng.normal(size=(POINTS, d)).astype(np.float32),
            weights=weight,
            normalisation=normalisation,
            method="exact",
        )
        for d, normalisation in ((1, "none"), (2, "symmetric"))
    ]
    compatibility = matrix + matrix.T
    norm = np.abs(pairwise(kernels, compatibility)).sum((1, 3)).max()
    options = {"compatibility": compatibility}
    trajectory = mean_field_trajectory(
        rng.normal(size=(POINTS, LABELS)).astype(np.float32),
        kernels,
        num_iterations=20,
        damping=norm / (1 + norm),
        **options,
    )
    energies = np.array(
        jax.vmap(lambda q: free_energy(q, trajectory[0], kernels, **options))(
            trajectory
        )
    )
    # Sums of a few dozen float32 terms.
    assert np.diff(energies).max() < 1e-5 * (1 + np.abs(energies).max())
    assert energies[-1] < energies[0]


def test_without_damping_it_may_rise():
    """So the test above can fail: two points that repel each other change places."""
    kernels = [
        GaussianKernel(
            np.zeros((2, 1), np.float32),
            weights=8.0,
            method="exact",
            normalisation="none",
        )
    ]
    logits = np.array([[0.1, 0.0], [0.1, 0.0]], np.float32)
    options = {"compatibility": 1.0}
    trajectory = mean_field_trajectory(logits, kernels, num_iterations=4, **options)
    energies = [free_energy(q, logits, kernels, **options) for q in trajectory]
    assert np.diff(energies).max() > 0.1


def test_masked_points_have_no_energy():
    mask = np.array([True, True, False, True, False])
    nowhere = np.where(mask[:, None], LOGITS, np.nan).astype(np.float32)
    labels = np.array([0, 2, 99, 1, -5])
    alone = [
        GaussianKernel(
            kernel.features[mask],
            weights=kernel.weights,
            normalisation=kernel.normalisation,
            method="exact",
        )
        for kernel in KERNELS
    ]
    np.testing.assert_allclose(
        labelling_energy(labels, nowhere, KERNELS, mask=mask),
        labelling_energy(labels[mask], LOGITS[mask], alone),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        free_energy(2 * nowhere, nowhere, KERNELS, mask=mask),
        free_energy(2 * LOGITS[mask], LOGITS[mask], alone),
        rtol=1e-5,
    )


def test_impossible_labels_cost_infinitely_and_others_nothing():
    logits = LOGITS.copy()
    logits[:, 2] = -np.inf
    labels = np.array([0, 1, 0, 1, 0])
    finite = labelling_energy(labels, logits, KERNELS)
    np.testing.assert_allclose(finite, labelling_energy(labels, LOGITS, KERNELS))
    assert labelling_energy(labels + 1, logits, KERNELS) == np.inf
    value, gradient = jax.value_and_grad(free_energy)(logits, logits, KERNELS)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    wide = labelling_energy(labels, np.zeros((POINTS, 300), np.float32), KERNELS)
    narrow = labelling_energy(
        labels.astype(np.uint8), np.zeros((POINTS, 300), np.float32), KERNELS
    )
    np.testing.assert_array_equal(narrow, wide)


def test_map_and_entropy():
    marginal_logits = np.log([[0.2, 0.3, 0.5], [1 / 3] * 3, [1.0, 1e-30, 1e-30]])
    marginal_logits = marginal_logits.astype(np.float32)
    np.testing.assert_array_equal(map_labels(marginal_logits), [2, 0, 0])
    entropy = -(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5))
    np.testing.assert_allclose(
        marginal_entropy(marginal_logits), [entropy, np.log(3), 0], atol=1e-6
    )


def test_nan_is_no_label_and_no_marginal_has_no_entropy():
    with pytest.raises(InputError, match="marginal_logits: expected numbers, got NaN"):
        map_labels(np.array([[0.1, np.nan, 3]], np.float32))
    assert np.isnan(marginal_entropy(np.full((1, 3), -np.inf, np.float32))).all()


def test_entropy_of_double_precision_keeps_it():
    logits = np.array([[0.3, -0.2, 1.1]])
    with jax.enable_x64(True):
        entropy = marginal_entropy(logits)
    assert entropy.dtype == np.float64
    marginals = np.exp(logits) / np.exp(logits).sum()
    truth = -(marginals * np.log(marginals)).sum()
    np.testing.assert_allclose(entropy, [truth], rtol=1e-12)


def test_labels_out_of_range_have_no_number():
    labels = np.array([0, 1, 2, 3, 0])
    assert np.isnan(labelling_energy(labels, LOGITS, KERNELS))
    assert np.isnan(labelling_energy(labels - 1, LOGITS, KERNELS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: labelling_energy(np.zeros(4, int), LOGITS, KERNELS),
            r"labels: expected the points' shape \[5\], got \[4\]",
        ),
        (
            lambda: labelling_energy(np.zeros(5), LOGITS, KERNELS),
            "labels: expected integers, got dtype float",
        ),
        (
            lambda: free_energy(LOGITS[:4], LOGITS, KERNELS),
            r"marginal_logits: expected the logits' shape \[5, 3\], got \[4, 3\]",
        ),
        (
            lambda: free_energy(LOGITS, LOGITS, [GaussianKernel(LOGITS)]),
            r"kernels\[0\]\.normalisation: expected 'none' or 'symmetric'.*'after'",
        ),
        (lambda: map_labels(np.zeros((2, 0))), "marginal_logits: expected shape"),
        (lambda: map_labels(np.zeros(3, int)), "marginal_logits: expected floating"),
        (lambda: marginal_entropy(3.0), "marginal_logits: expected shape"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
