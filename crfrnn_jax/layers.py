"""CRF-RNN as a Flax layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from crfrnn_jax.checks import check_at_least, check_shape
from crfrnn_jax.crf import CRFParams, Method, SpatialMethod, crf_rnn


class CRFRNN(nn.Module):
    """Mean-field inference with learnable weights and compatibility, on a batch.

    The parameters are those of `CRFParams` under the same names, float32. They start as
    multiples of the identity, as the authors': 3 I, 5 I, -I. Narrower kernels than the
    authors' want smaller weights; the paper finds both by cross-validation.

    Attributes:
      num_labels: number of labels.
      num_iterations: mean-field iterations, unless the call names another number.
      theta_alpha: width of the bilateral kernel in pixels.
      theta_beta: width of the bilateral kernel in 0..255 intensity units.
      theta_gamma: width of the spatial kernel in pixels.
      spatial_weight: the spatial weights' initial diagonal.
      bilateral_weight: the bilateral weights' initial diagonal.
      method: "lattice" or "exact", as in `crf_rnn`.
      spatial_method: that of the spatial kernel, as in `crf_rnn`.
    """

    num_labels: int
    num_iterations: int = 5
    theta_alpha: float = 160.0
    theta_beta: float = 3.0
    theta_gamma: float = 3.0
    spatial_weight: float = 3.0
    bilateral_weight: float = 5.0
    method: Method = "lattice"
    spatial_method: SpatialMethod | None = None

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        logits: jax.Array,
        *,
        num_iterations: int | None = None,
    ) -> jax.Array:
        """Refines the logits of a batch of images.

        Args:
          images: [batch, height, width, channels] in 0..255.
          logits: float [batch, height, width, num_labels].
          num_iterations: overrides the layer's number, as at test time (5 in training
            and 10 at test in the paper).

        Returns:
          Logits, float32 [batch, height, width, num_labels].

        Raises:
          ValueError: naming the argument whose rank, size, dtype or value is wrong.
        """
        check_at_least("num_labels", self.num_labels, 1)
        sizes = check_shape("images", images, "batch height width channels")
        del sizes["channels"]
        sizes["num_labels"] = self.num_labels
        check_shape("logits", logits, "batch height width num_labels", sizes)
        identity = jnp.eye(self.num_labels, dtype=jnp.float32)
        params = CRFParams(
            self.param("spatial_weights", lambda _: self.spatial_weight * identity),
            self.param("bilateral_weights", lambda _: self.bilateral_weight * identity),
            self.param("compatibility", lambda _: -identity),
        )
        if num_iterations is None:
            num_iterations = self.num_iterations

        def refine(image_and_logits):
            image, image_logits = image_and_logits
            return crf_rnn(
                image,
                image_logits,
                params,
                num_iterations=num_iterations,
                theta_alpha=self.theta_alpha,
                theta_beta=self.theta_beta,
                theta_gamma=self.theta_gamma,
                method=self.method,
                spatial_method=self.spatial_method,
            )

        # One image after another, not vmap: that would compute every room for every
        # image (`crfrnn_jax.rooms`), not the one which an image's vertices ask for.
        return lax.map(refine, (images, jnp.asarray(logits)))
