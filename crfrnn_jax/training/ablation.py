"""Ablations: one network trained in several ways, over several seeds, in one table.

A work directory holds `seed_S/base`, a run of the config itself, and beside it
`seed_S/NAME` for each ablation. Those that change the training hold a run of the stage
`end_to_end` alone, from the same network as the base's; the others score the base's
checkpoints. Whatever is done is kept: the same call goes on where one was stopped.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from crfrnn_jax.checks import InputError, check_at_least, check_choice
from crfrnn_jax.data import eval_examples, load_dataset
from crfrnn_jax.evaluation.comparison import (
    Outcome,
    format_outcomes,
    outcomes_as_json,
)
from crfrnn_jax.evaluation.devices import Device
from crfrnn_jax.evaluation.prediction import Predict
from crfrnn_jax.evaluation.scoring import score
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation
from crfrnn_jax.training.configuration import (
    Config,
    check_config,
)
from crfrnn_jax.training.evaluate import row_predictor, tuned_setting
from crfrnn_jax.training.loop import train
from crfrnn_jax.training.recording import NonFiniteLossError
from crfrnn_jax.training.same_run import ancestry, differences
from crfrnn_jax.writing import check_folder, write_json, write_text

logger = logging.getLogger(__name__)

_BASE = "base"
_TRIMAP = 1  # px
# What an ablation may change: what comes after the shared stages.
_SECTIONS = {
    "end_to_end": ("crf", "end_to_end", "eval", "postprocessing"),
    "plain": ("eval", "postprocessing"),
}


class Ablation(NamedTuple):
    """What an ablation changes, and what of the run is scored.

    Attributes:
      overrides: values of the config by key, {"crf.weights_form": "scalar"}.
      stage: "end_to_end" or "plain", whose network is scored.
      row: how: "plain", the network alone; "postprocessing", with a hand-set CRF after
        it; "end_to_end", with the CRF layer that it was trained or started with.
    """

    overrides: Mapping[str, Any] = {}  # never written to
    stage: Literal["end_to_end", "plain"] = "end_to_end"
    row: Literal["plain", "postprocessing", "end_to_end"] = "end_to_end"


def ablate(
    config: Config,
    workdir: Path,
    ablations: Mapping[str, Ablation],
    *,
    reference: str,
    seeds: Sequence[int],
) -> str:
    """Trains and scores ablations for every seed, and writes one table of them.

    `results.md` and `results.json` in the work directory are written anew after each
    run. An ablation whose loss diverges leaves a gap there, and the others go on.

    Args:
      config: as in `configs/`; its `seed` is not used.
      workdir: where all runs go; made if it is not there.
      ablations: by name, in the order of the table.
      reference: the one that the others are compared with.
      seeds: of the training.

    Returns:
      The table as Markdown.

    Raises:
      ValueError: the config, the work directory, a seed or an ablation is wrong.
      CheckpointError: the work directory holds runs of another config.
    """
    check_folder("workdir", Path(workdir))
    check_config(config)
    check_choice("ablations", reference, tuple(ablations))
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds: expected one or more, each once, got {seeds}")
    for seed in seeds:
        check_at_least("seeds", seed, 0)
    # All of them first: a mistake in the last should not wait for the others.
    for name, ablation in ablations.items():
        check_config(ablated(config, name, ablation))
    scores: dict[str, dict[int, Any]] = {name: {} for name in ablations}
    table = ""
    for seed in seeds:
        own = config.copy_and_resolve_references()
        own.seed = seed
        directory = Path(workdir).absolute() / f"seed_{seed}"
        _train_base(own, directory, ablations)
        for name, ablation in ablations.items():
            logger.info("seed %d, %s", seed, name)
            try:
                scores[name][seed] = _run(own, directory, name, ablation)
            except NonFiniteLossError as error:
                logger.warning("%s", error)
            outcomes = {
                name: _outcome(by_seed, seeds) for name, by_seed in scores.items()
            }
            table = format_outcomes(outcomes, reference=reference, seeds=seeds)
            write_text(Path(workdir) / "results.md", table)
            write_json(
                Path(workdir) / "results.json",
                outcomes_as_json(outcomes, reference=reference, seeds=seeds),
            )
    return table


def ablated(config: Config, name: str, ablation: Ablation) -> Config:
    """A copy of the config with an ablation's overrides.

    Raises:
      ValueError: a key is none of the config's, a value is of another type, or the
        config lacks the stage.
    """
    check_choice("config.stages", ablation.stage, tuple(config.stages))
    if name in (_BASE, "", "..") or Path(name).name != name:
        raise InputError(
            f"ablations: expected the name of a folder other than '{_BASE}', "
            f"got {name!r}"
        )
    for key in ablation.overrides:
        check_choice(
            f"section of {name}'s override {key}",
            key.split(".")[0],
            _SECTIONS[ablation.stage],
        )
    config = config.copy_and_resolve_references().lock()
    try:
        config.update_from_flattened_dict(ablation.overrides)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"ablations: expected keys and types of the config's, got {name!r} with "
            f"{dict(ablation.overrides)}: {error.args[0]}"
        ) from error
    return config


def _train_base(
    config: Config, directory: Path, ablations: Mapping[str, Ablation]
) -> None:
    """Runs those stages of the config itself that the ablations need."""
    described = config.to_dict()
    needed = {"end_to_end", *(ablation.stage for ablation in ablations.values())}
    needed = {stage for last in needed for stage in ancestry(described, last)}
    config = config.copy_and_resolve_references()
    config.stages = tuple(stage for stage in config.stages if stage in needed)
    train(config, directory / _BASE)


def _run(
    config: Config, directory: Path, name: str, ablation: Ablation
) -> dict[str, Any]:
    """Trains an ablation if it has to be, and its scores: kept ones if there are."""
    own = ablated(config, name, ablation)
    rundir = directory / _BASE
    stages = ancestry(config.to_dict(), ablation.stage)
    if differences(_as_dict(config), _as_dict(own), stages=stages):
        rundir = directory / name
        train(_from_the_base(own, directory / _BASE), rundir)
        # Each has programs of its own, which no other run uses again.
        jax.clear_caches()
    checkpoint = latest_checkpoint(rundir, ablation.stage)
    assert checkpoint is not None  # train has run that stage
    scored = {
        "checkpoint": str(checkpoint.relative_to(directory)),
        "row": ablation.row,
        "num_iterations": own.eval.num_iterations,
        "multiple_of": own.eval.multiple_of,
    }
    if ablation.row == "postprocessing":
        scored["postprocessing"] = _as_dict(own.postprocessing)
    path = directory / name / "results.json"
    described = _as_dict(own)
    if path.exists():
        kept = json.loads(path.read_text())
        changed = differences(kept["config"], described, stages=stages)
        if kept["scored"] == scored and not changed:
            return kept
    results = {"scored": scored, **_score(own, checkpoint, ablation.row)}
    results["config"] = described
    write_json(path, results)
    return results


def _from_the_base(config: Config, base: Path) -> Config:
    """The config of a run of `end_to_end` alone, from the base's network.

    It starts as the base's stage does: the network is the one which that stage starts
    from, and the CRF, which has not moved before, is as the config sets it up.
    """
    config = config.copy_and_resolve_references()
    start = config.end_to_end.start_from
    config.stages = ("end_to_end",)
    if start:
        checkpoint = latest_checkpoint(base, start)
        assert checkpoint is not None  # _train_base has run that stage
        config.end_to_end.start_from = ""
        config.init.file, config.init.skip = str(checkpoint), ("crf",)
    return config


def _as_dict(config: Config) -> dict[str, Any]:
    """With lists for tuples, as JSON that is read again has them."""
    return json.loads(config.to_json_best_effort())


def _score(config: Config, checkpoint: Path, row: str) -> dict[str, Any]:
    """One row's scores on all validation images."""
    data = load_dataset(config.data)
    model = build_segmenter(config, data.num_labels)
    params, _ = load_for_evaluation(checkpoint)
    setting = None
    if row == "postprocessing":
        setting = tuned_setting(config, model, params, data)

    def predictors_on(device: Device) -> dict[str, Predict]:
        own = jax.device_put(params, device)
        return {row: row_predictor(row, config, model, own, setting)}

    scores = score(
        predictors_on,
        data,
        eval_examples(data, "val"),
        jax.local_devices(),
        trimap_widths=(_TRIMAP,),
    )
    return scores[row].summary()


def _outcome(by_seed: Mapping[int, Any], seeds: Sequence[int]) -> Outcome:
    scores = [by_seed.get(seed) for seed in seeds]
    return Outcome(
        tuple(one["mean_iou"] if one else None for one in scores),
        tuple(one["trimap_mean_iou"][0] if one else None for one in scores),
    )
