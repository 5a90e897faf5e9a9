"""Room for the vertices in use, not for all that there might be.

Shapes are fixed before the vertices are counted, so arrays of rows have to have room
for the most that the points can touch. To clear such an array, and to have the system
page it in, takes longer than to work on the part that is in use: hence work on vertices
is compiled for a few numbers of rows, and the least that is enough is run.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Rooms, as parts of all rows: photographs under wide kernels (80/13) come into the
# first; those of 0.2 megapixels or more come into the next five under the authors'
# bilateral kernel. In twice the room a step takes a third longer; each room adds a
# tenth of a second of compilation. So there is less of a choice for work on few
# channels, which is quick, and for a grid, whose vertices do not depend on an image:
# under the authors' kernel of positions it comes into the first. Those for few channels
# are among the others, as what depends on the room alone is then compiled once for
# both. With fewer rows in all than `_LEAST_ROWS` there is none.
_PARTS = (1 / 64, 3 / 64, 5 / 64, 8 / 64, 13 / 64, 24 / 64)
_PARTS_OF_GRID = (3 / 64, 8 / 64, 24 / 64)
_PARTS_IF_NARROW = (5 / 64, 24 / 64)
_PARTS_OF_GRID_IF_NARROW = (3 / 64,)
_LEAST_ROWS = 2**15


def with_room(
    function: Callable[..., Any],
    rows: int,
    num_vertices: jax.Array,
    *arguments: Any,
    narrow: bool = False,
    is_grid: bool = False,
) -> Any:
    """Calls function(room, *arguments), with a room in which all vertices fit.

    Under `vmap` all rooms are computed and one selected, so in those that are too small
    the function meets row numbers past the end, and what it makes of them is dropped.

    Args:
      function: what it returns has the same shapes for every room.
      rows: the largest room.
      num_vertices: int32 scalar, vertices in use.
      *arguments: pytrees of arrays.
      narrow: whether the work is on few channels.
      is_grid: whether the vertices are a grid's.
    """
    if rows < _LEAST_ROWS:
        return function(rows, *arguments)
    if narrow:
        parts = _PARTS_OF_GRID_IF_NARROW if is_grid else _PARTS_IF_NARROW
    else:
        parts = _PARTS_OF_GRID if is_grid else _PARTS
    rooms = [round(rows * part) for part in parts] + [rows]
    too_small = [num_vertices > room for room in rooms[:-1]]
    choice = jnp.sum(jnp.stack(too_small), dtype=jnp.int32)

    def in_room(room):
        return lambda arguments: function(room, *arguments)

    return lax.switch(choice, [in_room(room) for room in rooms], arguments)
