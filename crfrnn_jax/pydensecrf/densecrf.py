"""`DenseCRF` and `DenseCRF2D`, with the names and conventions of pydensecrf.

There a unary is an energy, minus log-probabilities; arrays are [labels, points]; a
number as compatibility is a Potts reward, a vector an energy of each label for itself,
and a matrix an energy between labels, of which the symmetric part counts.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_at_least,
    check_choice,
    check_floating,
    check_intensities,
    check_positives,
    check_real,
)
from crfrnn_jax.crf_model import Model, set_up
from crfrnn_jax.features import image_features, position_features
from crfrnn_jax.inference import mean_field
from crfrnn_jax.iterations import step
from crfrnn_jax.kernels import GaussianKernel, KernelNormalisation, check_kernel
from crfrnn_jax.pydensecrf.constants import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    KernelType,
    NormalizationType,
)
from crfrnn_jax.refine.arrays import as_numpy

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "NormalizationType",
]

_NORMALISATIONS: dict[NormalizationType, KernelNormalisation] = {
    NO_NORMALIZATION: "none",
    NORMALIZE_BEFORE: "before",
    NORMALIZE_AFTER: "after",
    NORMALIZE_SYMMETRIC: "symmetric",
}


class DenseCRF:
    """A dense CRF of points with features of any kind.

    Args:
      nvar: number of points.
      nlabels: number of labels.

    Raises:
      ValueError: a number is below 1; and from every method, naming the argument.

    Examples:
      >>> crf = DenseCRF(3, 2)
      >>> crf.setUnaryEnergy(-np.log([[0.9, 0.5, 0.2], [0.1, 0.5, 0.8]]))
      >>> features = np.array([[0.0, 0.1, 5.0]], np.float32)
      >>> crf.addPairwiseEnergy(features, compat=3)
      >>> np.argmax(crf.inference(5), axis=0).tolist()
      [0, 0, 1]
    """

    def __init__(self, nvar: int, nlabels: int):
        check_at_least("nvar", nvar, 1)
        check_at_least("nlabels", nlabels, 1)
        self._nvar, self._nlabels = int(nvar), int(nlabels)
        self._logits = jnp.zeros((self._nvar, self._nlabels))
        self._kernels: tuple[GaussianKernel, ...] = ()
        self._kept: Model | None = None

    def setUnaryEnergy(self, u: Any) -> None:
        """Sets the unary energies, real [labels, points]: minus log-probabilities.

        Infinity is a label that a point can't have; a point needs one that it can.
        """
        energies = self._of_all_points("u", u)
        with np.errstate(over="ignore"):
            energies = energies.astype(np.float32)
        if np.isnan(energies).any() or np.isneginf(energies).any():
            raise InputError("u: expected energies above minus infinity, got NaN or it")
        # No energies are this by chance, but those of one label.
        if self._nlabels > 1 and _are_log_probabilities(energies):
            raise InputError(
                "u: expected energies, minus log-probabilities, got log-probabilities"
            )
        if np.isposinf(energies).all(axis=0).any():
            raise InputError(
                "u: expected a finite energy of each point, got a point "
                "all of whose labels have an infinite one"
            )
        self._logits = -jnp.asarray(energies, jnp.float32).T
        self._kept = None

    def addPairwiseEnergy(
        self,
        features: Any,
        compat: Any,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds a Gaussian kernel of features that are divided by their widths.

        Args:
          features: real [d, points].
          compat: a number, [labels] or [labels, labels]; see the module.
          kernel: taken for compatibility alone.
          normalization: of the kernel.
        """
        features = as_numpy("features", features)
        check_real("features", features)
        if features.ndim != 2 or features.shape[1] != self._nvar:
            raise InputError(
                f"features: expected [d, points], [d, {self._nvar}], got "
                f"{list(features.shape)}"
            )
        features = np.asarray(features, np.float32)
        if not np.isfinite(features).all():
            raise InputError("features: expected finite numbers, got NaN or infinity")
        self._add(features.T, 1.0, compat, kernel, normalization)

    def inference(self, niter: int) -> np.ndarray:
        """Marginals after so many iterations, float32 [labels, points]."""
        check_at_least("niter", niter, 0)
        logits = self._logits
        if self._kernels:
            logits = mean_field(
                logits, self._kernels, compatibility=1.0, num_iterations=niter
            )
        return _marginals(logits)

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The marginals before the first iteration, and two arrays of their shape.

        For `stepInference`, which writes into them. The lattices are built once.
        """
        marginals = _marginals(self._logits)
        return marginals, np.zeros_like(marginals), np.zeros_like(marginals)

    def stepInference(self, Q: np.ndarray, tmp1: np.ndarray, tmp2: np.ndarray) -> None:
        """One iteration, in place.

        Args:
          Q: float32 [labels, points], the marginals so far and then the new ones.
          tmp1: its logits are left here.
          tmp2: not used.
        """
        if not isinstance(Q, np.ndarray) or not Q.flags.writeable:
            raise InputError("Q: expected an array of NumPy's that can be written to")
        current = jnp.log(self._marginals_of(Q))
        logits = self._logits
        if self._kernels:
            model = self._model()
            logits = step(model, current, model.mixings, None)
        Q[...] = _marginals(logits)
        if np.shape(tmp1) == Q.shape:
            tmp1[...] = np.asarray(logits).T

    def klDivergence(self, Q: Any) -> float:
        """As pydensecrf counts: each pair of points twice, and without log Z."""
        marginals = self._marginals_of(Q)
        energies = jnp.where(marginals == 0, 0, -marginals * self._logits)
        entropy = marginals * jnp.log(jnp.maximum(marginals, 1e-20))
        total = float(jnp.sum(energies + entropy))
        if self._kernels:
            model = self._model()
            for filter_values, mixing in zip(model.filters, model.mixings, strict=True):
                total += float(jnp.sum(marginals * filter_values(marginals, mixing)))
        return total

    def _add(self, features, widths, compat, kernel, normalization) -> None:
        check_choice("kernel", kernel, tuple(KernelType))
        check_choice("normalization", normalization, tuple(NormalizationType))
        added = GaussianKernel(
            jnp.asarray(features),
            widths,
            weights=self._energy_between_labels(compat),
            normalisation=_NORMALISATIONS[NormalizationType(normalization)],
        )
        check_kernel("features", added)
        self._kernels += (added,)
        self._kept = None

    def _energy_between_labels(self, compat: Any) -> np.ndarray:
        compat = (
            np.asarray(compat) if np.isscalar(compat) else as_numpy("compat", compat)
        )
        check_real("compat", compat)
        labels = self._nlabels
        if compat.shape not in ((), (labels,), (labels, labels)):
            raise InputError(
                f"compat: expected a number, [{labels}] or [{labels}, {labels}], of as "
                f"many labels as the CRF has, got {list(compat.shape)}"
            )
        with np.errstate(over="ignore"):
            compat = compat.astype(np.float32)
        if not np.isfinite(compat).all():
            raise InputError(f"compat: expected finite numbers, got {compat}")
        if compat.ndim == 2:
            return (compat + compat.T) / 2
        return -compat if compat.ndim == 0 else compat

    def _marginals_of(self, Q: Any) -> jax.Array:
        """Marginals that the caller gives, float32 [points, labels]."""
        marginals = self._of_all_points("Q", Q)
        check_floating("Q", marginals)
        marginals = marginals.astype(np.float32)
        sums = marginals.sum(axis=0)
        if not (marginals.min() >= 0 and sums.min() > 0 and sums.max() < np.inf):
            raise InputError(
                "Q: expected marginals, of at least 0 and of each point not all 0, got "
                f"{marginals.min()}..{marginals.max()}"
            )
        return jnp.asarray(marginals).T

    def _of_all_points(self, name: str, array: Any) -> np.ndarray:
        """An array of every label and point, as it came."""
        array = as_numpy(name, array)
        check_real(name, array)
        expected = (self._nlabels, self._nvar)
        if array.shape != expected:
            raise InputError(
                f"{name}: expected [labels, points], {list(expected)}, got "
                f"{list(array.shape)}"
            )
        return array

    def _model(self) -> Model:
        """The lattices and what goes with them, built at the first use."""
        if self._kept is None:
            self._kept = set_up(self._logits, self._kernels, 1.0, None)
        return self._kept


class DenseCRF2D(DenseCRF):
    """A dense CRF of the pixels of an image.

    Args:
      w: width of the image, in pixels.
      h: height.
      nlabels: number of labels.

    Raises:
      ValueError: a number is below 1; and from every method, naming the argument.

    Examples:
      >>> crf = DenseCRF2D(6, 4, 2)
      >>> energy = np.full((2, 4, 6), 0.7, np.float32)
      >>> energy[0, 1, 1], energy[1, 2, 4] = 0.1, 0.1
      >>> crf.setUnaryEnergy(energy.reshape(2, -1))
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> image[:, 3:] = 200
      >>> crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
      >>> np.argmax(crf.inference(5), axis=0).reshape(4, 6)[0].tolist()
      [0, 0, 0, 1, 1, 1]
    """

    def __init__(self, w: int, h: int, nlabels: int):
        check_at_least("w", w, 1)
        check_at_least("h", h, 1)
        super().__init__(w * h, nlabels)
        self._shape = int(h), int(w)

    def setUnaryEnergy(self, u: Any) -> None:
        """As `DenseCRF.setUnaryEnergy`, also of [labels, height, width]."""
        energies = as_numpy("u", u)
        shape = (self._nlabels, *self._shape)
        if energies.ndim == 3:
            if energies.shape != shape:
                raise InputError(
                    f"u: expected [labels, points] or [labels, height, width], "
                    f"{list(shape)}, got {list(energies.shape)}"
                )
            energies = energies.reshape(self._nlabels, -1)
        super().setUnaryEnergy(energies)

    def addPairwiseGaussian(
        self,
        sxy: float | Sequence[float],
        compat: Any,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds the kernel of the pixels' positions.

        Args:
          sxy: width in pixels, or (x, y) of the columns and the rows.
          compat: as in `addPairwiseEnergy`, and so are the others.
          kernel: see there.
          normalization: see there.
        """
        widths = _widths("sxy", sxy, 2)
        features = position_features(self._shape)
        self._add(features, widths, compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: Any,
        compat: Any,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds the kernel of the pixels' positions and colours.

        Args:
          sxy: width in pixels, or (x, y) of the columns and the rows.
          srgb: width in intensities, or one for each channel.
          rgbim: real [height, width, channels] in 0..255.
          compat: as in `addPairwiseEnergy`, and so are the others.
          kernel: see there.
          normalization: see there.
        """
        image = as_numpy("rgbim", rgbim)
        check_real("rgbim", image)
        if image.ndim != 3 or image.shape[:2] != self._shape or not image.shape[2]:
            raise InputError(
                f"rgbim: expected [height, width, channels], {list(self._shape)} and "
                f"channels, got {list(image.shape)}; the CRF was made with the width "
                f"{self._shape[1]} and the height {self._shape[0]}, in this order"
            )
        check_intensities("rgbim", image)
        widths = [_widths("sxy", sxy, 2), _widths("srgb", srgb, image.shape[2])]
        self._add(
            image_features(image), np.concatenate(widths), compat, kernel, normalization
        )


def _are_log_probabilities(values: np.ndarray) -> bool:
    """Whether they are, of [labels, points], at every point."""
    if values.max() > 0:
        return False
    sums = np.exp(values, dtype=np.float64).sum(axis=0)
    return bool(np.abs(sums - 1).max() < 1e-3)


def _widths(name: str, widths: float | Sequence[float], count: int) -> np.ndarray:
    given = as_numbers(name, widths)
    check_positives(name, given, count)
    return np.broadcast_to(np.asarray(given, np.float32), (count,))


def _marginals(logits: jax.Array) -> np.ndarray:
    """Float32 [labels, points], its own: callers may write into it."""
    return np.array(jax.nn.softmax(logits).T, np.float32, order="C")
