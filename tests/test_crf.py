"""The mean field against a label-by-label reference, and its symmetries.

What the lattice does is tested in its own modules, so what follows from the mean field
alone is tested with the exact filter, which compiles ten times faster.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from oracles import crf, softmax

from crfrnn_jax import (
    CRFParams,
    GaussianKernel,
    bilateral_features,
    crf_rnn,
    init_crf_params,
    mean_field_step,
    normalised_filter,
    spatial_features,
)
from crfrnn_jax.crf import _crf_rnn

HEIGHT, WIDTH, LABELS = 6, 7, 3
# Not round: where x = 0 and y is a multiple of the width, a pixel lies between
# simplices, and the vertices around it would change with the width.
THETAS = {"theta_alpha": 4.7, "theta_beta": 60.0, "theta_gamma": 2.3}
METHODS = ["lattice", "exact"]


def random_case(seed=0, dtype=np.float32):
    """An image, logits and parameters without any symmetry."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(dtype)
    logits = rng.normal(size=(HEIGHT, WIDTH, LABELS)).astype(dtype)
    square = (3, LABELS, LABELS)
    params = CRFParams(*rng.normal(size=square).astype(dtype))
    return image, logits, params


CASE = random_case()


def assert_marginals_close(one, other, **tolerance):
    np.testing.assert_allclose(
        softmax(np.asarray(one, np.float64)),
        softmax(np.asarray(other, np.float64)),
        **tolerance,
    )


@pytest.mark.parametrize("method", METHODS)
def test_inference_is_the_references(method):
    """Logits of order ten after five float32 iterations, each to a few millionths."""
    refined = crf_rnn(*CASE, **THETAS, method=method)
    assert refined.dtype == jnp.float32
    truth = crf(*CASE, THETAS.values(), 5, method)
    assert np.abs(truth - CASE[1]).max() > 0.5
    np.testing.assert_allclose(refined, truth, atol=1e-4)


def test_inference_with_the_authors_parameters_is_the_references():
    """And their default widths; the lattice is compiled for these shapes already."""
    image, logits, _ = CASE
    params = init_crf_params(LABELS)
    truth = crf(image, logits, params, (160, 3, 3), 5, "lattice")
    np.testing.assert_allclose(crf_rnn(image, logits, params), truth, atol=1e-4)


def test_the_separable_spatial_kernel_is_the_exact_one():
    separable = crf_rnn(*CASE, **THETAS, method="exact", spatial_method="separable")
    truth = crf(*CASE, THETAS.values(), 5, "exact")
    np.testing.assert_allclose(separable, truth, atol=1e-4)


def test_each_kernel_has_its_own_method():
    """The bilateral one alone on the lattice: neither what both nor what none give."""
    mixed = crf_rnn(*CASE, **THETAS, spatial_method="separable")
    for method in METHODS:
        both = crf_rnn(*CASE, **THETAS, method=method)
        assert 1e-3 < np.abs(mixed - both).max() < 1


def test_initial_parameters_are_the_authors():
    params = init_crf_params(3)
    assert params._fields == ("spatial_weights", "bilateral_weights", "compatibility")
    for matrix, scale in zip(params, (3, 5, -1), strict=True):
        np.testing.assert_array_equal(matrix, scale * np.eye(3))
        assert matrix.dtype == jnp.float32


@pytest.mark.parametrize("num_iterations", [1, 10])
def test_any_number_of_iterations_is_the_references(num_iterations):
    options = THETAS | {"num_iterations": num_iterations, "method": "exact"}
    truth = crf(*CASE, THETAS.values(), num_iterations, "exact")
    np.testing.assert_allclose(crf_rnn(*CASE, **options), truth, atol=1e-4)


def test_no_iterations_return_the_logits():
    unchanged = crf_rnn(*CASE, num_iterations=0, method="exact")
    np.testing.assert_array_equal(unchanged, CASE[1])


