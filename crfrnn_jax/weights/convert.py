"""From a published file of weights to our parameters: recognise, check, arrange.

A file is known by its contents: the container by its first bytes, the network by the
names of its tensors. Every tensor is accounted for before any is arranged.
"""

import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.checks import InputError, check_choice
from crfrnn_jax.weights.arrays import (
    check_target,
    is_converted,
    read_npz,
    save_weights,
)
from crfrnn_jax.weights.caffemodel import looks_like_caffemodel, read_caffemodel
from crfrnn_jax.weights.hdf5 import SIGNATURE
from crfrnn_jax.weights.keras import read_keras
from crfrnn_jax.weights.layers import Entry, Sizes
from crfrnn_jax.weights.layouts import LAYOUTS, Layout
from crfrnn_jax.weights.limits import reading
from crfrnn_jax.weights.pth import read_pth

_READERS = {
    "pth": read_pth,
    "keras": read_keras,
    "caffemodel": read_caffemodel,
    "npz": read_npz,
}
_KNOWN_LABELS = 21  # of the published CRF-RNN, where the file's own can't be told


class Conversion(NamedTuple):
    """A converted file.

    Attributes:
      layout: what it was recognised as.
      tensors: float32 arrays by their paths in our parameter tree.
      dropped: the file's tensors that our network has no place for.
      zeros: our parameters that the file's network does not have, and that are zeros.
      labels: number of labels, or None for a backbone without scores.
    """

    layout: Layout
    tensors: dict[str, NDArray[np.float32]]
    dropped: list[str]
    zeros: list[str]
    labels: int | None


def convert_file(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str | None = None,
    force: bool = False,
) -> Conversion:
    """Converts a published file of weights into ours.

    Args:
      source: a .pth, .h5, .caffemodel or .npz, see `LAYOUTS`.
      out: the file to write, an .npz; nothing is written if anything is wrong.
      layout: a name of `LAYOUTS`, or None to recognise it.
      force: whether `out` may be replaced.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: naming the file, and all tensors that are not as they should be.
    """
    source, out = Path(source), Path(out)
    check_target(out, force)
    conversion = convert_tensors(source, *read_tensors(source), layout=layout)
    meta = {
        "source": source.name,
        "layout": conversion.layout.name,
        "labels": conversion.labels,
        "dropped": conversion.dropped,
        "zeros": conversion.zeros,
    }
    save_weights(out, conversion.tensors, meta, force=force)
    return conversion


