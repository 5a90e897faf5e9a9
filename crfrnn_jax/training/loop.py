"""The training run: its stages one after another, each resumed where it stopped."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from crfrnn_jax.data import SegmentationData, load_dataset, train_batches
from crfrnn_jax.data.class_weights import class_weights
from crfrnn_jax.models import Segmenter, build_segmenter
from crfrnn_jax.processes import check_alike, first_does, is_first, of_first, own_part
from crfrnn_jax.training.checkpoints import (
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
from crfrnn_jax.training.journal import Journal, is_validated
from crfrnn_jax.training.lock import check_shared, lock_workdir
from crfrnn_jax.training.mesh import (
    check_batch_size,
    layout_of,
    make_mesh,
    put_batch,
    put_state,
)
from crfrnn_jax.training.optimizers import make_optimizer, stage_schedule
from crfrnn_jax.training.recording import NonFiniteLossError, Recorder, how_to_mend
from crfrnn_jax.training.same_run import (
    check_same_run,
    make_places_absolute,
    without_places,
)
from crfrnn_jax.training.steps import (
    TrainState,
    TrainStep,
    init_state,
    make_train_step,
)
from crfrnn_jax.training.stopping import StoppedError, StopSignal
from crfrnn_jax.training.validation import NoNumbersError, validate
from crfrnn_jax.writing import check_folder


class _Run(NamedTuple):
    """What all stages of a run share."""

    config: Config
    model: Segmenter
    data: SegmentationData
    mesh: Mesh
    workdir: Path
    stop: StopSignal


def train(config: Config, workdir: Path) -> None:
    """Runs every stage of the config that is not done yet.

    A stage starts from the parameters of the one it names, or afresh. The same call on
    the same work directory goes on from the newest whole checkpoint and, on a CPU of
    one device, lands on the same numbers as a run that was never stopped. On SIGTERM it
    writes a checkpoint and ends. Each of several processes makes the same call.

    Args:
      config: as in `configs/`.
      workdir: where checkpoints, logs and panels go; made if it is not there.

    Raises:
      ValueError: the config, the data or the work directory is wrong, or another run
        holds that.
      CheckpointError: the work directory holds a run of another config, or a
        checkpoint can't be written.
      NonFiniteLossError: the loss became infinite or NaN.
      StoppedError: the run was told to stop.
    """
    check_folder("workdir", Path(workdir))
    check_config(config)
    config = config.copy_and_resolve_references()
    make_places_absolute(config.data)
    mesh = make_mesh(config.mesh)
    for name in config.stages:
        stage = config[name]
        key = f"config.{name}"
        check_batch_size(key, stage.batch_size, stage.micro_batches, mesh)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with first_does("taking the work directory"):
            if is_first():
                stack.enter_context(lock_workdir(workdir))
        check_shared(workdir)
        check_alike("config", without_places(config), "config")
        data = load_dataset(config.data)
        model = build_segmenter(config, data.num_labels)
        stop = stack.enter_context(StopSignal())
        run = _Run(config, model, data, mesh, workdir, stop)
        for name in config.stages:
            if stop.is_told():
                raise StoppedError(f"stopped by SIGTERM before stage '{name}'")
            _run_stage(run, name)


class _StageRun(NamedTuple):
    """A stage under way, and what it is kept in.

    Attributes:
      run: which it is a stage of.
      name: its own.
      meta: what its checkpoints say of it, besides how far it is.
      checkpoints: those.
      batches: what it trains on.
      recorder: of the steps since the last line of the log.
      journal: the log.
    """

    run: _Run
    name: str
    meta: dict[str, Any]
    checkpoints: StageCheckpoints
    batches: Any
    recorder: Recorder
    journal: Journal

    @property
    def settings(self) -> Config:
        return self.run.config[self.name]


def _run_stage(run: _Run, name: str) -> None:
    stage, meta = run.config[name], _meta(run, name)
    with contextlib.ExitStack() as stack:
        checkpoints = StageCheckpoints(run.workdir, name)
        stack.callback(checkpoints.close)
        done = checkpoints.latest_step() or 0
        saved = checkpoints.restore_meta() if done else None
        if saved:
            check_same_run(saved, meta, checkpoints.directory)
        # One that was told to stop then: it is made up for.
        lacks_validation = (
            bool(saved)
            and _due(done, stage.eval_every, stage)
            and not is_validated(run.workdir, name, done)
        )
        check_alike("validation", int(lacks_validation), run.workdir)
        if done == stage.steps and not lacks_validation:
            return
        batches = _batches(run, name)
        stack.callback(batches.close)
        train_step, optimizer = _prepare_stage(run, stage)
        if saved:
            batches.set_state(saved["data"])
            state = checkpoints.restore(_state_like(run, optimizer))
        else:
            params = of_first(_initial_params(run, stage), "initial parameters")
            seed = _stage_seed(run.config.seed, name)
            state = init_state(params, optimizer, jax.random.key(seed))
            state = put_state(run.mesh, state)
        recorder = Recorder(
            run.workdir,
            name,
            done,
            skips=run.config.nonfinite == "skip",
            recorded=saved["recorded"] if saved else (),
        )
        journal = stack.enter_context(Journal(run.workdir, name, done, stage.steps))
        under_way = _StageRun(
            run=run,
            name=name,
            meta=meta,
            checkpoints=checkpoints,
            batches=batches,
            recorder=recorder,
            journal=journal,
        )
        if lacks_validation:
            _validate(under_way, state, done)
        _do_steps(under_way, train_step, state, done)


def _do_steps(
    under_way: _StageRun, train_step: TrainStep, state: TrainState, done: int
) -> None:
    """The steps that are not done, with what is due after each."""
    stage, schedule = under_way.settings, stage_schedule(under_way.settings)
    recorder, stop = under_way.recorder, under_way.run.stop
    started, since = time.monotonic(), done
    for step in range(done + 1, stage.steps + 1):
        batch = next(under_way.batches)
        names = batch.pop("name")
        state, scalars = train_step(state, put_batch(under_way.run.mesh, batch))
        recorder.add(step, scalars, names)
        under_way.journal.advance(step)
        stop.listen()
        # Reading a scalar waits for the device: only every so often.
        if _due(step, under_way.run.config.log_every, stage):
            means = recorder.take()
            seconds = time.monotonic() - started
            means["images_per_second"] = (step - since) * stage.batch_size / seconds
            means["learning_rate"] = float(np.asarray(schedule(step - 1)))
            under_way.journal.write(step, means)
            if _due(step, stage.eval_every, stage):
                _validate(under_way, state, step)
            started, since = time.monotonic(), step
        is_last = stop.is_due()
        # After the validation, so that a stage whose last checkpoint is there is done.
        if _due(step, stage.checkpoint_every, stage) or is_last:
            _save(under_way, state)
        if is_last:
            raise _stopped(under_way.name, step)


def _validate(under_way: _StageRun, state: TrainState, step: int) -> None:
    """Scores the state, or saves it if told to stop meanwhile."""
    run, name = under_way.run, under_way.name
    try:
        scores = validate(
            run.config,
            name,
            run.model,
            state.params,
            run.data,
            run.mesh,
            run.workdir / "panels" / f"{name}_{step:06d}.png",
            run.stop.is_told,
        )
    except NoNumbersError as error:
        raise NonFiniteLossError(
            f"stage '{name}', step {step}: scores of validation images are no numbers "
            f"({error}). No checkpoint holds this step; {how_to_mend(name)}"
        ) from error
    except StoppedError:
        if step != under_way.checkpoints.latest_step():
            _save(under_way, state)
        raise _stopped(name, step) from None
    under_way.journal.write(step, scores)


def _save(under_way: _StageRun, state: TrainState) -> None:
    position = {
        "data": under_way.batches.get_state(),
        "recorded": under_way.recorder.scalars(),
    }
    under_way.checkpoints.save(state, under_way.meta | position)


def _stopped(name: str, step: int) -> StoppedError:
    return StoppedError(
        f"stopped by SIGTERM after step {step} of stage '{name}', which is saved; the "
        "same command goes on from there"
    )


def _meta(run: _Run, name: str) -> dict[str, Any]:
    splits = run.data.splits
    return {
        "config": json.loads(run.config.to_json_best_effort()),
        "stage": name,
        "class_names": list(run.data.class_names),
        "num_examples": {split: len(splits[split]) for split in splits},
    }


def _batches(run: _Run, name: str) -> Any:
    stage = run.config[name]
    return train_batches(
        run.data,
        batch_size=stage.batch_size,
        crop=stage.crop,
        augment=run.config.augment,
        seed=_stage_seed(run.config.seed, name),
        canvas=run.config.canvas,
        num_threads=run.config.data_threads,
        part=own_part(),
    )


def _prepare_stage(
    run: _Run, stage: Config
) -> tuple[TrainStep, optax.GradientTransformation]:
    """The stage's compiled update and its optimiser."""
    optimizer, data = make_optimizer(stage), run.data
    train_step = make_train_step(
        run.model,
        optimizer,
        mesh=run.mesh,
        use_crf=stage.use_crf,
        ignore_label=data.ignore_label,
        class_weights=class_weights(data) if stage.class_weighting == "log" else None,
        reduction=stage.reduction,
        robustness=stage.robustness,
        micro_batches=stage.micro_batches,
        skip_nonfinite=run.config.nonfinite == "skip",
    )
    return train_step, optimizer


