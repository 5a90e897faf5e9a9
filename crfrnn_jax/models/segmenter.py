"""A network that scores pixels, composed with the CRF that refines its scores."""

import flax.linen as nn
import jax

from crfrnn_jax.layers import CRFRNN


class Segmenter(nn.Module):
    """Any backbone of logits, then CRF-RNN.

    Its parameters are `{"backbone": ..., "crf": ...}`, so that a backbone trained alone
    and one trained end to end are the same tree.

    Attributes:
      backbone: maps images [batch, height, width, channels] in 0..255 to logits
        [batch, height, width, labels].
      crf: the CRF-RNN layer for as many labels.
    """

    backbone: nn.Module
    crf: CRFRNN

    def __call__(self, images: jax.Array) -> jax.Array:
        """The refined logits, float32 [batch, height, width, labels]."""
        return self.refine(images, self.unary(images))

    def unary(self, images: jax.Array) -> jax.Array:
        """The backbone's logits, before the CRF."""
        return self.backbone(images)

    def refine(
        self, images: jax.Array, logits: jax.Array, num_iterations: int | None = None
    ) -> jax.Array:
        """The CRF's logits from given ones, as `CRFRNN`."""
        return self.crf(images, logits, num_iterations=num_iterations)
