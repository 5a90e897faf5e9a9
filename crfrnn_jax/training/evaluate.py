"""The evaluation of a run, from its checkpoints alone."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from crfrnn_jax.checks import InputError
from crfrnn_jax.data import SegmentationData, eval_examples
from crfrnn_jax.evaluation.devices import Device
from crfrnn_jax.evaluation.panels import save_panels
from crfrnn_jax.evaluation.prediction import (
    CRFSetting,
    Predict,
    Unary,
    end_to_end_predictor,
    plain_predictor,
    postprocessing_predictor,
    unary_of,
)
from crfrnn_jax.evaluation.report import TRIMAP_WIDTHS, format_tables, plot_trimaps
from crfrnn_jax.evaluation.scoring import score
from crfrnn_jax.evaluation.tuning import UnaryOn, tune_postprocessing
from crfrnn_jax.models import Segmenter, build_segmenter
from crfrnn_jax.processes import check_alike, is_first, own_part
from crfrnn_jax.training.carried import evaluation_config, evaluation_data
from crfrnn_jax.training.checkpoints import load_for_evaluation
from crfrnn_jax.training.configuration import Config
from crfrnn_jax.training.networks import check_params
from crfrnn_jax.training.same_run import ancestry, differences, without_places
from crfrnn_jax.writing import write_json, write_text

logger = logging.getLogger(__name__)

# The rows of the table that each checkpoint gives.
_ROWS = {"plain": ("plain", "postprocessing"), "end_to_end": ("end_to_end",)}


def evaluate(
    plain: Path | None,
    end_to_end: Path | None,
    directory: Path,
    *,
    override: Config | None = None,
) -> str:
    """Scores checkpoints on the validation images and writes the results.

    Nothing but the checkpoints is needed: they carry the config. Written are
    `results.json`, `results.md`, `trimap.png` and `panels.png`. The images are shared
    out over all devices of this machine; of several processes each makes the same call
    and the first one writes.

    Args:
      plain: checkpoint of the network trained without the CRF, for the plain and the
        post-processing rows, or None to leave those out.
      end_to_end: checkpoint of the network trained with the CRF, or None.
      directory: where the results go; made if it is not there.
      override: a config whose `eval`, `postprocessing` and, unless empty, folders of
        `data` stand in for those of the training. A network whose class is not one of
        this package's needs one that names the same class.

    Returns:
      The tables as Markdown.

    Raises:
      CheckpointError: a checkpoint is missing or damaged.
      ValueError, FileNotFoundError: the data the config names is not there or wrong.
    """
    if directory.is_symlink():
        raise InputError(
            f"{directory}: expected a folder, got a symbolic link, which may lead out "
            "of the work directory; remove it"
        )
    given = {"plain": plain, "end_to_end": end_to_end}
    paths = {row: path for row, path in given.items() if path is not None}
    loaded = {row: load_for_evaluation(path) for row, path in paths.items()}
    unfinished = _unfinished(paths, {row: meta for row, (_, meta) in loaded.items()})
    for line in unfinished:
        logger.warning("%s", line)
    metas = [meta for _, meta in loaded.values()]
    _check_one_run(metas)
    config = evaluation_config(next(iter(paths.values())), metas[0], override)
    check_alike("config", without_places(config), "config")
    data = evaluation_data(config, override)
    model = build_segmenter(config, data.num_labels)
    for row, (params, _) in loaded.items():
        check_params(paths[row], model, params)
    results: dict[str, Any] = {
        "class_names": list(data.class_names),
        "checkpoints": {row: str(paths[row]) for row in loaded},
        "unfinished": unfinished,
    }

    setting = None
    if "plain" in loaded:
        setting = tuned_setting(config, model, loaded["plain"][0], data)
        results["postprocessing"] = setting._asdict()

    def predictors_on(device: Device) -> dict[str, Predict]:
        predictors = {}
        for trained, (params, _) in loaded.items():
            own = jax.device_put(params, device)
            for row in _ROWS[trained]:
                predictors[row] = row_predictor(row, config, model, own, setting)
        return predictors

    devices = jax.local_devices()
    scores = score(
        predictors_on,
        data,
        eval_examples(data, "val", part=own_part()),
        devices,
        trimap_widths=TRIMAP_WIDTHS,
    )
    results["trimap_widths"] = list(TRIMAP_WIDTHS)
    results["rows"] = {row: scores[row].summary() for row in scores}
    tables = "".join(f"{line}\n\n" for line in unfinished)
    tables += format_tables(scores, data.class_names)
    if is_first():
        # In place of what is there: through a link, in a work directory of a
        # stranger's, they would be written wherever it leads.
        write_json(directory / "results.json", results)
        write_text(directory / "results.md", tables)
        plot_trimaps(directory / "trimap.png", scores)
        examples = eval_examples(data, "val", limit=config.eval.panels)
        rows = predictors_on(devices[0])
        save_panels(directory / "panels.png", rows, data, examples)
    return tables


def _unfinished(
    paths: Mapping[str, Path], metas: Mapping[str, dict[str, Any]]
) -> list[str]:
    """A line for each row whose checkpoint is not its stage's last."""
    lines = []
    for row, meta in metas.items():
        done, steps = int(paths[row].name), meta["config"][meta["stage"]]["steps"]
        if done < steps:
            lines.append(f"{row}: unfinished, step {done} of {steps}")
    return lines


