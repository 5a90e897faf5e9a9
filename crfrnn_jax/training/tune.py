"""The search for a hand-set CRF, from a run's checkpoint alone."""

import logging
from pathlib import Path

import jax

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.data import eval_examples
from crfrnn_jax.evaluation.prediction import CRFSetting
from crfrnn_jax.evaluation.search import (
    Found,
    Grid,
    Progress,
    check_search,
    cross_validate,
)
from crfrnn_jax.evaluation.tuning import setting_scorer
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.processes import check_alike, is_first, own_part
from crfrnn_jax.training.carried import evaluation_config, evaluation_data
from crfrnn_jax.training.checkpoints import load_for_evaluation
from crfrnn_jax.training.configuration import Config
from crfrnn_jax.training.evaluate import unary_on_devices
from crfrnn_jax.training.networks import check_params
from crfrnn_jax.training.same_run import without_places
from crfrnn_jax.writing import check_folder, write_text

logger = logging.getLogger(__name__)


def tune(
    checkpoint: Path,
    out: Path,
    grid: Grid,
    *,
    factor: float,
    rounds: int,
    folds: int,
    override: Config | None = None,
) -> Found:
    """Searches for the best CRF after a network, on training images.

    These are `config.postprocessing.train_images`, evenly spread over the split; the
    iterations are `config.eval.num_iterations`. Written are `out`, a flag file by which
    `train.py` and `eval.py` take the setting found, and `out`.progress.jsonl, from
    which the same call goes on where one was stopped. The images are shared out over
    all devices of this machine; of several processes each makes the same call and the
    first one writes.

    Args:
      checkpoint: of any stage; of its network the CRF is set up behind.
      out: the flag file.
      grid: the values to start with, as in `search`.
      factor: of the first round of refinement, as in `search`.
      rounds: of refinement, as there.
      folds: into how many the images fall; 1 is no cross-validation.
      override: a config whose `eval`, `postprocessing` and, unless empty, folders of
        `data` stand in for those of the training. A network whose class is not one of
        this package's needs one that names the same class.

    Returns:
      The setting and its scores.

    Raises:
      CheckpointError: the checkpoint is missing or damaged.
      ValueError, FileNotFoundError: an argument is wrong, the progress is of something
        else, or the data is not there.
    """
    out = Path(out)
    if out.is_dir():
        raise InputError(f"out: expected a file, got the folder {out}")
    check_folder("folder of out", out.parent)
    check_search(grid, factor=factor, rounds=rounds)
    check_at_least("folds", folds, 1)
    params, meta = load_for_evaluation(checkpoint)
    config = evaluation_config(Path(checkpoint), meta, override)
    search = f"{without_places(config)} {grid} {factor} {rounds} {folds}"
    check_alike("search", search, "config and flags")
    data = evaluation_data(config, override)
    model = build_segmenter(config, data.num_labels)
    check_params(Path(checkpoint), model, params)
    images = min(config.postprocessing.train_images, len(data.splits["train"]))
    if folds > images:
        raise InputError(f"folds: expected at most the {images} images, got {folds}")
    scored = {
        "checkpoint": str(Path(checkpoint).absolute()),
        "training": meta["config"],
        "images": [images, len(data.splits["train"])],
        "folds": folds,
        "num_iterations": config.eval.num_iterations,
        "multiple_of": config.eval.multiple_of,
    }
    progress = Progress(out.with_name(out.name + ".progress.jsonl"), scored)
    if progress.known:
        logger.info("%d settings were scored before", len(progress.known))
    score_setting = setting_scorer(
        unary_on_devices(config, model, params),
        data,
        eval_examples(data, "train", limit=images, part=own_part()),
        jax.local_devices(),
        num_iterations=config.eval.num_iterations,
        multiple_of=config.eval.multiple_of,
    )
    found = cross_validate(
        progress.score_folds(score_setting, folds, _report),
        grid,
        factor=factor,
        rounds=rounds,
    )
    if is_first():
        write_text(out, as_flag(found.setting) + "\n")
    return found


def as_flag(setting: CRFSetting) -> str:
    """The setting as a flag, without spaces, so that no shell or file splits it."""
    numbers = ",".join(str(float(value)) for value in setting)
    return f"--config.postprocessing.candidates=(({numbers}),)"


def format_found(found: Found) -> str:
    """What was found, for the console."""
    lines = [f"{name}: {value:g}" for name, value in found.setting._asdict().items()]
    lines.append(f"mean IoU on all images: {100 * found.mean_iou:.2f}")
    lines.append(f"mean over the folds: {100 * found.seen:.2f}")
    if found.held_out is not None:
        lines.append(
            f"the same, of settings found without the fold: {100 * found.held_out:.2f}"
        )
    return "\n".join(lines)


def _report(setting: CRFSetting, result: float) -> None:
    numbers = " ".join(f"{number:g}" for number in setting)
    logger.info("%s: mean IoU %.2f", numbers, 100 * result)
