"""VGG-16 as FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer, Darrell 2015), as released.

Layer for layer the networks of the published weights, under the names of those files.
The first convolution pads by 100, so that the 7 x 7 valid convolution `fc6` has room in
any image; what that adds on each side is cropped away again before two score maps are
added, and at the end.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.checks import InputError, check_choice, check_shape
from crfrnn_jax.models.fcn import DTYPES

# Of the images on which VGG-16 was trained: blue, green, red, in 0..255.
MEAN_BGR = (103.939, 116.779, 123.68)
# Convolutions of each stage; a pool follows each stage.
_CONVOLUTIONS = (2, 2, 3, 3, 3)
_FIRST_PADDING = 100
# What is cropped before pool4's and pool3's scores are added, in pixels of theirs.
_POOL4_CROP, _POOL3_CROP = 5, 9
# What is cropped of the last score map, in pixels of the image, by its stride.
_LAST_CROP = {32: 19, 16: 27, 8: 31}
# The factors of the FCN authors' FCN-8s that is trained at once, not from FCN-16s.
_POOL4_SCALE, _POOL3_SCALE = 0.01, 0.0001


class VGGFCN(nn.Module):
    """FCN-32s, FCN-16s or FCN-8s on VGG-16. Takes images of any size.

    Convolutions start as He et al.'s, scores at zero and transposed convolutions as
    bilinear interpolation of each label, as in the FCN authors' training; `upscore2`
    has a bias, as in the CRF-RNN release and not in theirs. The last one,
    `upscore<stride>`, is fixed as released: that is up to the optimiser
    (`crfrnn_jax.training.optimizers`). Dropout is active where a random key "dropout"
    is given to `apply`.

    Attributes:
      num_labels: number of labels.
      stride: 32, 16 or 8, of the finest scores.
      scale_skips: scales the pools by 0.01 and 0.0001 before their scores are taken, as
        the FCN authors' FCN-8s that is trained at once.
      dropout: part of the features after fc6 and fc7 that is dropped in training.
      widths: channels of the five stages; the released networks' by default.
      hidden: channels of fc6 and fc7.
      dtype: in which is computed, "float32" or "bfloat16"; parameters are float32.
      remat: whether the backward pass computes a stage's features anew, all but the
        last: about a third more time for the memory of one stage at a time.
    """

    num_labels: int
    stride: int = 8
    scale_skips: bool = False
    dropout: float = 0.5
    widths: Sequence[int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Scores every pixel.

        Args:
          images: RGB [batch, height, width, 3] in 0..255, any real dtype.

        Returns:
          Logits, float32 [batch, height, width, num_labels].

        Raises:
          ValueError: wrong shape, or an attribute that is out of its range.
        """
        check_shape("images", images, "batch height width channels", {"channels": 3})
        check_choice("dtype", self.dtype, DTYPES)
        if self.stride not in _LAST_CROP:
            raise InputError(f"stride: expected 32, 16 or 8, got {self.stride}")
        if len(self.widths) != len(_CONVOLUTIONS):
            raise InputError(f"widths: expected 5 numbers, got {self.widths}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: expected 0 to below 1, got {self.dropout}")
        x = to_bgr_minus_mean(images).astype(self.dtype)
        apply_stage = nn.remat(_stage, static_argnums=2) if self.remat else _stage
        pools = []
        for stage in range(1, len(self.widths) + 1):
            x = apply_stage(self, x, stage)
            pools.append(x)
        for name, size in (("fc6", 7), ("fc7", 1)):
            x = nn.relu(self._conv(self.hidden, size, name)(x))
            drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
            x = drop(x)

        scores = self._score("score_fr", x)
        if self.stride <= 16:
            scores = self._upscale("upscore2", scores, 2, use_bias=True)
            pool4 = pools[3] * _POOL4_SCALE if self.scale_skips else pools[3]
            scores += _crop(
                self._score("score_pool4", pool4), _POOL4_CROP, scores.shape
            )
        if self.stride <= 8:
            scores = self._upscale("upscore_pool4", scores, 2)
            pool3 = pools[2] * _POOL3_SCALE if self.scale_skips else pools[2]
            scores += _crop(
                self._score("score_pool3", pool3), _POOL3_CROP, scores.shape
            )
        scores = self._upscale(f"upscore{self.stride}", scores, self.stride)
        scores = _crop(scores, _LAST_CROP[self.stride], images.shape)
        return scores.astype(jnp.float32)

    def _conv(self, width: int, size: int, name: str, padding: int = 0) -> nn.Conv:
        return nn.Conv(
            width,
            (size, size),
            padding=padding,
            kernel_init=nn.initializers.he_normal(),
            dtype=self.dtype,
            name=name,
        )

    def _score(self, name: str, x: jax.Array) -> jax.Array:
        return nn.Conv(
            self.num_labels,
            (1, 1),
            kernel_init=nn.initializers.zeros_init(),
            dtype=self.dtype,
            name=name,
        )(x)

    def _upscale(
        self, name: str, x: jax.Array, factor: int, *, use_bias: bool = False
    ) -> jax.Array:
        return nn.ConvTranspose(
            self.num_labels,
            (2 * factor, 2 * factor),
            (factor, factor),
            padding="VALID",
            transpose_kernel=True,
            use_bias=use_bias,
            kernel_init=_bilinear,
            dtype=self.dtype,
            name=name,
        )(x)


def _stage(network: VGGFCN, x: jax.Array, stage: int) -> jax.Array:
    """The convolutions of a stage, from 1, and its pool."""
    width = network.widths[stage - 1]
    for i in range(1, _CONVOLUTIONS[stage - 1] + 1):
        padding = _FIRST_PADDING if (stage, i) == (1, 1) else 1
        x = nn.relu(network._conv(width, 3, f"conv{stage}_{i}", padding)(x))
    return _pool(x)


def to_bgr_minus_mean(images: jax.typing.ArrayLike) -> jax.Array:
    """RGB in 0..255, of any real dtype, as VGG-16 takes it: float32 BGR less the mean.

    Args:
      images: [..., 3].
    """
    images = jnp.asarray(images)[..., ::-1].astype(jnp.float32)
    return images - jnp.asarray(MEAN_BGR, jnp.float32)


def _pool(x: jax.Array) -> jax.Array:
    """Maxima of 2 x 2 pixels; a last odd row or column is kept, as in Caffe."""
    padding: Any = [(0, side % 2) for side in x.shape[1:3]]
    return nn.max_pool(x, (2, 2), strides=(2, 2), padding=padding)


def _crop(x: jax.Array, offset: int, shape: tuple[int, ...]) -> jax.Array:
    height, width = shape[1:3]
    return x[:, offset : offset + height, offset : offset + width]


def _bilinear(_, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """The kernel that scales each label's scores up bilinearly by half its size."""
    size = shape[0]
    factor = size // 2
    weights = 1 - np.abs((np.arange(size) + 0.5) / factor - 1)
    kernel = np.outer(weights, weights)[..., None, None] * np.eye(shape[-1])
    return jnp.asarray(kernel, dtype)
