"""The filter's transpose and derivatives, in forward and in reverse mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice, central_difference
from test_filtering import VALUES, relative_error
from test_lattice import features_of

from crfrnn_jax import build_lattice, filter_lattice


@pytest.mark.parametrize("d", [1, 4, 5])
def test_derivative_by_the_values_is_the_filter_with_the_axes_reversed(d):
    features = features_of("spread", d)
    lattice, oracle = build_lattice(features), DictLattice(features)
    _, transpose = jax.vjp(lambda v: filter_lattice(lattice, v), VALUES)
    (cotangent,) = transpose(jnp.asarray(VALUES[::-1]))
    reversed_order = oracle.filter(VALUES[::-1], reverse=True)
    assert relative_error(cotangent, reversed_order) < 1e-5
    if d > 1:  # The order matters, or this test could not fail.
        assert relative_error(oracle.filter(VALUES[::-1]), reversed_order) > 1e-3


def test_transpose_is_adjoint():
    lattice = build_lattice(features_of("spread", 5))
    other = VALUES[::-1]
    filtered, transpose = jax.vjp(lambda v: filter_lattice(lattice, v), VALUES)
    (cotangent,) = transpose(jnp.asarray(other))
    np.testing.assert_allclose(
        np.vdot(filtered, other), np.vdot(VALUES, cotangent), rtol=1e-4
    )


def test_filter_can_be_transposed_as_a_linear_function():
    """As solvers do that know a function and not its derivative."""
    features = features_of("spread", 3)
    lattice = build_lattice(features)
    transpose = jax.linear_transpose(partial(filter_lattice, lattice), VALUES)
    (ours,) = transpose(jnp.asarray(VALUES))
    truth = DictLattice(features).filter(VALUES, reverse=True)
    assert relative_error(ours, truth) < 1e-5


def test_filter_is_linear_and_its_own_derivative():
    lattice = build_lattice(features_of("spread", 4))
    x, y = VALUES, VALUES[::-1]
    filtered, tangent = jax.jvp(lambda v: filter_lattice(lattice, v), (x,), (y,))
    of_y = filter_lattice(lattice, y)
    np.testing.assert_allclose(tangent, of_y, rtol=1e-5, atol=1e-6)
    of_sum = filter_lattice(lattice, 2 * x - 3 * y)
    np.testing.assert_allclose(of_sum, 2 * filtered - 3 * of_y, rtol=1e-4, atol=1e-5)


def energy(features, values):
    """Half as much again for the first channel, lest the two be alike."""
    filtered = filter_lattice(build_lattice(features), values)
    return jnp.sum(filtered**2) + 0.5 * jnp.sum(filtered[:, 0] ** 2)


energy_gradient = jax.jit(jax.value_and_grad(energy, argnums=(0, 1)))


def energy_gradient64(features, values):
    with jax.enable_x64(True):
        energy, gradients = energy_gradient(features, values)
    assert energy.dtype == np.float64
    return energy, gradients


RNG64 = np.random.default_rng(5)
ARGUMENTS64 = 2 * RNG64.normal(size=(40, 3)), RNG64.normal(size=(40, 2))


@pytest.mark.parametrize("argument", [0, 1])
def test_gradients_are_central_differences(argument):
    """Steps of 1e-6 leave errors near 1e-9; no point is so close to another simplex."""
    _, gradients = energy_gradient64(*ARGUMENTS64)
    rng = np.random.default_rng(6)

    def of_one(x):
        changed = list(ARGUMENTS64)
        changed[argument] = x
        return energy_gradient64(*changed)[0]

    for _ in range(3):
        direction = rng.normal(size=ARGUMENTS64[argument].shape)
        slope = central_difference(of_one, ARGUMENTS64[argument], direction, 1e-6)
        np.testing.assert_allclose(
            np.vdot(gradients[argument], direction), slope, rtol=1e-6
        )


def test_second_derivatives_by_the_values_are_those_of_a_quadratic():
    """The energy is a quadratic of the values: its second derivative its own energy."""
    features = features_of("spread", 3)
    lattice = build_lattice(features)

    def half_energy(values):
        return 0.5 * jnp.vdot(values, filter_lattice(lattice, values))

    direction = VALUES[::-1]
    _, curvature = jax.jvp(jax.grad(half_energy), (VALUES,), (direction,))
    oracle = DictLattice(features)
    truth = (oracle.filter(direction) + oracle.filter(direction, reverse=True)) / 2
    assert relative_error(curvature, truth) < 1e-5


@pytest.mark.parametrize(("inner", "outer"), [(0, 0), (0, 1), (1, 0)])
def test_second_derivatives_by_the_features_raise(inner, outer):
    """Rather than to leave out a part."""

    def squared_gradient(*arguments):
        return jnp.sum(jax.grad(energy, argnums=inner)(*arguments) ** 2)

    with pytest.raises(NotImplementedError, match=r"second derivatives .* features"):
        jax.grad(squared_gradient, argnums=outer)(
            features_of("spread", 3)[:40], VALUES[:40, :2]
        )


def test_forward_mode_is_reverse_mode():
    rng = np.random.default_rng(7)
    directions = tuple(rng.normal(size=x.shape) for x in ARGUMENTS64)
    with jax.enable_x64(True):
        _, slope = jax.jvp(energy, ARGUMENTS64, directions)
    _, gradients = energy_gradient64(*ARGUMENTS64)
    expected = sum(np.vdot(g, t) for g, t in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)


def test_gradients_through_vmap_are_those_of_a_loop():
    rng = np.random.default_rng(8)
    features = rng.normal(size=(3, 40, 3)).astype(np.float32)
    features *= np.array([0.1, 1, 10], np.float32)[:, None, None]
    values = rng.normal(size=(3, 40, 2)).astype(np.float32)

    def batch_energy(features, values):
        return jnp.sum(jax.vmap(energy)(features, values))

    batched = jax.jit(jax.grad(batch_energy, argnums=(0, 1)))(features, values)
    for item in range(3):
        _, alone = energy_gradient(features[item], values[item])
        for ours, truth in zip(batched, alone, strict=True):
            assert relative_error(ours[item], np.asarray(truth)) < 1e-5


def test_gradients_do_not_depend_on_the_64_bit_mode():
    features, values = features_of("spread", 3)[:40], VALUES[:40, :2]
    _, off = energy_gradient(features, values)
    with jax.enable_x64(True):
        _, on = energy_gradient(features, values)
    for ours, truth in zip(on, off, strict=True):
        assert ours.dtype == truth.dtype == jnp.float32
        assert relative_error(ours, np.asarray(truth)) < 1e-5
