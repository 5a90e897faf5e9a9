"""Checkpoints: everything that a run needs to go on, and an evaluation to start.

A work directory holds `checkpoints/<stage>/<step>/`, written by Orbax, which puts a
checkpoint under its name only once it is whole. Each carries the parameters, the rest
of the training state, the config and the position in the data. Last comes a file of its
files' digests, without which it does not count, so that one which was cut off or
changed since is known before any of it is read.
"""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from crfrnn_jax.checks import InputError, check_choice, check_keys
from crfrnn_jax.data.placed import digest_file
from crfrnn_jax.processes import check_alike, failing_together, first_does, is_first
from crfrnn_jax.sections import at_least, check_section, flag, text, texts
from crfrnn_jax.training.configuration import STAGES
from crfrnn_jax.training.steps import TrainState
from crfrnn_jax.weights.limits import Budget, check_dims
from crfrnn_jax.writing import write_json

logger = logging.getLogger(__name__)

_ITEMS = ("params", "training", "meta")
_DIGESTS = "digests.json"
# Of a stage's config, what is read once it is trained.
_STAGE = {"start_from": text, "use_crf": flag, "steps": at_least(1)}


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or of another run; the message says which."""


class _Manager(ocp.CheckpointManager):
    """Orbax's, but for SIGTERM, which is for `StopSignal` to ask for.

    JAX has one count of who asked how often. Orbax would ask by the step, and set it
    back or ahead, so that the processes would not stop.
    """

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class StageCheckpoints:
    """The checkpoints of one stage of a run.

    Those that are damaged are moved to `damaged/` in the work directory, with a warning
    each, so that the newest of the others is the one to go on from. If there is no
    other that is a CheckpointError, and they stay.
    """

    def __init__(self, workdir: Path, stage: str):
        self.directory = Path(workdir).absolute() / "checkpoints" / stage
        with first_does("looking for damaged checkpoints"):
            if is_first():
                _set_damaged_aside(self.directory, Path(workdir).absolute() / "damaged")
        self._manager = _Manager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False
            ),
            item_names=_ITEMS,
        )
        check_alike("newest step", self.latest_step() or 0, self.directory)

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Writes a checkpoint under the state's step.

        Args:
          state: the training state.
          meta: what JSON can hold: the config, the stage, the data's position.

        Raises:
          CheckpointError: it can't be written; those before it are as they were.
        """
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            training=ocp.args.StandardSave(_training_part(state)),
            meta=ocp.args.JsonSave(meta),
        )
        path = self.directory / str(int(state.step))
        try:
            self._manager.save(int(state.step), args=items)
            with first_does("writing the checkpoint's digests"):
                if is_first():
                    write_json(path / _DIGESTS, _digests(path))
        except Exception as error:  # Orbax raises whatever its storage meets
            raise CheckpointError(
                f"{path}: the checkpoint can't be written ({_reason(error)}); the one "
                "before it is whole, and the same command goes on from there"
            ) from error

    def restore_meta(self) -> dict[str, Any]:
        """The newest checkpoint's meta: to be checked before its state is read."""
        meta = self._restore(meta=ocp.args.JsonRestore())["meta"]
        check_meta(self.directory / str(self.latest_step()), meta)
        return meta

    def restore(self, like: TrainState) -> TrainState:
        """The newest checkpoint's state, in the structure of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._restore(
            params=ocp.args.StandardRestore(abstract.params),
            training=ocp.args.StandardRestore(_training_part(abstract)),
        )
        training = restored["training"]
        return TrainState(
            restored["params"],
            training["opt_state"],
            jax.random.wrap_key_data(training["key"]),
            training["step"],
        )

    def _restore(self, **items: Any) -> Any:
        step = self.latest_step()
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax raises whatever its storage meets
            raise CheckpointError(
                _unreadable(self.directory / str(step), error)
            ) from error

    def close(self) -> None:
        """Waits for what is being written and lets go of the directory."""
        self._manager.close()


def _set_damaged_aside(directory: Path, aside: Path) -> None:
    paths = [path for path in directory.glob("*") if path.name.isdigit()]
    damages = {path: _damage_of(path) for path in paths}
    damaged = {path: why for path, why in damages.items() if why is not None}
    # The first of all may have been killed before its digests were written.
    is_first_of_all = len(paths) == 1 and not (paths[0] / _DIGESTS).exists()
    if damaged and len(damaged) == len(paths) and not is_first_of_all:
        raise CheckpointError(
            "; ".join(f"{path}: {why}" for path, why in damaged.items())
            + f". None of the stage's is left; remove {directory} to train it anew"
        )
    for path, why in damaged.items():
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.iterdir())
        moved = path.rename(aside / f"{number}_{directory.name}_{path.name}")
        logger.warning(
            "%s: %s; moved to %s, the run goes on from before it", path, why, moved
        )


def _damage_of(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None if they are as written."""
    try:
        written = json.loads((path / _DIGESTS).read_text())
    except (OSError, ValueError):
        return f"the checkpoint is not whole, it has no {_DIGESTS} that can be read"
    found = _digests(path)
    changed = sorted(
        name
        for name in {*written, *found}
        if written.get(name) != found.get(name) and name != _DIGESTS
    )
    return f"the checkpoint is damaged in {', '.join(changed)}" if changed else None