def _stage_seed(seed: int, stage: str) -> int:
    """A seed that no other stage of any other run's seed shares."""
    mixed = np.random.SeedSequence((seed, STAGES.index(stage)))
    return int(mixed.generate_state(1)[0])


def _due(step: int, every: int, stage: Config) -> bool:
    return step % every == 0 or step == stage.steps


def _state_like(run: _Run, optimizer: optax.GradientTransformation) -> TrainState:
    """A state whose shapes and places count alone: what it started from may be gone."""

    def fresh() -> TrainState:
        params = fresh_params(run.model, jax.random.key(0))
        return init_state(params, optimizer, jax.random.key(0))

    shapes = jax.eval_shape(fresh)
    return jax.tree.map(
        lambda array, sharding: jax.ShapeDtypeStruct(
            array.shape, array.dtype, sharding=sharding
        ),
        shapes,
        layout_of(run.mesh, shapes),
    )


def _initial_params(run: _Run, stage: Config) -> Any:
    if not stage.start_from:
        key = jax.random.key(run.config.seed)
        return initial_params(run.model, key, run.config.init)
    earlier = latest_checkpoint(run.workdir, stage.start_from)
    assert earlier is not None  # check_config: it is among the stages before this one
    params, _ = load_for_evaluation(earlier)
    return params
