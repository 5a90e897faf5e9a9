"""What holds for any image, of any size and kind, degenerate ones included."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crfrnn_jax import mean_field, refine, spatial_kernel

OPTIONS = {"theta_alpha": 4.0, "theta_beta": 30.0, "theta_gamma": 2.0}
DTYPES = {np.uint8: 255, np.uint16: 65535, np.float16: 255, np.float32: 1.0}


def probabilities_of(rng, shape, labels):
    return rng.dirichlet(np.ones(labels), shape).astype(np.float32)


def assert_marginals(marginals):
    assert np.isfinite(marginals).all()
    assert marginals.min() >= 0
    np.testing.assert_allclose(marginals.sum(-1), 1, atol=1e-5)


# Each size is compiled anew; the lattice, ten times slower to compile, has its own.
@settings(max_examples=12)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(2, 4),
    st.sampled_from(list(DTYPES)),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_any_image_gives_marginals(height, width, channels, labels, dtype, share, seed):
    """And what a mask hides might as well be anything."""
    rng = np.random.default_rng(seed)
    shape = height, width
    most = DTYPES[dtype]
    image = (rng.uniform(0, most, (*shape, channels))).astype(dtype)
    probabilities = probabilities_of(rng, shape, labels)
    mask = rng.uniform(size=shape) < share
    options = OPTIONS | {"method": "exact", "max_intensity": most, "mask": mask}
    refined = refine(image, probabilities=probabilities, **options)
    assert_marginals(refined)
    np.testing.assert_array_equal(refined[~mask], probabilities[~mask])
    other = np.where(mask[..., None], image, rng.permutation(image.ravel())[0])
    hidden = np.where(mask[..., None], probabilities, np.nan).astype(np.float32)
    again = refine(other.astype(dtype), probabilities=hidden, **options)
    np.testing.assert_array_equal(again[mask], refined[mask])


SHAPE, LABELS = (3, 7), 3


def degenerate(name):
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    if name in ("black", "grey", "white"):
        image[:] = {"black": 0, "grey": 127, "white": 255}[name]
    elif name == "saturated":
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    elif name == "one pixel":
        image[:] = 0
        image[1, 3] = 255
    elif name == "one row":
        image[:] = 0
        image[1] = 255
    return image


@pytest.mark.parametrize("method", ["lattice", "exact"])
@pytest.mark.parametrize(
    "name", ["black", "grey", "white", "saturated", "one pixel", "one row", "random"]
)
@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_degenerate_images_give_marginals(method, name, seed):
    """Labels are interchangeable, and what is certain everywhere stays."""
    image = degenerate(name)
    rng = np.random.default_rng(seed)
    probabilities = probabilities_of(rng, SHAPE, LABELS)
    options = OPTIONS | {"method": method}
    refined = refine(image, probabilities=probabilities, **options)
    assert_marginals(refined)
    # Sums in another order differ by some 1e-7, which an iteration makes at most 13 / 2
    # times as much: the weights together, and the softmax's slope. Five near a tie make
    # 1e-5 of it, so one.
    once = options | {"num_iterations": 1}
    order = rng.permutation(LABELS)
    refined = refine(image, probabilities=probabilities, **once)
    permuted = refine(image, probabilities=probabilities[..., order], **once)
    np.testing.assert_allclose(permuted, refined[..., order], atol=2e-6)
    certain = np.broadcast_to(np.eye(LABELS, dtype=np.float32)[1], probabilities.shape)
    assert refine(image, probabilities=certain, **options)[..., 1].min() > 0.999


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "bfloat16", "float32"]))
def test_items_of_a_batch_do_not_leak(seed, dtype):
    """What one image holds, NaN included, does not reach another."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, *SHAPE, 3)).astype(np.uint8)
    logits = jnp.asarray(rng.normal(size=(2, *SHAPE, LABELS)), dtype)
    options = OPTIONS | {"method": "exact"}
    refined = refine(images, logits=logits, **options)
    other = images.copy()
    other[1] = rng.permutation(other[1].ravel()).reshape(other[1].shape)
    again = refine(other, logits=jnp.stack([logits[0], 9 * logits[1]]), **options)
    np.testing.assert_array_equal(again[0], refined[0])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_a_constant_per_point_changes_no_marginal(seed, constant):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*SHAPE, LABELS)).astype(np.float32)
    kernel = spatial_kernel(SHAPE, 2.0, weights=1.0, method="separable")
    refined = mean_field(logits, [kernel])
    shifted = mean_field(logits + np.float32(constant), [kernel])
    np.testing.assert_allclose(
        shifted - np.float32(constant), refined, atol=1e-4 + 1e-6 * abs(constant)
    )
