"""The training run: its stages one after another, each resumed where it stopped."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from crfrnn_jax.data import (
    SegmentationData,
    eval_examples,
    load_dataset,
    train_batches,
)
from crfrnn_jax.evaluation.panels import save_panels
from crfrnn_jax.evaluation.prediction import end_to_end_predictor, plain_predictor
from crfrnn_jax.evaluation.scoring import score
from crfrnn_jax.models import Segmenter, build_segmenter
from crfrnn_jax.training.checkpoints import (
    CheckpointError,
    StageCheckpoints,
    latest_checkpoint,
    load_for_evaluation,
)
from crfrnn_jax.training.configuration import (
    STAGES,
    Config,
    check_config,
)
from crfrnn_jax.training.initial import fresh_params, initial_params
from crfrnn_jax.training.journal import Journal
from crfrnn_jax.training.optimizers import make_optimizer, stage_schedule
from crfrnn_jax.training.same_run import ancestry, differences, make_places_absolute
from crfrnn_jax.training.steps import (
    TrainStep,
    init_state,
    make_train_step,
)
from crfrnn_jax.writing import check_folder


class NonFiniteLossError(Exception):
    """The loss became infinite or NaN; the last checkpoint is from before."""


def train(config: Config, workdir: Path) -> None:
    """Runs every stage of the config that is not done yet.

    A stage starts from the parameters of the one it names, or afresh. The same call on
    the same work directory goes on from the newest checkpoint and, on a CPU, lands on
    the same numbers as a run that was never stopped.

    Args:
      config: as in `configs/`.
      workdir: where checkpoints, logs and panels go; made if it is not there.

    Raises:
      ValueError: the config, the data or the work directory is wrong.
      CheckpointError: the work directory holds a run of another config.
      NonFiniteLossError: the loss became infinite or NaN.
    """
    check_folder("workdir", Path(workdir))
    check_config(config)
    config = config.copy_and_resolve_references()
    make_places_absolute(config.data)
    data = load_dataset(config.data)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    model = build_segmenter(config, data.num_labels)
    for name in config.stages:
        _run_stage(config, name, model, data, workdir)


def _run_stage(
    config: Config,
    name: str,
    model: Segmenter,
    data: SegmentationData,
    workdir: Path,
) -> None:
    stage = config[name]
    meta = {
        "config": json.loads(config.to_json_best_effort()),
        "stage": name,
        "class_names": list(data.class_names),
        "num_examples": {split: len(data.splits[split]) for split in data.splits},
    }
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(StageCheckpoints(workdir, name))
        )
        done = checkpoints.latest_step() or 0
        saved = checkpoints.restore_meta() if done else None
        if saved:
            _check_same_run(saved, meta, checkpoints.directory)
        if done == stage.steps:
            return

        seed = _stage_seed(config.seed, name)
        batches = train_batches(
            data,
            batch_size=stage.batch_size,
            crop=stage.crop,
            augment=config.augment,
            seed=seed,
            canvas=config.canvas,
        )
        stack.callback(batches.close)
        train_step, optimizer = _prepare_stage(stage, model, data)
        if saved:
            batches.set_state(saved["data"])
            # Only its shapes count: what the stage once started from may be gone.
            params = fresh_params(model, jax.random.key(0))
            like = init_state(params, optimizer, jax.random.key(0))
            state = checkpoints.restore(like)
        else:
            params = _initial_params(config, stage, model, workdir)
            state = init_state(params, optimizer, jax.random.key(seed))
        # Restored arrays are bound to their device and fresh ones are not: as they came
        # the second step, whose state is all bound, would compile once more.
        state = jax.device_put(state, jax.devices()[0])

        schedule = stage_schedule(stage)
        journal = stack.enter_context(Journal(workdir, name, done, stage.steps))
        recorded = []
        started = time.monotonic()
        for step in range(done + 1, stage.steps + 1):
            state, scalars = train_step(state, next(batches))
            recorded.append(scalars)
            journal.advance(step)
            # Reading a scalar waits for the device: only every so often.
            if not _due(step, config.log_every, stage):
                continue
            means = _means_of_finite(recorded, name, step)
            seconds = time.monotonic() - started
            means["images_per_second"] = len(recorded) * stage.batch_size / seconds
            means["learning_rate"] = float(np.asarray(schedule(step - 1)))
            journal.write(step, means)
            if _due(step, stage.eval_every, stage):
                scores = _validate(
                    config, name, model, state.params, data, workdir, step
                )
                journal.write(step, scores)
            # Last, so that a stage whose last checkpoint is there is wholly done.
            if _due(step, stage.checkpoint_every, stage):
                checkpoints.save(state, meta | {"data": batches.get_state()})
            recorded = []
            started = time.monotonic()


def _prepare_stage(
    stage: Config, model: Segmenter, data: SegmentationData
) -> tuple[TrainStep, optax.GradientTransformation]:
    """The stage's compiled update and its optimiser."""
    optimizer = make_optimizer(stage)
    train_step = make_train_step(
        model,
        optimizer,
        use_crf=stage.use_crf,
        ignore_label=data.ignore_label,
        class_weights=class_weights(data) if stage.class_weighting == "log" else None,
        reduction=stage.reduction,
        robustness=stage.robustness,
    )
    return train_step, optimizer


