"""A batch is refined as its images are, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_crf import CASE, METHODS, THETAS, random_case

from crfrnn_jax import crf_rnn


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_a_loop(method, masked):
    """Without masks its images share the lattice of positions; derivatives add up."""
    image, logits, params = CASE
    images = np.stack([image, 255 - image, image[::-1]])
    batch = np.stack([logits, logits[::-1], 2 * logits])
    masks = np.random.default_rng(3).uniform(size=batch.shape[:-1]) < 0.8
    of_batch, of_images = (masks, masks) if masked else (None, [None] * 3)
    weight = np.random.default_rng(4).normal(size=batch.shape).astype(np.float32)

    def refine(image, logits, mask, params, thetas):
        return crf_rnn(image, logits, params, mask=mask, **thetas, method=method)

    def together(images, logits, params, thetas):
        refined = refine(images, logits, of_batch, params, thetas)
        return jnp.vdot(weight, refined), refined

    def one_by_one(images, logits, params, thetas):
        items = zip(images, logits, of_images, strict=True)
        refined = jnp.stack([refine(*item, params, thetas) for item in items])
        return jnp.vdot(weight, refined), refined

    given = images, batch, params, THETAS
    gradients, refined = jax.grad(together, (0, 1, 2, 3), has_aux=True)(*given)
    expected, alone = jax.grad(one_by_one, (0, 1, 2, 3), has_aux=True)(*given)
    np.testing.assert_allclose(refined, alone, rtol=1e-5, atol=1e-5)
    for ours, truth in zip(*map(jax.tree.leaves, (gradients, expected)), strict=True):
        scale = np.abs(truth).max()
        np.testing.assert_allclose(ours, truth, rtol=1e-4, atol=1e-5 * scale)


def test_a_batch_of_double_precision_keeps_it():
    with jax.enable_x64(True):
        image, logits, params = random_case(dtype=np.float64)
        images, batch = np.stack([image, 255 - image]), np.stack([logits, -logits])
        refined = crf_rnn(images, batch, params, **THETAS)
        assert refined.dtype == np.float64
        for ours, *alone in zip(refined, images, batch, strict=True):
            truth = crf_rnn(*alone, params, **THETAS)
            np.testing.assert_allclose(ours, truth, rtol=1e-12, atol=1e-12)
