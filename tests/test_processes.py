"""Sums over processes, and places, from what each of them would hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crfrnn_jax import processes

COUNTS = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 5), st.integers(1, 3)),
    elements=st.integers(0, 2**55),
)


@given(COUNTS)
def test_sums_are_of_64_bits_though_halves_are_sent(of_processes):
    halves = np.stack([processes._halves(own) for own in of_processes])
    assert halves.dtype == np.int32
    expected = [sum(map(int, column)) for column in of_processes.T]
    assert processes._sum_of_halves(halves).tolist() == expected


@given(st.integers(1, 5), st.integers(0, 40))
def test_every_place_is_one_process_s(num_processes, total):
    places = []
    for index in range(num_processes):
        own = len(range(index, total, num_processes))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes, "own_part", lambda i=index: (i, num_processes))
            places += processes.places_of(own)
    assert sorted(places) == list(range(total))


def test_one_process_waits_for_none_and_raises_its_own_errors():
    with processes.first_does("a"):
        pass
    with pytest.raises(OSError, match="wrong"), processes.failing_together("a"):
        raise OSError("wrong")
    assert processes.sum_over_processes({"a": np.int64(3)}, "a") == {"a": 3}
    assert processes.of_first({"a": 3}, "a") == {"a": 3}
    processes.check_alike("a", 3, "b")


def test_a_place_where_processes_meet_has_another_key_each_time():
    assert processes._key("a") != processes._key("a")
