"""What the command line reads and keeps of an image that may be too large at once."""

from typing import Any

import numpy as np

from crfrnn_jax.tiles import Window
from crfrnn_jax.unaries import unary_from_labels


class LabelScores:
    """Logits of labels that are trusted to a degree, made where they are indexed.

    Attributes:
      shape: [height, width, labels].
      dtype: float32.
    """

    def __init__(
        self,
        labels: np.ndarray,
        confidence: float,
        num_labels: int,
        unknown: int | None = None,
    ):
        self._labels = labels
        self._arguments = confidence, num_labels
        self._unknown = unknown
        self.shape = (*labels.shape, num_labels)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, window: Window) -> np.ndarray:
        labels = self._labels[window]
        return np.asarray(
            unary_from_labels(labels, *self._arguments, unknown=self._unknown)
        )


class Results:
    """Takes marginals by the window: keeps labels, and hands the rest on.

    Attributes:
      shape: [height, width, labels], of the marginals.
      dtype: float32.
      before: the likeliest labels before, integer [height, width].
      after: those of the marginals.
    """

    def __init__(self, scores: Any, array: np.ndarray | None = None):
        self.shape = tuple(scores.shape)
        self.dtype = np.dtype(np.float32)
        # Of a byte where that can hold them.
        dtype = np.min_scalar_type(self.shape[-1] - 1)
        self.before, self.after = (np.empty(self.shape[:-1], dtype) for _ in range(2))
        self._scores, self._array = scores, array

    def __setitem__(self, window: Window, marginals: np.ndarray) -> None:
        self.before[window] = self._scores[window].argmax(-1)
        self.after[window] = marginals.argmax(-1)
        if self._array is not None:
            self._array[window] = marginals
