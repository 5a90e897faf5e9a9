"""A network that scores pixels, composed with the CRF that refines its scores."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from crfrnn_jax.features import Numbers
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models.vgg import MEAN_BGR, to_bgr_minus_mean


class Segmenter(nn.Module):
    """Any backbone of logits, then CRF-RNN or nothing.

    Its parameters are `{"backbone": ..., "crf": ...}`, so that a backbone trained alone
    and one trained end to end are the same tree.

    Attributes:
      backbone: maps images [batch, height, width, channels] in 0..255 to logits
        [batch, height, width, labels].
      crf: the CRF-RNN layer for as many labels, or None.
      canvas: 0, or the side of the square in which the authors place each image, 500.
        Then the input is as published: what is padded has the mean colour and takes
        part in the CRF, whose bilateral kernel sees BGR less the mean (by its formula
        the same as RGB, but a lattice depends on the features' order and origin). With
        0 images are of any size, and what is padded takes no part.
    """

    backbone: nn.Module
    crf: CRFRNN | None
    canvas: int = 0

    def __call__(self, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """The refined logits, float32 [batch, height, width, labels].

        Args:
          images: [batch, height, width, channels] in 0..255.
          mask: bool [batch, height, width], False where an image is padded. None is all
            True.
        """
        return self.refine(images, self.unary(images, mask), mask)

    def unary(self, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """The backbone's logits, before the CRF."""
        return self.backbone(self._pad(images, mask))

    def refine(
        self,
        images: jax.Array,
        logits: jax.Array,
        mask: jax.Array | None = None,
        *,
        num_iterations: int | None = None,
        origin: Numbers = 0.0,
    ) -> jax.Array:
        """The CRF's logits from given ones, as `CRFRNN`; without a CRF the same."""
        if self.crf is None:
            return logits
        if self.canvas:
            images, mask = to_bgr_minus_mean(self._pad(images, mask)), None
        return self.crf(
            images, logits, mask, num_iterations=num_iterations, origin=origin
        )

    def _pad(self, images: jax.Array, mask: jax.Array | None) -> jax.Array:
        """The images, in the mean colour where they are padded if so published."""
        if not self.canvas or mask is None:
            return images
        mean = jnp.asarray(MEAN_BGR[::-1], jnp.float32)
        return jnp.where(mask[..., None], images.astype(jnp.float32), mean)
