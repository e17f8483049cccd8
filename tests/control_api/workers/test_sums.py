"""Counting the fleet: shared when it is dear, done anew when it is cheap."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from control_api.workers import wire
from control_api.workers.lifecycle import Moment, Rules
from control_api.workers.sums import Sums
from control_api.workers.wire import Stats
from tests.control_api.world import START, Clock

EMPTY = wire.stats([], Moment(START, Rules()), cluster_is_configured=False)


def counting(clock: Clock, seconds: float) -> Callable[[], Stats]:
    """Return a count that takes so long, and finds another fleet every time."""

    def count() -> Stats:
        clock.advance(seconds)
        return EMPTY.model_copy()

    return count


def test_a_dear_count_is_shared_for_ten_times_as_long_as_it_took(clock: Clock) -> None:
    sums = Sums(clock.monotonic)
    count = counting(clock, 0.2)
    first = sums.get(count)
    clock.advance(1.9)
    assert sums.get(count) is first
    clock.advance(0.2)
    assert sums.get(count) is not first


def test_a_cheap_count_is_done_anew(clock: Clock) -> None:
    sums = Sums(clock.monotonic)
    assert sums.get(counting(clock, 0.01)) is not sums.get(counting(clock, 0.01))


def test_a_count_that_fails_is_not_remembered(clock: Clock) -> None:
    sums = Sums(clock.monotonic)

    def fail() -> Stats:
        raise OSError

    with pytest.raises(OSError):
        sums.get(fail)
    assert sums.get(counting(clock, 0.2)) == EMPTY
