"""Work on many images, shared out over the devices of this process."""

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import jax

# A jax.Device, which type checkers do not take for a class.
Device = Any
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_devices(
    make: Callable[[Device], Callable[[Item], Result]],
    items: Iterable[Item],
    devices: Sequence[Device],
) -> Iterator[Result]:
    """Applies a function to items, on each device one at a time.

    Each device has a thread, which takes the next item when it is done with one: images
    cost what their sizes and vertices ask for, and no device waits for another's. What
    comes out does not depend on the number of devices.

    Args:
      make: makes the function that runs on a device; its thread has that device for
        JAX's default.
      items: read as they are needed, a few ahead.
      devices: of this process.

    Yields:
      The results, in the order of the items.
    """
    if len(devices) == 1:
        yield from map(make(devices[0]), items)
        return
    free: queue.SimpleQueue = queue.SimpleQueue()
    for device in devices:
        free.put((device, make(device)))

    def apply(item: Item) -> Result:
        device, function = free.get()
        try:
            with jax.default_device(device):
                return function(item)
        finally:
            free.put((device, function))

    items = iter(items)
    with ThreadPoolExecutor(len(devices)) as pool:
        pending = deque(pool.submit(apply, i) for i in islice(items, 2 * len(devices)))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(apply, item) for item in islice(items, 1))
        finally:  # of an error, or where no more results are wanted
            for future in pending:
                future.cancel()