def _stage_seed(seed: int, stage: str) -> int:
    """A seed that no other stage of any other run's seed shares."""
    mixed = np.random.SeedSequence((seed, STAGES.index(stage)))
    return int(mixed.generate_state(1)[0])


def _due(step: int, every: int, stage: Config) -> bool:
    return step % every == 0 or step == stage.steps


def _initial_params(
    config: Config, stage: Config, model: Segmenter, workdir: Path
) -> Any:
    if not stage.start_from:
        return initial_params(model, jax.random.key(config.seed), config.init)
    earlier = latest_checkpoint(workdir, stage.start_from)
    assert earlier is not None  # check_config: it is among the stages before this one
    params, _ = load_for_evaluation(earlier)
    return params


def _check_same_run(saved: dict[str, Any], given: dict[str, Any], where: Path) -> None:
    stages = ancestry(given["config"], given["stage"])
    changed = differences(saved["config"], given["config"], stages=stages)
    if changed:
        raise CheckpointError(
            f"{where}: holds a run of another config; give another --workdir, or the "
            "config it was started with. Saved -> given: " + "; ".join(changed)
        )
    if saved.get("num_examples") != given["num_examples"]:
        raise CheckpointError(
            f"{where}: holds a run on another data set, of {saved.get('num_examples')} "
            f"examples; the one given has {given['num_examples']}"
        )


def _means_of_finite(
    recorded: list[dict[str, jax.Array]], stage: str, last_step: int
) -> dict[str, float]:
    """Means of the scalars of these steps; an error if one is not finite.

    A lattice that overflowed is seen here, too: it filters to NaN.
    """
    recorded = jax.device_get(recorded)
    for step, scalars in enumerate(recorded, last_step - len(recorded) + 1):
        if not all(np.isfinite(value) for value in scalars.values()):
            raise NonFiniteLossError(
                f"stage '{stage}', step {step}: loss {scalars['loss']}, gradient norm "
                f"{scalars['gradient_norm']}. No checkpoint holds this step or a later "
                f"one. In a new --workdir, try a lower --config.{stage}.learning_rate, "
                f"a longer --config.{stage}.warmup_steps or, with the CRF, a lower "
                f"--config.{stage}.weights_learning_rate."
            )
    return {
        name: float(np.mean([scalars[name] for scalars in recorded]))
        for name in recorded[0]
    }


def _validate(
    config: Config,
    stage: str,
    model: Segmenter,
    params: Any,
    data: SegmentationData,
    workdir: Path,
    step: int,
) -> dict[str, float]:
    """Scores some validation images and saves panels of the first few."""
    multiple_of = config.eval.multiple_of
    plain = plain_predictor(model, params, multiple_of=multiple_of)
    rows = {"plain": plain}
    if config[stage].use_crf:
        end_to_end = end_to_end_predictor(
            model, params, config.eval.num_iterations, multiple_of=multiple_of
        )
        rows = {"unary": plain, "end_to_end": end_to_end}
    limit = config.eval.validation_images
    scores = score(rows, data, eval_examples(data, "val", limit=limit))
    examples = eval_examples(data, "val", limit=config.eval.panels)
    save_panels(workdir / "panels" / f"{stage}_{step:06d}.png", rows, data, examples)
    return {
        f"val_mean_iou_{row}": rows_score.mean_iou for row, rows_score in scores.items()
    }


def class_weights(data: SegmentationData) -> np.ndarray:
    """Weights 1 / log(1.02 + share of the training pixels) of the classes.

    They lift rare classes without letting them rule (Paszke et al. 2016, ENet).

    Returns:
      float32 [labels], with mean 1.
    """
    counts = np.zeros(data.num_labels, np.int64)
    for example in data.splits["train"]:
        valid = example["label"][example["label"] != data.ignore_label]
        counts += np.bincount(valid, minlength=data.num_labels)
    weights = 1.0 / np.log(1.02 + counts / counts.sum())
    return (weights / weights.mean()).astype(np.float32)
