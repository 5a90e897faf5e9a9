"""The exact filter against a dense matrix, in memory that stays small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from oracles import central_difference, dense_filter

from crfrnn_jax import exact, exact_filter, separable_filter, spatial_features

POINTS = 130
RNG = np.random.default_rng(0)
FEATURES = (2 * RNG.normal(size=(POINTS, 3))).astype(np.float32)
VALUES = RNG.normal(size=(POINTS, 4)).astype(np.float32)


def assert_dense(filtered, features=FEATURES, values=VALUES):
    """To a millionth of the largest: float32 sums of terms of both signs."""
    truth = dense_filter(features, values)
    assert filtered.dtype == values.dtype
    np.testing.assert_allclose(filtered, truth, atol=2e-6 * np.abs(truth).max())


def test_filter_is_the_dense_kernels():
    assert_dense(exact_filter(FEATURES, VALUES))


def test_filter_of_one_point_is_its_value():
    np.testing.assert_array_equal(exact_filter(FEATURES[:1], VALUES[:1]), VALUES[:1])


def test_features_far_from_the_origin_lose_nothing():
    """Distances are taken between points, not expanded to |x|^2 - 2xy + |y|^2."""
    features = np.round(FEATURES * 64) / np.float32(64) + np.float32(1e4)
    assert_dense(exact_filter(features, VALUES), features)


@pytest.mark.parametrize("points_a_block", [1, 32, 65, 129, 130, 1000])
def test_blocks_of_any_size_give_the_same(monkeypatch, points_a_block):
    monkeypatch.setattr(exact, "_BLOCK_ENTRIES", points_a_block * POINTS)
    assert_dense(jax.jit(exact._exact_filter.__wrapped__)(FEATURES, VALUES))


def test_derivative_by_the_values_is_the_filter_itself():
    _, transpose = jax.vjp(lambda v: exact_filter(FEATURES, v), VALUES)
    (cotangent,) = transpose(jnp.asarray(VALUES[::-1]))
    assert_dense(cotangent, values=VALUES[::-1])


@pytest.mark.parametrize("points_a_block", [32, 1000])
@pytest.mark.parametrize("argument", [0, 1])
def test_gradients_are_central_differences(monkeypatch, argument, points_a_block):
    monkeypatch.setattr(exact, "_BLOCK_ENTRIES", points_a_block * POINTS)
    arguments = [FEATURES.astype(np.float64), VALUES.astype(np.float64)]
    direction = np.random.default_rng(1).normal(size=arguments[argument].shape)

    @jax.jit
    def loss(features, values):
        return jnp.sum(exact._exact_filter.__wrapped__(features, values) ** 2)

    def of_one(x):
        return loss(*arguments[:argument], x, *arguments[argument + 1 :])

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(loss, argument))(*arguments)
        slope = central_difference(of_one, arguments[argument], direction, 1e-6)
    np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-7)


def test_vmap_is_a_loop():
    features = np.stack([FEATURES, 2 * FEATURES])
    values = np.stack([VALUES, VALUES[::-1]])
    for filtered, f, v in zip(
        jax.vmap(exact_filter)(features, values), features, values, strict=True
    ):
        assert_dense(filtered, f, v)


def test_filter_does_not_depend_on_the_64_bit_mode():
    with jax.enable_x64(True):
        on = exact_filter(FEATURES, VALUES)
    assert on.dtype == jnp.float32
    np.testing.assert_allclose(on, exact_filter(FEATURES, VALUES), rtol=1e-6)


def array_sizes(jaxpr):
    """Sizes of all results computed in a jaxpr and the jaxprs inside it."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from array_sizes(inner)