def test_iterations_are_steps():
    image, logits, params = CASE
    features = (
        spatial_features((HEIGHT, WIDTH), THETAS["theta_gamma"]),
        bilateral_features(image, THETAS["theta_alpha"], THETAS["theta_beta"]),
    )
    filters = [normalised_filter(GaussianKernel(f, method="exact")) for f in features]
    weights = params.spatial_weights, params.bilateral_weights
    mixings = [params.compatibility @ matrix for matrix in weights]
    unary = current = jnp.asarray(logits).reshape(-1, LABELS)
    for num_iterations in (1, 2):
        previous = current
        current = mean_field_step(current, unary, filters, mixings)
        assert np.abs(current - previous).max() > 1e-2
        refined = crf_rnn(
            *CASE, **THETAS, num_iterations=num_iterations, method="exact"
        )
        np.testing.assert_allclose(
            refined.reshape(-1, LABELS), current, rtol=1e-4, atol=1e-5
        )


def test_normalised_filters_keep_constants():
    features = bilateral_features(CASE[0], THETAS["theta_alpha"], THETAS["theta_beta"])
    constant = np.full((HEIGHT * WIDTH, 2), 0.3, np.float32)
    kernel = GaussianKernel(features, method="exact")
    filtered = jax.jit(normalised_filter(kernel))(constant)
    np.testing.assert_allclose(filtered, constant, rtol=1e-5)


# Symmetries


def test_a_constant_per_pixel_changes_no_marginal():
    image, logits, params = CASE
    constant = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, 1)) * 5
    shifted = crf_rnn(
        image, logits + constant.astype(np.float32), params, **THETAS, method="exact"
    )
    refined = crf_rnn(*CASE, **THETAS, method="exact")
    assert np.abs(shifted - refined).max() > 1
    assert_marginals_close(shifted, refined, atol=1e-5)


def test_minus_the_identity_is_potts():
    image, logits, params = CASE
    identity = np.eye(LABELS, dtype=np.float32)
    authors, potts = (
        crf_rnn(
            image, logits, params._replace(compatibility=c), **THETAS, method="exact"
        )
        for c in (-identity, 1 - identity)
    )
    # The two differ by the sum of the messages, the same for every label only where
    # the marginals are weighted evenly, as with the authors' initial weights.
    assert np.abs(authors - potts).max() > 1e-2
    assert_marginals_close(authors, potts, atol=1e-5)


def test_labels_are_interchangeable():
    image, logits, params = CASE
    order = np.array([2, 0, 1])
    permuted = CRFParams(*(matrix[np.ix_(order, order)] for matrix in params))
    refined = crf_rnn(*CASE, **THETAS, method="exact")
    np.testing.assert_allclose(
        crf_rnn(image, logits[..., order], permuted, **THETAS, method="exact"),
        refined[..., order],
        atol=1e-5,
    )


def test_mirrored_images_give_mirrored_results():
    """So x and y, height and width are told apart; distances alone count."""
    image, logits, params = CASE
    refined = crf_rnn(*CASE, **THETAS, method="exact")
    for axis in (0, 1):
        mirrored = crf_rnn(
            np.flip(image, axis),
            np.flip(logits, axis),
            params,
            **THETAS,
            method="exact",
        )
        np.testing.assert_allclose(mirrored, np.flip(refined, axis), atol=1e-5)
    turned = crf_rnn(
        image.swapaxes(0, 1), logits.swapaxes(0, 1), params, **THETAS, method="exact"
    )
    np.testing.assert_allclose(turned, refined.swapaxes(0, 1), atol=1e-5)


# Dtypes


def test_uint8_images_are_the_same_as_float_images():
    image, logits, params = CASE
    image = image.astype(np.uint8)
    results = [
        crf_rnn(image.astype(dtype), logits, params, **THETAS, method="exact")
        for dtype in (np.float32, np.uint8, np.int32)
    ]
    assert np.abs(results[0] - logits).max() > 0.5
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_logits_of_half_precision_give_float32(dtype):
    image, logits, params = CASE
    half = jnp.asarray(logits, dtype)
    refined = crf_rnn(image, half, params, **THETAS, method="exact")
    assert refined.dtype == jnp.float32
    rounded = crf_rnn(image, half.astype(jnp.float32), params, **THETAS, method="exact")
    np.testing.assert_array_equal(refined, rounded)


