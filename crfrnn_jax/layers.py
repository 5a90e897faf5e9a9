"""CRF-RNN as a Flax layer."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_positive,
    check_shape,
    shown,
)
from crfrnn_jax.crf import CRFParams, crf_rnn
from crfrnn_jax.features import Numbers
from crfrnn_jax.iterations import Normalisation
from crfrnn_jax.kernels import Method, SpatialMethod

# One weight for all labels, one for each, or a matrix.
WeightsForm = Literal["scalar", "per_label", "full"]
# Fixed at minus the identity, symmetric, or any matrix.
CompatibilityForm = Literal["potts", "symmetric", "full"]


class CRFRNN(nn.Module):
    """Mean-field inference with learnable weights and compatibility, on a batch.

    The parameters are those of `CRFParams` under the same names, float32. They start as
    multiples of the identity, as the authors': 3 I, 5 I, -I. Narrower kernels than the
    authors' want smaller weights; the paper finds both by cross-validation. The forms
    below are the paper's ablations (section 7.2): with fewer parameters, or with more.

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
      weights_form: of both kernels' weights: "scalar", one number; "per_label",
        [num_labels]; or "full", [num_labels, num_labels].
      compatibility_form: "potts", no parameter; "symmetric", of which the symmetric
        part counts; or "full".
      share_parameters: whether all iterations have the same parameters. If not, each
        parameter has a leading axis of `num_iterations`, and that number is fixed.
      normalisation: "softmax" or "relu", as in `mean_field_step`.
      learn_widths: whether the widths are parameters, too: their logarithms,
        `log_theta_alpha` and so on, so that they stay positive.

    Examples:
      >>> layer = CRFRNN(num_labels=2, weights_form="per_label")
      >>> batch = np.zeros((1, 4, 6, 3), np.uint8), np.zeros((1, 4, 6, 2), np.float32)
      >>> variables = layer.init(jax.random.key(0), *batch)
      >>> variables["params"]["bilateral_weights"].tolist()
      [5.0, 5.0]
      >>> layer.apply(variables, *batch, num_iterations=10).shape
      (1, 4, 6, 2)
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
    weights_form: WeightsForm = "full"
    compatibility_form: CompatibilityForm = "full"
    share_parameters: bool = True
    normalisation: Normalisation = "softmax"
    learn_widths: bool = False

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        logits: jax.Array,
        mask: jax.Array | None = None,
        *,
        num_iterations: int | None = None,
        origin: Numbers = 0.0,
    ) -> jax.Array:
        """Refines the logits of a batch of images.

        Args:
          images: [batch, height, width, channels] in 0..255.
          logits: float [batch, height, width, num_labels].
          mask: bool [batch, height, width], False where an image is padded, as in
            `crf_rnn`; so that images of different sizes fit into one batch.
          num_iterations: overrides the layer's number, as at test time (5 in training
            and 10 at test in the paper).
          origin: (row, column) of the first pixel of all images, as in `crf_rnn`.

        Returns:
          Logits [batch, height, width, num_labels]; float32, or in JAX's 64-bit mode
          float64 if the logits are.

        Raises:
          ValueError: naming the argument whose rank, size, dtype or value is wrong.
        """
        check_at_least("num_labels", self.num_labels, 1)
        check_at_least("num_iterations", self.num_iterations, 0)
        sizes = check_shape("images", images, "batch height width channels")
        del sizes["channels"]
        sizes["num_labels"] = self.num_labels
        check_shape("logits", logits, "batch height width num_labels", sizes)
        if num_iterations is None:
            num_iterations = self.num_iterations
        if not self.share_parameters and num_iterations != self.num_iterations:
            raise InputError(
                "num_iterations: expected the layer's, as its iterations do not share "
                f"their parameters, {self.num_iterations}, got {num_iterations}"
            )
        params = CRFParams(
            self._weights("spatial_weights", self.spatial_weight),
            self._weights("bilateral_weights", self.bilateral_weight),
            self._compatibility(),
        )
        theta_alpha, theta_beta, theta_gamma = (
            self._width(name) for name in ("theta_alpha", "theta_beta", "theta_gamma")
        )

        return crf_rnn(
            images,
            logits,
            params,
            mask=mask,
            num_iterations=num_iterations,
            theta_alpha=theta_alpha,
            theta_beta=theta_beta,
            theta_gamma=theta_gamma,
            origin=origin,
            method=self.method,
            spatial_method=self.spatial_method,
            normalisation=self.normalisation,
        )

    def _weights(self, name: str, initial: float) -> jax.Array:
        """A kernel's weights as matrices, whatever the form of the parameter."""
        check_choice("weights_form", self.weights_form, get_args(WeightsForm))
        identity = jnp.eye(self.num_labels, dtype=jnp.float32)
        if self.weights_form == "full":
            return self._parameter(name, initial * identity)
        sides = () if self.weights_form == "scalar" else (self.num_labels,)
        weights = self._parameter(name, jnp.full(sides, initial, jnp.float32))
        rows = weights[..., None] if sides else weights[..., None, None]
        return rows * jnp.broadcast_to(identity, rows.shape[:-2] + identity.shape)

    def _compatibility(self) -> jax.Array:
        form = self.compatibility_form
        check_choice("compatibility_form", form, get_args(CompatibilityForm))
        potts = -jnp.eye(self.num_labels, dtype=jnp.float32)
        if form == "potts":
            return potts if self.share_parameters else self._repeat(potts)
        matrix = self._parameter("compatibility", potts)
        return matrix if form == "full" else (matrix + matrix.mT) / 2

    def _width(self, name: str) -> jax.typing.ArrayLike:
        """A kernel's width: the attribute of that name, or learned from there."""
        initial = getattr(self, name)
        check_positive(name, initial)
        if not self.learn_widths:
            return initial
        logarithm = jnp.log(jnp.float32(initial))
        return jnp.exp(self.param(f"log_{name}", lambda _: logarithm))

    def _parameter(self, name: str, initial: jax.Array) -> jax.Array:
        if not self.share_parameters:
            initial = self._repeat(initial)
        return self.param(name, lambda _: initial)

    def _repeat(self, array: jax.Array) -> jax.Array:
        return jnp.tile(array, (self.num_iterations, *[1] * array.ndim))