def _digests(path: Path) -> dict[str, str]:
    """A digest of each file of a folder, by its name in it."""
    return {
        str(part.relative_to(path)): digest_file(part)
        for part in sorted(path.rglob("*"))
        if part.is_file()
    }


def load_for_evaluation(path: Path) -> tuple[Any, dict[str, Any]]:
    """Parameters and meta of one checkpoint, from its path alone.

    Args:
      path: a checkpoint's directory, `checkpoints/<stage>/<step>`.

    Returns:
      The parameters, on the first device of this process, wherever they were trained;
      and the meta.

    Raises:
      CheckpointError: there is none, or it can't be read.
    """
    with failing_together("finding the checkpoint"):
        path = _check_checkpoint(path)
    digests = path / _DIGESTS
    check_alike("checkpoint", digests.read_text() if digests.exists() else "", path)
    step = int(path.name)
    with ocp.CheckpointManager(
        path.parent,
        options=ocp.CheckpointManagerOptions(read_only=True),
        # By name, or the manager does not know the items' shapes before it reads them.
        item_handlers={
            "params": ocp.StandardCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        },
    ) as manager:
        try:
            saved = manager.item_metadata(step)["params"]
            _check_sizes(path / "params", saved.tree)
            # As NumPy's: on no device of the machine where they were trained.
            like = jax.tree.map(
                lambda array: np.empty(array.shape, array.dtype), saved.tree
            )
            items = ocp.args.Composite(
                params=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore()
            )
            restored = manager.restore(step, args=items)
        except Exception as error:  # Orbax raises whatever its storage meets
            raise CheckpointError(_unreadable(path, error)) from error
    check_meta(path, restored["meta"])
    device = jax.local_devices()[0]
    return jax.device_put(restored["params"], device), restored["meta"]


def _check_sizes(folder: Path, abstract: Any) -> None:
    """Raises ValueError if arrays claim more bytes than the folder's can hold.

    A store without an array's values stands for zeros of any size.
    """
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    if not leaves:
        raise ValueError("no parameters")
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    budget = Budget(stored)
    for path, leaf in leaves:
        count = check_dims(jax.tree_util.keystr(path), leaf.shape)
        budget.take(jax.tree_util.keystr(path), count * leaf.dtype.itemsize)


def _check_checkpoint(path: Path) -> Path:
    """The absolute path of a checkpoint that was written whole.

    Raises:
      CheckpointError: there is none, or its files have changed since.
    """
    path = Path(path).absolute()
    if not path.name.isdigit() or not (path / "_CHECKPOINT_METADATA").exists():
        newest = [latest_checkpoint(path, stage) for stage in STAGES]
        there = ", ".join(str(each) for each in newest if each)
        raise CheckpointError(
            f"{path}: no whole checkpoint there; expected a directory such as "
            + (there or "WORKDIR/checkpoints/STAGE/STEP that a training run wrote")
        )
    # One without digests is of a run that was killed right then; Orbax says it's whole.
    damage = _damage_of(path) if (path / _DIGESTS).exists() else None
    if damage is not None:
        raise CheckpointError(f"{path}: {damage}")
    return path


def check_meta(path: Path, meta: Any) -> None:
    """Raises CheckpointError unless the meta is as `train` writes it.

    Of the config, that is what every reader takes for granted: the stages that the
    checkpoint goes back to, each of them once.
    """
    try:
        check_section("meta", meta)
        check_keys("meta", meta, ("config", "stage", "class_names"))
        texts("meta.class_names", meta["class_names"])
        config = meta["config"]
        check_section("config", config)
        check_keys("config", config, ("model",))
        check_section("config.model", config["model"])
        key, stage, left = "meta.stage", meta["stage"], list(STAGES)
        while stage or key == "meta.stage":
            check_choice(key, stage, tuple(left))
            left.remove(stage)
            check_keys("config", config, (stage,))
            _check_stage(f"config.{stage}", config[stage])
            key, stage = f"config.{stage}.start_from", config[stage]["start_from"]
    except InputError as error:
        raise CheckpointError(
            f"{path}: the checkpoint is of another version of this package, or "
            f"damaged: {error}"
        ) from error


def _check_stage(name: str, stage: Any) -> None:
    check_section(name, stage)
    check_keys(name, stage, _STAGE)
    for key, check in _STAGE.items():
        check(f"{name}.{key}", stage[key])


def latest_checkpoint(workdir: Path, stage: str) -> Path | None:
    """Path of the newest whole checkpoint of a stage, or None if it has none."""
    directory = Path(workdir).absolute() / "checkpoints" / stage
    steps = [int(p.name) for p in directory.glob("*") if p.name.isdigit()]
    return directory / str(max(steps)) if steps else None


def _training_part(state: TrainState) -> dict[str, Any]:
    key = state.key
    if not isinstance(key, jax.ShapeDtypeStruct):
        key = jax.random.key_data(key)
    return {"opt_state": state.opt_state, "key": key, "step": state.step}


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path}: the checkpoint is damaged, or of another model ({_reason(error)})"


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"