def test_inference_does_not_depend_on_the_64_bit_mode():
    off = crf_rnn(*CASE, **THETAS, method="exact")
    with jax.enable_x64(True):
        on = crf_rnn(*CASE, **THETAS, method="exact")
    assert on.dtype == off.dtype == jnp.float32
    np.testing.assert_allclose(on, off, rtol=1e-5, atol=1e-5)


# Transformations


def test_jit_and_vmap_are_a_loop():
    """One compilation for both: a batch of images, each with a lattice of its own."""
    image, logits, params = CASE
    images = np.stack([image, 0 * image])
    both = np.stack([logits, logits[::-1]])

    @jax.jit
    def refine(images, logits):
        return jax.vmap(lambda i, u: crf_rnn(i, u, params, **THETAS))(images, logits)

    for refined, *inputs in zip(refine(images, both), images, both, strict=True):
        alone = crf_rnn(*inputs, params, **THETAS)
        np.testing.assert_allclose(refined, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_jit_is_eager(method):
    with jax.disable_jit():
        eager = crf_rnn(*CASE, **THETAS, num_iterations=1, method=method)
    jitted = crf_rnn(*CASE, **THETAS, num_iterations=1, method=method)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-5)


def test_other_values_do_not_compile_again():
    image, logits, params = CASE
    crf_rnn(*CASE, **THETAS, method="exact")
    compiled = _crf_rnn._cache_size()
    wider = {name: 2 * theta for name, theta in THETAS.items()}
    doubled = CRFParams(*(2 * matrix for matrix in params))
    refined = crf_rnn(image / 2, 2 * logits, doubled, **wider, method="exact")
    assert np.isfinite(refined).all()
    assert _crf_rnn._cache_size() == compiled
    crf_rnn(image[:-1], logits[:-1], params, **THETAS, method="exact")
    assert _crf_rnn._cache_size() == compiled + 1


def equations_of(jaxpr):
    """Every equation, in the loops and branches too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations_of(inner)


def test_memory_grows_with_the_pixels_not_with_their_square():
    """Nothing of N x N or N x vertices: the most are 3 (d + 1)^2 N indices."""
    height, width = 64, 128
    image = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
    logits = jax.ShapeDtypeStruct((height, width, LABELS), jnp.float32)
    params = CASE[2]

    def gradient(image, logits):
        return jax.grad(lambda *x: jnp.sum(crf_rnn(*x, params)), (0, 1))(image, logits)

    jaxpr = jax.make_jaxpr(gradient)(image, logits)
    sizes = [
        np.prod(getattr(variable.aval, "shape", ()), dtype=int)
        for equation in equations_of(jaxpr.jaxpr)
        for variable in equation.outvars
    ]
    assert max(sizes) >= height * width * LABELS
    assert max(sizes) < 110 * height * width


@pytest.mark.parametrize("method", METHODS)
def test_reverse_mode_keeps_one_label_map_for_each_iteration(method):
    image, logits, params = CASE
    num_iterations = 7

    def loss(logits, params):
        options = THETAS | {"num_iterations": num_iterations, "method": method}
        return jnp.sum(crf_rnn(image, logits, params, **options))

    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(jnp.asarray(logits), params)
    loops = [
        equation
        for equation in equations_of(jaxpr.jaxpr)
        if equation.primitive.name == "scan"
        and equation.params["length"] == num_iterations
    ]
    forwards, backwards = sorted(loops, key=lambda loop: loop.params["reverse"])
    assert backwards.params["reverse"]
    last, *kept = (variable.aval.shape for variable in forwards.outvars)
    assert last == (HEIGHT * WIDTH, LABELS)
    assert kept == [(num_iterations, *last)]


# Inputs that are not finite


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["image", "logits"])
@pytest.mark.parametrize("method", METHODS)
def test_pixels_that_are_not_finite_never_get_a_number(method, where, bad):
    image, logits, params = random_case()
    (image if where == "image" else logits)[2, 3, 1] = bad
    refined = crf_rnn(image, logits, params, **THETAS, method=method)
    assert refined.shape == logits.shape
    assert np.isnan(refined[2, 3]).all()
