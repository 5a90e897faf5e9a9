"""The mesh of devices that trains: how batches and parameters are laid over it.

A mesh has two axes, "data" and "parameters". A batch is divided over both, so that each
device has images of its own. A parameter has a copy on each device along "data"; along
"parameters" it is divided, with its optimiser's state, and gathered for a step.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crfrnn_jax.checks import InputError

# Along both axes lie the images of a batch.
AXES = ("data", "parameters")


def make_mesh(settings: Any) -> Mesh:
    """The mesh that a config asks for.

    Args:
      settings: the config's `mesh`: `data`, the devices along that axis, 0 for as many
        as there are, and `parameters`, the devices over which a parameter is divided.

    Raises:
      ValueError: there are not as many devices, or of several processes' some would
        take no part.
    """
    # In the order of the processes: each then has one piece of the batch.
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    along_parameters = settings.parameters
    if settings.data == 0 and len(devices) % along_parameters:
        raise InputError(
            f"config.mesh.parameters: expected a number that divides the "
            f"{len(devices)} devices, as data=0 takes all, got {along_parameters}"
        )
    along_data = settings.data or len(devices) // along_parameters
    number = along_data * along_parameters
    if not 1 <= number <= len(devices):
        raise InputError(
            f"config.mesh: expected at most the {len(devices)} devices there are, got "
            f"data={settings.data} times parameters={along_parameters}"
        )
    if jax.process_count() > 1 and number != len(devices):
        raise InputError(
            f"config.mesh: expected all {len(devices)} devices of the "
            f"{jax.process_count()} processes, got {number}; data=0 takes all"
        )
    grid = np.asarray(devices[:number]).reshape(along_data, along_parameters)
    return Mesh(grid, AXES)


def check_batch_size(key: str, batch_size: int, micro_batches: int, mesh: Mesh) -> None:
    """Raises InputError unless each device gets as many images, in as many parts."""
    if batch_size % (mesh.size * micro_batches):
        raise InputError(
            f"{key}.batch_size: expected a multiple of {mesh.size * micro_batches}, "
            f"config.mesh's devices ({mesh.size}) times micro_batches ({micro_batches})"
            f", got {batch_size}"
        )


def layout_of(mesh: Mesh, tree: Any) -> Any:
    """Where the arrays of a tree lie: a sharding for each.

    An array is divided along its longest axis that the devices of "parameters" divide;
    if there is none, each has all of it.

    Args:
      mesh: the devices.
      tree: arrays, or their shapes, such as a training state.
    """
    number = mesh.shape["parameters"]

    def sharding(array: Any) -> NamedSharding:
        sizes = [size if size % number == 0 else 0 for size in np.shape(array)]
        if number == 1 or not any(sizes):
            return NamedSharding(mesh, PartitionSpec())
        axis = int(np.argmax(sizes))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "parameters"))

    return jax.tree.map(sharding, tree)


def put_state(mesh: Mesh, state: Any) -> Any:
    """A fresh state on the devices, from the same one in every process."""

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(array), sharding))
        own = np.asarray(array)
        return jax.make_array_from_callback(own.shape, sharding, lambda i: own[i])

    return jax.tree.map(put, state, layout_of(mesh, state))


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """A batch on the devices, from each process's share of it.

    Args:
      mesh: the devices.
      batch: arrays [images, ...], of this process's images.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXES))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def local_copy(mesh: Mesh, tree: Any) -> Any:
    """Whole arrays on this process's first device, from arrays on the mesh."""
    whole = _gather(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.tree.map(lambda array: array.addressable_data(0), whole)


@partial(jax.jit, static_argnames="everywhere")
def _gather(tree: Any, everywhere: NamedSharding) -> Any:
    return lax.with_sharding_constraint(tree, everywhere)