@pytest.mark.parametrize("function", ["filter", "gradient"])
def test_no_array_grows_with_the_square_of_the_points(function):
    """100 000 points make a kernel of 10^10 entries; a block has 4 million, times d."""
    points, d, channels = 100_000, 5, 2
    features = jax.ShapeDtypeStruct((points, d), jnp.float32)
    values = jax.ShapeDtypeStruct((points, channels), jnp.float32)

    def loss(features, values):
        return jnp.sum(exact_filter(features, values))

    traced = exact_filter if function == "filter" else jax.grad(loss, argnums=(0, 1))
    jaxpr = jax.make_jaxpr(traced)(features, values).jaxpr
    largest = max(array_sizes(jaxpr))
    assert points * d <= largest <= exact._BLOCK_ENTRIES * d


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_never_filter_to_numbers(bad):
    features = FEATURES.copy()
    features[17, 1] = bad
    filtered = exact_filter(features, VALUES)
    assert np.isnan(filtered[17]).all()
    if np.isnan(bad):
        assert np.isnan(filtered).all()


@pytest.mark.parametrize(
    ("features", "values", "message"),
    [
        (FEATURES[0], VALUES, r"features: expected shape \[points, d\], got \[3\]"),
        (FEATURES, VALUES[0], r"values: expected shape \[points=130, .*got \[4\]"),
        (FEATURES, VALUES[:9], r"values: expected shape \[points=130, .*got \[9, 4\]"),
        (FEATURES[:, :0], VALUES, r"features: axis 'd' is empty, got shape \[130, 0\]"),
        (FEATURES.astype(int), VALUES, r"features: expected floating.*got dtype int"),
        (FEATURES, VALUES.astype(int), r"values: expected floating.*got dtype int"),
    ],
)
def test_bad_arguments_raise(features, values, message):
    with pytest.raises(ValueError, match=message):
        exact_filter(features, values)


# The positions of an image's pixels


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (9, 14)])
@pytest.mark.parametrize("theta", [0.3, 2.5, 40.0])
def test_separable_filter_is_the_exact_one_of_the_positions(shape, theta):
    values = RNG.normal(size=(shape[0] * shape[1], 3)).astype(np.float32)
    features = np.asarray(spatial_features(shape, np.float32(theta)), np.float64)
    assert_dense(separable_filter(shape, theta, values), features, values)


def test_separable_filter_under_vmap_is_a_loop():
    shape, thetas = (4, 5), np.float32([0.7, 3.0])
    values = RNG.normal(size=(2, 20, 3)).astype(np.float32)
    together = jax.vmap(lambda t, v: separable_filter(shape, t, v))(thetas, values)
    for ours, theta, of_item in zip(together, thetas, values, strict=True):
        alone = separable_filter(shape, theta, of_item)
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-6)


def test_separable_filter_sums_half_precision_in_single():
    """400 ones under a kernel that is nearly flat: bfloat16 would stop at 256."""
    ones = jnp.ones((400, 1), jnp.bfloat16)
    filtered = separable_filter((20, 20), 1e4, ones)
    assert filtered.dtype == jnp.bfloat16
    np.testing.assert_allclose(filtered.astype(np.float32), 400, rtol=2**-8)


def test_separable_filter_is_differentiable_in_width_and_values():
    shape, theta = (5, 6), np.float64(1.7)
    values = RNG.normal(size=(30, 2))
    weights = RNG.normal(size=(30, 2))

    def loss(theta, values):
        return jnp.sum(weights * separable_filter(shape, theta, values))

    with jax.enable_x64(True):
        gradients = jax.grad(loss, (0, 1))(theta, values)
        slope = central_difference(lambda t: loss(t, values), theta, 1.0, 1e-5)
        np.testing.assert_allclose(gradients[0], slope, rtol=1e-7)
        # The kernel is symmetric.
        transposed = separable_filter(shape, theta, weights)
        np.testing.assert_allclose(gradients[1], transposed, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (10, 0)}, r"shape: expected \(height, width\), .*got \(10, 0\)"),
        ({"theta_gamma": -1.0}, r"theta_gamma: expected a positive .*got -1"),
        (
            {"values": np.ones((9, 3))},
            r"values: expected shape \[points=10, channels\]",
        ),
        ({"values": np.ones((10, 3), int)}, r"values: expected floating-point values"),
    ],
)
def test_bad_arguments_of_the_separable_filter_raise(changes, message):
    arguments = {"shape": (2, 5), "theta_gamma": 3.0, "values": np.ones((10, 3))}
    with pytest.raises(ValueError, match=message):
        separable_filter(**(arguments | changes))