def _check_one_run(metas: list[dict[str, Any]]) -> None:
    """Raises InputError unless the checkpoints are of one run."""
    if not metas:
        raise InputError("expected a plain or an end-to-end checkpoint, got neither")
    first, *others = (meta["config"] for meta in metas)
    # The stages that all come from: their settings have to be the same as well.
    shared = set.intersection(
        *(set(ancestry(meta["config"], meta["stage"])) for meta in metas)
    )
    for other in others:
        changed = differences(first, other, stages=shared)
        if changed:
            raise InputError(
                "expected checkpoints of one run; their configs differ in "
                + "; ".join(changed)
            )


def row_predictor(
    row: str,
    config: Config,
    model: Segmenter,
    params: Any,
    setting: CRFSetting | None,
) -> Predict:
    """What predicts a row of the table.

    Args:
      row: "plain", "postprocessing" or "end_to_end".
      config: for its `eval`.
      model: the segmenter.
      params: its parameters, on the device that is to compute.
      setting: of the post-processing, for that row alone.
    """
    multiple_of, iterations = config.eval.multiple_of, config.eval.num_iterations
    if row == "plain":
        return plain_predictor(model, params, multiple_of=multiple_of)
    if row == "end_to_end":
        return end_to_end_predictor(model, params, iterations, multiple_of=multiple_of)
    assert setting is not None
    return postprocessing_predictor(
        model, params, setting, iterations, multiple_of=multiple_of
    )


def tuned_setting(
    config: Config, model: Segmenter, params: Any, data: SegmentationData
) -> CRFSetting:
    """The best candidate of the config's `postprocessing`, each logged."""

    def report(setting: CRFSetting, result: float) -> None:
        numbers = " ".join(f"{number:g}" for number in setting)
        logger.info("post-processing %s: mean IoU %.2f", numbers, 100 * result)

    limit = config.postprocessing.train_images
    return tune_postprocessing(
        unary_on_devices(config, model, params),
        data,
        eval_examples(data, "train", limit=limit, part=own_part()),
        jax.local_devices(),
        [CRFSetting(*candidate) for candidate in config.postprocessing.candidates],
        num_iterations=config.eval.num_iterations,
        multiple_of=config.eval.multiple_of,
        report=report,
    )


def unary_on_devices(config: Config, model: Segmenter, params: Any) -> UnaryOn:
    """What gives the backbone's logits on a device, as a search wants it."""

    def unary_on(device: Device) -> Unary:
        own = jax.device_put(params, device)
        return unary_of(model, own, multiple_of=config.eval.multiple_of)

    return unary_on