def read_tensors(path: str | os.PathLike[str]) -> tuple[str, dict[str, NDArray[Any]]]:
    """Reads a published file.

    Args:
      path: the file.

    Returns:
      The kind of container, "pth", "keras", "caffemodel" or "npz", and the tensors by
      the names that the file has for them.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: naming the file, if it can't be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of weights, got none")
    container = _container(path)
    return container, _READERS[container](path)


def _container(path: Path) -> str:
    with reading(path, "a file of weights"):
        with open(path, "rb") as file:
            head = file.read(64)
        if head.startswith(SIGNATURE):
            return "keras"
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            is_numpy = all(name.endswith(".npy") for name in names)
            return "npz" if is_numpy else "pth"
        if head[:1] == b"\x80" and head[1:2] <= b"\x05":  # a pickle's first instruction
            return "pth"
        if looks_like_caffemodel(head):
            return "caffemodel"
    raise InputError(
        f"{path}: expected a .pth, .h5, .caffemodel or .npz, got a file that starts "
        f"with {head[:16]!r}"
    )


def convert_tensors(
    path: str | os.PathLike[str],
    container: str,
    tensors: dict[str, NDArray[Any]],
    *,
    layout: str | None = None,
    sizes: Sizes | None = None,
) -> Conversion:
    """Arranges a published file's tensors for our network.

    Args:
      path: the file, for messages.
      container: its kind, as `read_tensors` tells it.
      tensors: its tensors.
      layout: a name of `LAYOUTS`, or None to recognise it.
      sizes: the network's sizes; VGG-16's unless given.

    Raises:
      InputError: naming the file, and all tensors that are not as they should be.
    """
    if container == "npz" and is_converted(tensors):
        raise InputError(
            f"{path}: expected a published file, got one that is already converted"
        )
    sizes = sizes or Sizes()
    known = [known for known in LAYOUTS.values() if known.container == container]
    if layout is None:
        chosen = _recognise(path, known, tensors, sizes)
    else:
        check_choice(
            f"{path}: layout of a {container} file",
            layout,
            tuple(known.name for known in known),
        )
        chosen = LAYOUTS[layout]
    labels = _labels(chosen, tensors)
    entries = chosen.entries(sizes, labels)
    _check(path, chosen, entries, tensors)
    tree = _arrange(path, entries, tensors)
    chosen.finish(tree)
    return Conversion(
        chosen,
        tree,
        dropped=[entry.source for entry in entries if entry.target is None],
        zeros=[e.target for e in entries if e.target and e.source not in tensors],
        labels=labels if chosen.labels_from else None,
    )


def _recognise(
    path: str | os.PathLike[str],
    layouts: list[Layout],
    tensors: dict[str, NDArray[Any]],
    sizes: Sizes,
) -> Layout:
    """The layout whose names differ least from the file's."""

    def misfit(layout: Layout) -> int:
        names = {entry.source for entry in layout.entries(sizes, _KNOWN_LABELS)}
        shared = len(names & tensors.keys())
        return len(names ^ tensors.keys()) if shared else 10**9

    best = min((known for known in layouts if not known.twin), key=misfit)
    if misfit(best) == 10**9:
        raise InputError(
            f"{path}: expected the tensors of one of "
            f"{', '.join(known.name for known in layouts)}, got "
            f"{', '.join(list(tensors)[:8])}"
        )
    return best


def _labels(layout: Layout, tensors: dict[str, NDArray[Any]]) -> int:
    bias = tensors.get(layout.labels_from)
    return _KNOWN_LABELS if bias is None or not bias.ndim else bias.shape[-1]


def _check(
    path: str | os.PathLike[str],
    layout: Layout,
    entries: list[Entry],
    tensors: dict[str, NDArray[Any]],
) -> None:
    """Raises one InputError with all that is wrong."""
    known = {entry.source: entry for entry in entries}
    missing = [e.source for e in entries if e.source not in tensors and not e.optional]
    wrong = []
    for name in known.keys() & tensors.keys():
        shape = tuple(tensors[name].shape)
        if layout.container == "caffemodel" and len(shape) == 4:
            shape = _without_leading_ones(shape, len(known[name].shape))
        if shape != known[name].shape or tensors[name].dtype.kind != "f":
            wrong.append(
                f"{name} (expected {list(known[name].shape)}, got "
                f"{list(tensors[name].shape)} of {tensors[name].dtype})"
            )
    kinds = {
        "missing": missing,
        "left over": [name for name in tensors if name not in known],
        "of another shape": sorted(wrong),
    }
    faults = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise InputError(
            f"{path}: expected the tensors of {layout.name} ({layout.title}), got "
            f"{'; '.join(faults)}"
        )


def _without_leading_ones(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Caffe's old blobs have four axes, whatever they hold."""
    extra = len(shape) - rank
    return shape[extra:] if extra > 0 and set(shape[:extra]) == {1} else shape


def _arrange(
    path: str | os.PathLike[str],
    entries: list[Entry],
    tensors: dict[str, NDArray[Any]],
) -> dict[str, NDArray[np.float32]]:
    tree: dict[str, NDArray[np.float32]] = {}
    infinite = []
    for entry in entries:
        if entry.target is None:
            continue
        if entry.source in tensors:
            array = entry.arrange(tensors[entry.source])
        else:
            array = np.zeros(entry.shape, np.float32)
        if not np.isfinite(array).all():
            infinite.append(entry.source)
        tree[entry.target] = array
    if infinite:
        raise InputError(
            f"{path}: expected finite numbers, got others in {', '.join(infinite)}"
        )
    return tree