def fresh_variables(layer: CRFRNN, channels: int = 3) -> dict[str, Any]:
    """A layer's variables as it starts, in which no image has a part."""
    # As one program, from which all that has no part in them is left out.
    init = jax.jit(layer.init)
    scene = [np.zeros(array.shape, array.dtype) for array in _smallest(layer, channels)]
    return dict(init(jax.random.key(0), *scene))


def check_variables(name: str, layer: CRFRNN, variables: Any) -> None:
    """Raises InputError unless these are the layer's variables, and finite numbers."""
    is_mapping = isinstance(variables, Mapping)
    if not is_mapping or not isinstance(variables.get("params"), Mapping):
        raise InputError(
            f"{name}: expected those of `layer.init`, a dictionary with one of "
            f"parameters, 'params', got {shown(variables)}"
        )
    init = jax.eval_shape(layer.init, jax.random.key(0), *_smallest(layer, 3))
    expected = {key: list(value.shape) for key, value in init["params"].items()}
    params = {key: np.asarray(value) for key, value in variables["params"].items()}
    shapes = {key: list(value.shape) for key, value in params.items()}
    if shapes != expected:
        raise InputError(
            f"{name}: expected parameters of shapes {expected}, got {shapes}"
        )
    wrong = [
        key
        for key, value in params.items()
        if value.dtype.kind != "f" or not np.isfinite(value).all()
    ]
    if wrong:
        raise InputError(
            f"{name}: expected finite numbers, got others in {', '.join(wrong)}"
        )


def _smallest(layer: CRFRNN, channels: int) -> tuple[Any, Any]:
    """The shapes of an image and logits that the layer can take."""
    check_at_least("num_labels", layer.num_labels, 1)
    shape = jax.ShapeDtypeStruct
    image = shape((1, 2, 2, channels), np.float32)
    return image, shape((1, 2, 2, layer.num_labels), np.float32)
