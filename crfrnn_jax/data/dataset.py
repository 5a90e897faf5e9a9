"""A data set for semantic segmentation: what every part of the package agrees on."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class Source(Protocol):
    """Examples that can be read in any order, from any thread.

    An example is a dict of `image`, uint8 [height, width, 3], `label`, int32
    [height, width], and `name`, str. Labels are class indices or the ignore label.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class NotPreparedError(FileNotFoundError):
    """A data set would have to be prepared first, and was not to be."""


class SegmentationData(NamedTuple):
    """A data set.

    Attributes:
      class_names: one name per label, label 0 first.
      ignore_label: label of pixels that count for neither loss nor score; no class's.
      splits: the sources "train" and "val".
    """

    class_names: tuple[str, ...]
    ignore_label: int
    splits: Mapping[str, Source]

    @property
    def num_labels(self) -> int:
        """Number of classes, the background included, the ignore label not."""
        return len(self.class_names)
