"""Kernels prepared once: the same as those given each time, in value and gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from crfrnn_jax import (
    GaussianKernel,
    InputError,
    bilateral_kernel,
    free_energy,
    labelling_energy,
    mean_field,
    mean_field_until,
    normalised_filter,
    prepare_kernel,
    spatial_kernel,
)

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 4, 5, 3
IMAGE = RNG.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
MASK = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 5 > 0


def kernels(normalisation="after", method="lattice"):
    spatial_method = "separable" if method == "exact" else method
    options = {"normalisation": normalisation}
    return (
        spatial_kernel((HEIGHT, WIDTH), 1.5, method=spatial_method, **options),
        bilateral_kernel(IMAGE, 3.0, 60.0, method=method, **options),
    )


@pytest.mark.parametrize(
    ("normalisation", "method", "mask"),
    [
        ("none", "lattice", MASK),
        ("before", "exact", None),
        ("after", "exact", MASK),
        ("symmetric", "lattice", None),
    ],
)
def test_inference_is_the_same(normalisation, method, mask):
    given = kernels(normalisation, method)
    prepared = [prepare_kernel(kernel, mask) for kernel in given]
    truth = mean_field(LOGITS, given, mask=mask)
    assert np.abs(truth - LOGITS).max() > 0.5
    # The same sums; fused otherwise, they round otherwise.
    np.testing.assert_allclose(
        mean_field(LOGITS, prepared, mask=mask), truth, rtol=1e-5, atol=1e-5
    )


def test_one_serves_other_logits_and_weights():
    prepared = prepare_kernel(kernels()[1])
    other = RNG.normal(size=LOGITS.shape).astype(np.float32)
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    np.testing.assert_allclose(
        mean_field(other, [dataclasses.replace(prepared, weights=weights)]),
        mean_field(other, [dataclasses.replace(kernels()[1], weights=weights)]),
        rtol=1e-5,
        atol=1e-5,
    )


def test_they_go_through_jit_and_loops_and_compile_once():
    compilations = 0

    @jax.jit
    def infer(logits, prepared):
        nonlocal compilations
        compilations += 1
        return lax.map(lambda item: mean_field(item, prepared), logits)

    batch = np.stack([LOGITS, 2 * LOGITS])
    for theta in (3.0, 4.0):
        given = [bilateral_kernel(IMAGE, theta, 60.0)]
        prepared = [prepare_kernel(kernel) for kernel in given]
        truth = [mean_field(item, given) for item in batch]
        np.testing.assert_allclose(
            infer(batch, prepared), np.stack(truth), rtol=1e-5, atol=1e-5
        )
    assert compilations == 1


@pytest.mark.parametrize("method", ["lattice", "exact"])
def test_gradients_go_through_preparation(method):
    def loss_of(prepare, width, image, weights):
        kernel = bilateral_kernel(
            image, 3.0, width, weights=weights, method=method, normalisation="symmetric"
        )
        refined = mean_field(LOGITS, [prepare(kernel)], num_iterations=2)
        return jnp.sum(refined**2)

    arguments = jnp.float32(60), IMAGE, np.array([1.0, 2.0, 3.0], np.float32)
    truth, ours = (
        jax.grad(loss_of, argnums=(1, 2, 3))(prepare, *arguments)
        for prepare in (lambda kernel: kernel, prepare_kernel)
    )
    for one, other in zip(truth, ours, strict=True):
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_energies_and_convergence_take_them():
    given = kernels("symmetric", "exact")
    prepared = [prepare_kernel(kernel) for kernel in given]
    labels = LOGITS.argmax(-1)
    for energy, first in ((labelling_energy, labels), (free_energy, 2 * LOGITS)):
        np.testing.assert_allclose(
            energy(first, LOGITS, prepared), energy(first, LOGITS, given), rtol=1e-5
        )
    with pytest.raises(InputError, match=r"kernels\[0\]\.normalisation: expected"):
        free_energy(LOGITS, LOGITS, [prepare_kernel(kernels("after")[0])])
    one, other = (mean_field_until(LOGITS, given) for given in (given, prepared))
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-4, atol=1e-4)


def test_filters_are_pytrees():
    filter_values = normalised_filter(kernels()[1])
    values = LOGITS.reshape(-1, LABELS)
    through = jax.jit(lambda f, values: f(values))(filter_values, values)
    np.testing.assert_allclose(through, filter_values(values), rtol=1e-6)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(filter_values))


PREPARED = prepare_kernel(kernels("after", "exact")[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prepare_kernel(PREPARED), "kernel: expected GaussianKernel, got Pre"),
        (lambda: prepare_kernel(IMAGE), "kernel: expected GaussianKernel"),
        (
            lambda: prepare_kernel(GaussianKernel(IMAGE)),
            r"kernel\.features: expected shape",
        ),
        (lambda: prepare_kernel(kernels()[0], MASK[1:]), "mask: expected"),
        (lambda: prepare_kernel(kernels()[0], MASK * 1.0), "mask: expected"),
        (lambda: prepare_kernel(kernels()[0], "all"), "mask: expected"),
        (lambda: normalised_filter(PREPARED), "kernel: expected GaussianKernel"),
        (
            lambda: mean_field(LOGITS[1:], [PREPARED]),
            r"kernels\[0\].*: expected as many points as the logits .* 15, got 20",
        ),
        (
            lambda: mean_field(LOGITS, [PREPARED], mask=MASK),
            r"mask: expected the one with which kernels\[0\] was prepared, none, got",
        ),
        (
            lambda: mean_field(LOGITS, [prepare_kernel(kernels()[0], MASK)]),
            r"mask: expected the one with which kernels\[0\] was prepared, one, got no",
        ),
        (
            lambda: mean_field(
                LOGITS, [prepare_kernel(kernels()[0], MASK)], mask=~MASK
            ),
            r"mask: expected the one with which kernels\[0\] was prepared, one, got an",
        ),
        (
            lambda: mean_field(
                LOGITS, [dataclasses.replace(PREPARED, weights=np.ones(2, np.float32))]
            ),
            r"kernels\[0\]\.weights: expected one of the shapes",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
