"""The parameters that a first stage starts from: fresh, or from a file over these."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crfrnn_jax.checks import InputError
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import Segmenter
from crfrnn_jax.training.checkpoints import load_for_evaluation
from crfrnn_jax.weights import load_weights

logger = logging.getLogger(__name__)


def fresh_params(model: Segmenter, key: jax.Array) -> Any:
    """Parameters of the segmenter, freshly drawn."""
    # Parameters do not depend on the image's size: the smallest traces fastest. As one
    # program, from which the network itself is left out, it takes half the time.
    return jax.jit(model.init)(key, np.zeros((1, 32, 32, 3), np.float32))["params"]


def initial_params(model: Segmenter, key: jax.Array, init: Any) -> Any:
    """Fresh parameters, and those of a file in their place where it has them.

    So a network starts from one of fewer layers, as FCN-8s from FCN-16s or that from
    VGG-16, or for other labels, whose scores are then skipped.

    Args:
      model: the segmenter.
      key: random key of the fresh ones.
      init: the config's `init`: `file`, a file that `crfrnn_jax.weights` wrote, a
        checkpoint's folder, or "" for none; `skip`, names of layers or parameters that
        are not taken.

    Raises:
      FileNotFoundError: there is no such file or folder.
      ValueError: the file can't be read, or nothing in it or not all of it fits.
      CheckpointError: the folder is no checkpoint.
    """
    if not init.file:
        return fresh_params(model, key)
    path = Path(init.file).expanduser()
    _check_there(path)
    fresh = fresh_params(model, key)
    if path.is_dir():
        params, meta = load_for_evaluation(path)
        given = flat_names(params)
        scaled = meta["config"]["model"].get("scale_skips", False)
    else:
        given, meta = load_weights(path)
        scaled = False
        if "crf" in meta and "crf" not in init.skip:
            _check_crf(path, meta["crf"], model.crf)
    params, taken = _lay_over(fresh, given, init.skip, path)
    if any("score_pool" in name for name in taken):
        _check_scaling(path, scaled, getattr(model.backbone, "scale_skips", False))
    return params


def _check_there(path: Path) -> None:
    if path.exists():
        return
    # A checkpoint is WORKDIR/checkpoints/STAGE/STEP.
    is_step = len(path.parts) > 3 and path.parts[-3] == "checkpoints"
    train_first = f"train {path.parents[2]} first, or " if is_step else ""
    raise FileNotFoundError(
        "config.init.file: expected a file of weights or a checkpoint's folder, got "
        f"none at {path}; {train_first}give a file that python -m crfrnn_jax.weights "
        "convert made"
    )


def _check_crf(path: Path, given: Any, wanted: CRFRNN | None) -> None:
    """A fitted CRF's attributes say what its parameters mean, some shapes alike."""
    if wanted is None:
        return
    names = ["weights_form", "compatibility_form", "share_parameters"]
    names += ["normalisation", "learn_widths"]
    if not wanted.learn_widths:
        names += ["theta_alpha", "theta_beta", "theta_gamma"]
    differing = [
        f"{name}: {given.get(name)} -> {getattr(wanted, name)}"
        for name in names
        if given.get(name) != getattr(wanted, name)
    ]
    if differing:
        raise InputError(
            f"{path}: expected a CRF with the attributes of config.crf, its -> the "
            f"config's: {'; '.join(differing)}"
        )


def _check_scaling(path: Path, given: bool, wanted: bool) -> None:
    """The one attribute of a backbone that changes what parameters mean, not shapes."""
    if given != wanted:
        raise InputError(
            f"{path}: holds scores of pools with scale_skips={given}, and the network "
            f"has scale_skips={wanted}; set config.model.scale_skips={given}, or leave "
            "the scores out with config.init.skip"
        )


def flat_names(params: Any) -> dict[str, Any]:
    """The leaves of a tree of parameters, by names such as "backbone/fc6/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(entry.key for entry in path): leaf for path, leaf in leaves}


def _lay_over(
    fresh: Any, given: Mapping[str, Any], skip: Sequence[str], path: Path
) -> tuple[Any, set[str]]:
    """The fresh tree with what it shares with the file, and the names of that."""
    known = flat_names(fresh)
    parts = {part for name in (*known, *given) for part in name.split("/")}
    for name in skip:
        if name not in parts:
            raise InputError(
                "config.init.skip: expected names of the network's or the file's "
                f"parameters, {sorted(parts)}, got {name!r}"
            )
    wanted = {
        name for name in given if name in known and not set(skip) & {*name.split("/")}
    }
    wrong = [
        f"{name}: expected {list(known[name].shape)}, got {list(given[name].shape)}"
        for name in sorted(wanted)
        if known[name].shape != given[name].shape
    ]
    if wrong:
        raise InputError(
            f"{path}: tensors of another shape than the network's; leave them out with "
            "config.init.skip, or give a file for this network: " + "; ".join(wrong)
        )
    if not wanted:
        raise InputError(f"{path}: expected tensors of this network, got none")
    logger.info("%s: %d tensors taken", path, len(wanted))
    for what, names in (
        ("not in the file, drawn afresh", known.keys() - wanted),
        ("in the file, not taken", given.keys() - wanted),
    ):
        if names:
            logger.info("%s: %s", what, ", ".join(sorted(names)))

    def take(tree_path: tuple[Any, ...], leaf: jax.Array) -> Any:
        name = "/".join(entry.key for entry in tree_path)
        return np.asarray(given[name], leaf.dtype) if name in wanted else leaf

    return jax.tree_util.tree_map_with_path(take, fresh), wanted
