"""Checks name the argument, what was expected and what came."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import checks


def test_check_shape_returns_the_sizes_it_has_seen():
    sizes = checks.check_shape("a", np.ones((2, 3)), "rows columns")
    assert sizes == {"rows": 2, "columns": 3}
    sizes = checks.check_shape("b", np.ones((3, 4)), "columns depth", sizes)
    assert sizes == {"rows": 2, "columns": 3, "depth": 4}


def test_check_shape_leaves_the_given_sizes_alone():
    sizes = {"rows": 2}
    checks.check_shape("a", np.ones((2, 3)), "rows columns", sizes)
    assert sizes == {"rows": 2}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2,), r"a: expected shape \[rows=2, columns\], got \[2\]"),
        ((5, 3), r"a: expected shape \[rows=2, columns\], got \[5, 3\]"),
        ((2, 0), r"a: axis 'columns' is empty, got shape \[2, 0\]"),
    ],
)
def test_check_shape_raises(shape, message):
    with pytest.raises(ValueError, match=message):
        checks.check_shape("a", np.ones(shape), "rows columns", {"rows": 2})


def test_check_shape_sees_the_shape_of_a_tracer():
    with pytest.raises(ValueError, match=r"a: expected shape \[rows\], got \[2, 3\]"):
        jax.eval_shape(lambda a: checks.check_shape("a", a, "rows"), np.ones((2, 3)))


@pytest.mark.parametrize("value", [[1.0, 2.0], None, "cat.png"])
@pytest.mark.parametrize(
    "check",
    [
        lambda value: checks.check_shape("a", value, "rows"),
        lambda value: checks.check_floating("a", value),
        lambda value: checks.check_real("a", value),
    ],
)
def test_what_is_no_array_is_named(check, value):
    with pytest.raises(
        ValueError, match=f"a: expected an array, .*{type(value).__name__}"
    ):
        check(value)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_check_floating_passes_floats(dtype):
    checks.check_floating("a", jnp.ones(3, dtype))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_check_floating_raises(dtype):
    message = rf"a: expected floating-point values, got dtype {dtype}"
    with pytest.raises(ValueError, match=message):
        checks.check_floating("a", np.ones(3, dtype))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(3), jnp.float32(3)])
def test_check_positive_passes_scalars_above_zero(value):
    checks.check_positive("a", value)


@pytest.mark.parametrize("value", [0, -1, -0.0, np.nan, np.inf, jnp.float32(-2)])
def test_check_positive_raises(value):
    with pytest.raises(ValueError, match=r"a: expected a positive finite number, got "):
        checks.check_positive("a", value)


@pytest.mark.parametrize("value", [np.ones(2), [1.0], (1.0, 2.0), "3", None])
def test_check_positive_wants_one_number(value):
    with pytest.raises(ValueError, match="a: expected one number, got "):
        checks.check_positive("a", value)


@pytest.mark.parametrize("value", [1e-50, np.float64(1e-50), 1e39])
def test_check_positive_wants_what_float32_can_hold(value):
    with pytest.raises(ValueError, match="a: expected a positive finite number"):
        checks.check_positive("a", value)


@pytest.mark.parametrize("check", [checks.check_real, checks.check_integers])
def test_integers_of_which_jax_would_drop_bits_are_refused(check):
    check("a", np.array([-(2**31), 2**31 - 1]))
    for value in (2**31, -(2**31) - 1, 2**32):
        with pytest.raises(ValueError, match="a: expected integers of 32 bits, got"):
            check("a", np.array([0, value]))
    with pytest.raises(ValueError, match="a: expected integers of 32 bits, got"):
        check("a", np.uint64(2**32))


def test_numbers_may_be_traced_in_a_tuple():
    @jax.jit
    def stacked(one):
        return checks.as_numbers("a", (one, 2.0, 3))

    np.testing.assert_array_equal(stacked(1.5), [1.5, 2, 3])
    with pytest.raises(ValueError, match="a: expected one number, got 'x'"):
        jax.jit(lambda one: checks.as_numbers("a", (one, "x")))(1.0)


def test_a_boolean_is_no_side():
    with pytest.raises(ValueError, match="a: expected the sides of a grid"):
        checks.check_grid("a", (True, 2))


@pytest.mark.parametrize("value", [1 + 2j, True])
def test_check_positive_wants_a_real_number(value):
    with pytest.raises(ValueError, match="a: expected real numbers, got dtype"):
        checks.check_positive("a", value)


def test_check_keys_names_the_one_that_is_missing():
    checks.check_keys("a", {"one": 1, "two": 2}, ["one"])
    with pytest.raises(ValueError, match=r"a\.two: expected a value, got none"):
        checks.check_keys("a", {"one": 1}, ["one", "two"])


def test_check_positive_lets_unknown_values_pass():
    jax.eval_shape(lambda a: checks.check_positive("a", a), -1.0)


def test_check_at_least_passes_integers_from_the_lowest():
    checks.check_at_least("a", 2, 2)
    checks.check_at_least("a", np.int64(3), 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "a: expected at least 2, got 1"),
        (2.0, r"a: expected an integer, got 2\.0"),
        (True, "a: expected an integer, got True"),
        (None, "a: expected an integer, got None"),
        ("3", "a: expected an integer, got '3'"),
    ],
)
def test_check_at_least_raises(value, message):
    with pytest.raises(ValueError, match=message):
        checks.check_at_least("a", value, 2)


def test_check_choice_names_the_choices():
    checks.check_choice("a", "one", ("one", "two"))
    with pytest.raises(ValueError, match=r"a: .*\('one', 'two'\), got 'three'"):
        checks.check_choice("a", "three", ("one", "two"))
