"""Several data sets of the same classes as one.

Images are told apart by their names, which VOC 2012 and SBD share. An image that is in
several parts is taken from the first, and one that is in the validation split is never
trained on. With VOC 2012 before SBD this gives the usual training sets: 11 685 images
beside the reduced validation set of 346 (SBD's "val"), 10 582 beside VOC's whole 1449.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from crfrnn_jax.checks import InputError, check_choice, check_keys
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.placed import check_count
from crfrnn_jax.data.prepared import Example, PreparedSource

# Opens a part, given its config, the key of that, and the splits that are needed.
LoadPart = Callable[[Any, str, Iterable[str]], SegmentationData]


def load_mixture(config: Any, key: str, load_part: LoadPart) -> SegmentationData:
    """Opens the parts of a mixture, and prepares them first.

    Args:
      config: has `parts`, a config for each by a name of one's own; `train`, the names
        of those to train on, the first of an image's counting, and `val`, of the one to
        validate on; `dir` and `prepared_dir`, for parts that have "" there; and
        `counts` of the splits, 0 for any.
      key: the config's own key, for messages.
      load_part: opens splits of a prepared data set, given its config and key.

    Returns:
      The data set.

    Raises:
      ValueError: a key, a count or a file is wrong, or the parts' classes differ.
      FileNotFoundError: a part's data is not there; the message says where to get it.
    """
    names = tuple(config.parts)
    if isinstance(config.train, str) or not config.train:
        raise InputError(
            f"{key}.train: expected parts in a tuple, ('one', 'two'), got "
            f"{config.train!r}"
        )
    for name in config.train:
        check_choice(f"{key}.train", name, names)
    check_choice(f"{key}.val", config.val, names)

    def load(name: str, split: str) -> SegmentationData:
        part_key, part = f"{key}.parts.{name}", config.parts[name]
        check_keys(part_key, part, ("dir", "prepared_dir"))
        part = part.copy_and_resolve_references()
        part.dir = part.dir or config.dir
        part.prepared_dir = part.prepared_dir or config.prepared_dir
        return load_part(part, part_key, (split,))

    val = load(config.val, "val")
    taken = {example.name for example in _examples(val, "val")}
    mixed = []
    for name in config.train:
        part = load(name, "train")
        if part.class_names != val.class_names:
            raise InputError(
                f"{key}.parts.{name}: expected the classes of part {config.val!r}, "
                f"{val.class_names}, got {part.class_names}"
            )
        new = [e for e in _examples(part, "train") if e.name not in taken]
        taken.update(example.name for example in new)
        mixed += new
    splits = {"train": PreparedSource(mixed), "val": val.splits["val"]}
    for split, source in splits.items():
        check_count(key, config.counts, split, len(source))
    return SegmentationData(val.class_names, val.ignore_label, splits)


def _examples(part: SegmentationData, split: str) -> Sequence[Example]:
    source = part.splits[split]
    assert isinstance(source, PreparedSource)  # load_part opens no others
    return source.examples
