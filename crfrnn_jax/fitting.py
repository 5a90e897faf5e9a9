"""A CRF fitted to labelled images and a network's logits for them, by L-BFGS."""

import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_integers,
    check_intensities,
    check_mask,
    check_shape,
)
from crfrnn_jax.layers import CRFRNN, check_variables, fresh_variables
from crfrnn_jax.losses import expected_iou_loss, softmax_cross_entropy
from crfrnn_jax.unaries import check_no_softmax, is_softmax

# Of the line search: the parts of the slope that the loss has to fall by, and that the
# slope may keep; and how many steps are tried.
_DECREASE, _FLATTER, _MOST_TRIALS = 1e-4, 0.9, 15

Objective = Literal["log_likelihood", "expected_iou"]


class Fitted(NamedTuple):
    """A layer's variables, and how they were found.

    Attributes:
      variables: as `layer.init` gives them, for `layer.apply`.
      losses: float [steps + 1], the loss before each step and after the last.
    """

    variables: dict[str, Any]
    losses: np.ndarray


def fit_crf(
    layer: CRFRNN,
    images: jax.typing.ArrayLike,
    logits: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mask: jax.typing.ArrayLike | None = None,
    objective: Objective = "log_likelihood",
    ignore_label: int = 255,
    frozen: Collection[str] | str = (),
    steps: int = 20,
    variables: dict[str, Any] | None = None,
) -> Fitted:
    """Fits weights, compatibility and, if the layer learns them, widths.

    No network takes part: its logits are computed once. What is learned, and in which
    form, is the layer's choice: `CRFRNN(21, weights_form="per_label",
    learn_widths=True)`. All images go through the CRF several times a step, as L-BFGS
    searches along a line.

    Args:
      layer: the CRF, with the widths and weights to start from.
      images: [batch, height, width, channels] in 0..255.
      logits: float [batch, height, width, labels], the network's.
      labels: int [batch, height, width], the truth: 0..labels - 1 or `ignore_label`.
      mask: bool [batch, height, width], where images of other sizes are padded; the
        labels there do not count either.
      objective: "log_likelihood", or "expected_iou" as in Krähenbühl and Koltun (2013).
      ignore_label: label of the pixels that do not count.
      frozen: names of parameters that stay as they are, or one: "compatibility".
      steps: of L-BFGS, at least 1.
      variables: to start from, in place of the layer's own.

    Returns:
      The variables and the losses.

    Raises:
      ValueError: naming the argument that is wrong.

    Examples:
      >>> labels = np.zeros((1, 4, 6), int)
      >>> labels[..., 3:] = 1
      >>> images = labels[..., None] * 200
      >>> logits = np.zeros((1, 4, 6, 2), np.float32)
      >>> logits[0, 1, 1, 0] = logits[0, 2, 4, 1] = 2
      >>> layer = CRFRNN(2, num_iterations=1, method="exact", weights_form="scalar")
      >>> fitted = fit_crf(layer, images, logits, labels, steps=1)
      >>> bool(fitted.losses[1] < fitted.losses[0])
      True
    """
    check_choice("objective", objective, get_args(Objective))
    check_at_least("steps", steps, 1)
    if not isinstance(layer, CRFRNN):
        raise InputError(f"layer: expected CRFRNN, got {type(layer).__name__}")
    sizes = check_shape("labels", labels, "batch height width")
    check_integers("labels", labels)
    check_shape("images", images, "batch height width channels", sizes)
    sizes_of_logits = sizes | {"labels": layer.num_labels}
    check_shape("logits", logits, "batch height width labels", sizes_of_logits)
    if mask is not None:
        check_mask("mask", mask, "batch height width", sizes)
        labels = np.where(mask, labels, ignore_label)
    labels = np.asarray(labels).astype(np.int32)
    _check_values(images, logits, labels, mask, ignore_label)
    if variables is None:
        variables = fresh_variables(layer, jnp.shape(images)[-1])
    else:
        check_variables("variables", layer, variables)
    params = variables["params"]
    frozen = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    for name in frozen:
        check_choice("frozen", name, tuple(params))
    fixed = {name: value for name, value in params.items() if name in frozen}
    learned = {name: value for name, value in params.items() if name not in frozen}
    if not learned:
        raise InputError(f"frozen: expected a parameter to be left, got {list(frozen)}")

    def loss_of(learned, data):
        *batch, labels = data

        # An image's lattice and messages, hundreds of megabytes of a photograph's, are
        # not kept for all images until the way back, but computed again.
        @jax.checkpoint
        def refine(item):
            batch_of_one = jax.tree.map(lambda array: array[None], item)
            return layer.apply({"params": fixed | learned}, *batch_of_one)[0]

        refined = lax.map(refine, jax.tree.map(jnp.asarray, tuple(batch)))
        arguments = {"logits": refined, "labels": labels, "ignore_label": ignore_label}
        if objective == "expected_iou":
            return expected_iou_loss(**arguments)
        return softmax_cross_entropy(**arguments)

    learned, losses = _minimise(loss_of, learned, (images, logits, mask, labels), steps)
    return Fitted({**variables, "params": fixed | learned}, losses)


