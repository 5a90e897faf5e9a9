"""A CRF fitted to any network's scores of labelled images, from files to a file."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from crfrnn_jax.attributes import attributes_of, check_attributes
from crfrnn_jax.checks import InputError, check_integer, shown
from crfrnn_jax.crf_file import save_crf
from crfrnn_jax.data import SegmentationData, eval_examples
from crfrnn_jax.data.folder import open_folder
from crfrnn_jax.data.scores import ScoreKind, as_logits, read_scores
from crfrnn_jax.evaluation.prediction import likeliest_labels
from crfrnn_jax.fitting import Objective, fit_crf
from crfrnn_jax.layers import CRFRNN, fresh_variables
from crfrnn_jax.metrics import confusion_matrix, mean_iou
from crfrnn_jax.sections import at_least, check_section, one_of, section, texts
from crfrnn_jax.training.configuration import Config
from crfrnn_jax.weights.arrays import check_target


def _check_crf(name: str, value: Any) -> None:
    needed = sorted({*attributes_of(CRFRNN)} - {"spatial_method"})
    check_section(name, value)
    check_attributes(name, CRFRNN, value, needed=needed)


def _folder(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}: expected a folder, got {shown(value)}")


_CONFIG = section(
    {
        "data": section(
            {
                "dir": _folder,
                "scores_dir": _folder,
                "scores": one_of(*get_args(ScoreKind)),
                "ignore_label": check_integer,
            }
        ),
        "crf": _check_crf,
        "fit": section(
            {
                "train_images": at_least(1),
                "val_images": at_least(1),
                "objective": one_of(*get_args(Objective)),
                "steps": at_least(1),
                "frozen": texts,
            }
        ),
    }
)


class Fit(NamedTuple):
    """How a fit went.

    Attributes:
      losses: float [steps + 1], on the training images, as `fit_crf` gives them.
      mean_ious: 0..1, of the network alone, the CRF as set up and the CRF fitted, for
        each split.
    """

    losses: np.ndarray
    mean_ious: dict[str, tuple[float, ...]]


class _Scenes(NamedTuple):
    """Images of a split, padded below and on the right to one size.

    Attributes:
      images: uint8 [scenes, height, width, 3].
      logits: float32 [scenes, height, width, labels].
      labels: int32 [scenes, height, width], the ignore label where padded.
      masks: bool [scenes, height, width], False there, or None where none is padded.
    """

    images: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


def fit(config: Config, out: Path, *, force: bool = False) -> Fit:
    """Fits a CRF to labelled images and a network's scores of them, and writes it.

    Args:
      config: in `data`, `dir` with `{train,val}/{images,labels}` as the data set
        `folder`, and `scores_dir` with `{train,val}/SCORES/STEM.npy`, float [height,
        width, labels], where SCORES is `scores`, "probabilities" or "logits". In `crf`,
        the attributes of `CRFRNN`. In `fit`, arguments of `fit_crf`, and how many
        images of each split, evenly spread over it: the CRF is fitted to those of
        `train`.
      out: the file to write, an .npz, for `load_crf`.
      force: whether it may be replaced.

    Returns:
      The losses, and scores on both splits.

    Raises:
      FileNotFoundError: a folder or a partner of an image is missing.
      ValueError: naming the key or the file that is wrong.
    """
    check_target(out, force)
    _CONFIG("config", config)
    num_labels = _count_labels(config.data)
    layer = CRFRNN(num_labels, **config.crf)
    start = fresh_variables(layer)  # which finds out what is wrong with the layer
    scenes = _read_scenes(config, num_labels)
    train, ignore_label = scenes["train"], config.data.ignore_label
    fitted = fit_crf(
        layer,
        train.images,
        train.logits,
        train.labels,
        mask=train.masks,
        objective=config.fit.objective,
        ignore_label=ignore_label,
        frozen=tuple(config.fit.frozen),
        steps=config.fit.steps,
        variables=start,
    )
    save_crf(out, layer, fitted.variables, force=force)
    mean_ious = {
        split: tuple(
            _mean_iou(layer, variables, of_split, ignore_label)
            for variables in (None, start, fitted.variables)
        )
        for split, of_split in scenes.items()
    }
    return Fit(fitted.losses, mean_ious)


def format_fit(result: Fit) -> str:
    """The losses and scores, for the console."""
    first, *_, last = result.losses
    lines = [f"loss: {first:.4g} at the start, {last:.4g} fitted"]
    columns = ("network alone", "CRF as set up", "CRF fitted")
    lines.append("mean IoU" + "".join(f"{column:>15}" for column in columns))
    for split, scores in result.mean_ious.items():
        numbers = "".join(f"{100 * score:15.2f}" for score in scores)
        lines.append(f"{split:8}{numbers}")
    return "\n".join(lines)


def _scores_folder(data: Config, split: str) -> Path:
    return Path(data.scores_dir).expanduser() / split / data.scores


def _count_labels(data: Config) -> int:
    folder = _scores_folder(data, "train")
    images = (Path(data.dir).expanduser() / "train" / "images").glob("*")
    stems = {image.stem for image in images}
    paths = sorted(path for path in folder.glob("*.npy") if path.stem in stems)
    if not paths:
        raise FileNotFoundError(
            f"{folder}: expected an .npy for each image, got none; python -m "
            "crfrnn_jax.predict --probabilities writes them"
        )
    return read_scores(paths[0]).shape[-1]


def _read_scenes(config: Config, num_labels: int) -> dict[str, _Scenes]:
    """The scenes of each split."""
    ignore_label = config.data.ignore_label
    sources = open_folder(config.data.dir, num_labels, ignore_label)
    names = tuple(map(str, range(num_labels)))
    data = SegmentationData(names, ignore_label, sources)
    examples = {}
    for split in ("train", "val"):
        limit = config.fit[f"{split}_images"]
        examples[split] = [
            example | {"logits": _read_logits(config.data, split, example, num_labels)}
            for example in eval_examples(data, split, limit=limit)
        ]
    return _of_one_size(examples, ignore_label)


def _read_logits(
    data: Config, split: str, example: Mapping[str, Any], num_labels: int
) -> np.ndarray:
    path = _scores_folder(data, split) / f"{example['name']}.npy"
    scores = read_scores(path)
    expected = (*example["label"].shape, num_labels)
    if scores.shape != expected:
        raise InputError(
            f"{path}: expected shape {list(expected)}, of the image and of the other "
            f"scores, got {list(scores.shape)}"
        )
    return as_logits(path, data.scores, scores)


def _of_one_size(
    examples: Mapping[str, list[dict[str, Any]]], ignore_label: int
) -> dict[str, _Scenes]:
    """All at the greatest height and width of any, for which one program does."""
    shapes = {e["label"].shape for of_split in examples.values() for e in of_split}
    height, width = np.max(list(shapes), axis=0)

    def stack(arrays: Iterable[np.ndarray], value: int = 0) -> np.ndarray:
        padded = []
        for array in arrays:
            pads = [(0, height - array.shape[0]), (0, width - array.shape[1])]
            pads += [(0, 0)] * (array.ndim - 2)
            padded.append(np.pad(array, pads, constant_values=value))
        return np.stack(padded)

    return {
        split: _Scenes(
            stack(example["image"] for example in of_split),
            stack(example["logits"] for example in of_split),
            stack((example["label"] for example in of_split), ignore_label),
            stack(np.ones(example["label"].shape, bool) for example in of_split)
            if len(shapes) > 1
            else None,
        )
        for split, of_split in examples.items()
    }


def _mean_iou(
    layer: CRFRNN,
    variables: dict[str, Any] | None,
    scenes: _Scenes,
    ignore_label: int,
) -> float:
    """Of the network alone if there are no variables."""
    total = np.zeros((layer.num_labels, layer.num_labels), np.int64)
    for i, (logits, labels) in enumerate(
        zip(scenes.logits, scenes.labels, strict=True)
    ):
        if variables is not None:
            one = slice(i, i + 1)
            mask = None if scenes.masks is None else scenes.masks[one]
            images = scenes.images[one]
            (logits,) = _refined(layer, variables, images, scenes.logits[one], mask)
        total += confusion_matrix(
            labels=labels,
            predictions=likeliest_labels(logits),
            num_labels=layer.num_labels,
            ignore_label=ignore_label,
        )
    return mean_iou(total)


@partial(jax.jit, static_argnums=0)
def _refined(layer, variables, images, logits, mask):
    return layer.apply(variables, images, logits, mask)
