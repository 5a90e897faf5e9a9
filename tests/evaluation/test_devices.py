"""Items shared out over devices, of which there is one here, in several names."""

import threading

import jax
import pytest

from crfrnn_jax.evaluation.devices import map_on_devices

DEVICE = jax.devices()[0]


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count):
    made = []

    def make(device):
        made.append(device)
        return lambda item: item**2

    results = list(map_on_devices(make, range(20), [DEVICE] * count))
    assert results == [i**2 for i in range(20)]
    assert made == [DEVICE] * count


def test_each_device_does_one_item_at_a_time():
    busy = threading.Semaphore(2)

    def work(item):
        assert busy.acquire(blocking=False)
        try:
            return jax.numpy.sum(jax.numpy.ones(item)).item()
        finally:
            busy.release()

    assert len(list(map_on_devices(lambda _: work, range(1, 30), [DEVICE] * 2))) == 29


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_is_raised_and_items_are_read_no_further(count):
    read = []

    def items():
        for i in range(1000):
            read.append(i)
            yield i

    def work(item):
        if item == 5:
            raise ValueError("of item 5")
        return item

    results = map_on_devices(lambda _: work, items(), [DEVICE] * count)
    with pytest.raises(ValueError, match="of item 5"):
        list(results)
    assert len(read) <= 6 + 2 * count


def test_one_that_is_not_wanted_any_more_ends():
    results = map_on_devices(lambda _: lambda item: item, range(1000), [DEVICE] * 3)
    assert next(results) == 0
    results.close()