def _check_values(images, logits, labels, mask, ignore_label) -> None:
    """Checks what would be found out after a minute of compilation, or not at all."""
    counts = labels != ignore_label
    num_labels = np.shape(logits)[-1]
    wrong = labels[counts & ((labels < 0) | (labels >= num_labels))]
    if wrong.size:
        raise InputError(
            f"labels: expected 0..{num_labels - 1} or {ignore_label} to be ignored, "
            f"got {np.unique(wrong)[:5].tolist()} in {wrong.size} pixels"
        )
    if not counts.any():
        raise InputError(
            f"labels: expected some that count, got {ignore_label}, which is ignored, "
            "or masked pixels alone"
        )
    valid = slice(None) if mask is None else np.asarray(mask)
    check_intensities("images", np.asarray(images)[valid])
    given = np.asarray(logits)[valid]
    if not np.isfinite(given).all():
        raise InputError("logits: expected finite numbers, got NaN or infinity")
    check_no_softmax("logits", is_softmax(given))


def _minimise(loss_of, params, data, steps) -> tuple[Any, np.ndarray]:
    """L-BFGS, with the line search on this side of the program.

    optax's own has the loss and its gradient in its program several times, each a
    minute of compilation.
    """
    value_and_grad = jax.jit(jax.value_and_grad(loss_of))
    optimizer = optax.lbfgs(linesearch=None)
    update = jax.jit(optimizer.update)

    def evaluate(params):
        loss, gradient = value_and_grad(params, data)
        return float(loss), gradient

    loss, gradient = evaluate(params)
    if not np.isfinite(loss):
        raise InputError(f"variables: expected a finite loss to start from, got {loss}")
    state = optimizer.init(params)
    losses = [loss]
    for _ in range(steps):
        direction, state = update(gradient, state, params)
        if _slope(direction, gradient) >= 0:
            # The curvature so far misleads: anew, down the gradient.
            state = optimizer.init(params)
            direction, state = update(gradient, state, params)
        params, loss, gradient = _search(evaluate, params, loss, gradient, direction)
        losses.append(loss)
    return params, np.array(losses)


def _search(evaluate, params, loss, gradient, direction):
    """A step by the weak Wolfe conditions, found by doubling and bisection.

    The loss has fallen by a part of what the slope promised, and the slope has become
    flatter (Lewis and Overton 2013). If none is found, the longest that lowers the
    loss, which may be no step at all.
    """
    slope = _slope(direction, gradient)
    best = params, loss, gradient
    short, long, size = 0.0, math.inf, 1.0
    for _ in range(_MOST_TRIALS):
        moved = optax.tree.add_scale(params, size, direction)
        new_loss, new_gradient = evaluate(moved)
        if not new_loss <= loss + _DECREASE * size * slope:  # or it is NaN
            long = size
        else:
            best = moved, new_loss, new_gradient
            if _slope(direction, new_gradient) >= _FLATTER * slope:
                break
            short = size
        size = 2 * size if long == math.inf else (short + long) / 2
    return best


def _slope(direction, gradient) -> float:
    return float(jnp.asarray(optax.tree.vdot(direction, gradient)))
