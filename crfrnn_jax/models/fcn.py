"""Fully convolutional networks with skips (Long, Shelhamer, Darrell 2015)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from crfrnn_jax.checks import InputError, check_choice, check_shape

# Mean and spread of natural images' intensities, in 0..255.
_MEAN_INTENSITY = 116.0
_INTENSITY_SPREAD = 60.0
# What a network may compute in.
DTYPES = ("float32", "bfloat16")
# Channels that are normalised together.
_GROUP_SIZE = 8


class FCN(nn.Module):
    """A small residual FCN, trained from scratch in minutes on a CPU.

    Every stage halves the resolution. As in FCN-8s, the last stages each give a score
    map; the coarsest is doubled in size, added to the next finer one, and so on, and
    the sum is scaled up to the image bilinearly. Takes images of any size.

    Attributes:
      num_labels: number of labels.
      widths: channels of the stages, of stride 2, 4, 8, ...; multiples of 8.
      blocks: residual blocks in each stage, as many numbers as `widths`.
      num_skips: how many of the last stages give a score map; with four stages and two
        skips the finest scores have stride 8.
      dtype: in which is computed, "float32" or "bfloat16"; parameters are float32.
      remat: whether the backward pass computes a stage's features anew, all but the
        last: about a third more time for the memory of one stage at a time.
    """

    num_labels: int
    widths: Sequence[int]
    blocks: Sequence[int]
    num_skips: int
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Scores every pixel.

        Args:
          images: [batch, height, width, channels] in 0..255, any real dtype.

        Returns:
          Logits, float32 [batch, height, width, num_labels].

        Raises:
          ValueError: wrong rank, or an attribute that is out of its range.
        """
        check_shape("images", images, "batch height width channels")
        check_choice("dtype", self.dtype, DTYPES)
        if any(width < 1 or width % _GROUP_SIZE for width in self.widths):
            raise InputError(
                f"widths: expected multiples of {_GROUP_SIZE}, got {self.widths}"
            )
        if len(self.blocks) != len(self.widths):
            raise InputError(
                f"blocks: expected {len(self.widths)} numbers, as widths, got "
                f"{self.blocks}"
            )
        if not 1 <= self.num_skips <= len(self.widths):
            raise InputError(
                f"num_skips: expected 1 to the number of stages, {len(self.widths)}, "
                f"got {self.num_skips}"
            )
        x = (images.astype(jnp.float32) - _MEAN_INTENSITY) / _INTENSITY_SPREAD
        x = x.astype(self.dtype)
        apply_stage = nn.remat(_stage, static_argnums=(2, 3)) if self.remat else _stage
        stages = []
        for width, blocks in zip(self.widths, self.blocks, strict=True):
            x = apply_stage(self, x, width, blocks)
            stages.append(x)

        scores: Any = None
        for level in range(len(stages), len(stages) - self.num_skips, -1):
            name = f"score_stride_{2**level}"
            score = nn.Conv(self.num_labels, (1, 1), dtype=self.dtype, name=name)
            skip = score(stages[level - 1])
            scores = skip if scores is None else _resize(scores, skip.shape) + skip
        scores = scores.astype(jnp.float32)
        return _resize(scores, (*images.shape[:3], self.num_labels))


def _stage(network: FCN, x: jax.Array, width: int, blocks: int) -> jax.Array:
    """Half the resolution, and residual blocks at that."""
    dtype = network.dtype
    x = nn.Conv(width, (3, 3), strides=(2, 2), use_bias=False, dtype=dtype)(x)
    x = nn.relu(_normalise(dtype)(x))
    for _ in range(blocks):
        x = ResidualBlock(width, dtype)(x)
    return x


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each normalised, around which the input is carried."""

    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape."""

        def convolve(features: jax.Array) -> jax.Array:
            conv = nn.Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype)
            return _normalise(self.dtype)(conv(features))

        return nn.relu(x + convolve(nn.relu(convolve(x))))


def _normalise(dtype: str) -> nn.GroupNorm:
    # Over groups of channels of one image: no state, and nothing that depends on the
    # rest of the batch, so that batches of one image (the paper's) train as well.
    return nn.GroupNorm(num_groups=None, group_size=_GROUP_SIZE, dtype=dtype)


def _resize(x, shape: tuple[int, ...]) -> jax.Array:
    return jax.image.resize(x, shape, "bilinear")
