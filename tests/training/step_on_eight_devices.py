"""A program for test_steps.py: a lattice CRF's training step on eight devices.

Prints as JSON: the parameters after a step on meshes of several forms, and where in the
compiled step devices talk to each other.
"""

import json
import re
import sys

import jax
import numpy as np
from ml_collections import ConfigDict
from tiny import make_tiny_config

from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.initial import fresh_params
from crfrnn_jax.training.mesh import local_copy, make_mesh, put_batch, put_state
from crfrnn_jax.training.optimizers import make_optimizer
from crfrnn_jax.training.steps import init_state, make_train_step

LABELS = 8
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "send", "recv"),
)


def batch():
    """Sixteen images of noise, of which one has no label and others have few."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, LABELS, (16, 16, 16)).astype(np.int32)
    label[rng.uniform(size=label.shape) < rng.uniform(size=(16, 1, 1))] = 255
    label[3] = 255
    image = rng.integers(0, 256, (16, 16, 16, 3), np.uint8)
    return {"image": image, "label": label, "mask": np.ones(label.shape, bool)}


def compile_step(config, *, data, parameters):
    """The step on a mesh, a state and a batch for it."""
    mesh = make_mesh(ConfigDict(dict(data=data, parameters=parameters)))
    optimizer = make_optimizer(config.end_to_end)
    model = build_segmenter(config, LABELS)
    step = make_train_step(
        model,
        optimizer,
        mesh=mesh,
        use_crf=True,
        ignore_label=255,
        class_weights=np.linspace(0.5, 2.0, LABELS, dtype=np.float32),
        reduction="mean",
        robustness=0.0,
    )
    params = fresh_params(model, jax.random.key(0))
    state = init_state(params, optimizer, jax.random.key(1))
    given = (put_state(mesh, state), put_batch(mesh, batch()))
    return step.lower(*given).compile(), given


def collectives(text):
    """The operations between devices: name, computation, and what they are of."""
    found, computation = [], ""
    for line in text.splitlines():
        if line.startswith(("ENTRY", "%")):
            computation = line.split()[0]
        operation = re.search(r"= .*? ([a-z-]+?)(?:-start)?\(", line)
        if operation and operation[1] in COLLECTIVES:
            source = re.search(r'op_name="([^"]*)"', line)
            found.append((operation[1], computation, source[1] if source else ""))
    return found


def main():
    config = make_tiny_config("")
    config.crf.update(method="lattice", num_iterations=1)
    config.end_to_end.optimizer = "sgd"  # whose step is the gradient, to a factor
    results = {}
    for data, parameters in ((1, 1), (8, 1), (2, 4)):
        step, given = compile_step(config, data=data, parameters=parameters)
        between = collectives(step.as_text())
        state, scalars = step(*given)
        params = jax.tree.leaves(
            local_copy(given[1]["image"].sharding.mesh, state.params)
        )
        results[f"{data} x {parameters}"] = {
            "loss": float(scalars["loss"]),
            "gradient_norm": float(scalars["gradient_norm"]),
            "params": [np.asarray(leaf).tolist() for leaf in params],
            "collectives": between,
            "pieces": [
                leaf.size // leaf.addressable_data(0).size
                for leaf in jax.tree.leaves((state.params, state.opt_state))
            ],
            "has_crf": "/crf/" in step.as_text(),
        }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
