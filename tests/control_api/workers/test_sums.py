"""Counting the fleet: shared when it is large, done anew when it is small."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from control_api.workers import wire
from control_api.workers.lifecycle import Moment, Rules
from control_api.workers.sums import MANY, Sums
from control_api.workers.wire import Stats
from tests.control_api.world import START, Clock

EMPTY = wire.stats([], Moment(START, Rules()), cluster_is_configured=False)


def counting(clock: Clock, workers: int) -> Callable[[], Stats]:
    """Return a count of so many workers: it takes 0.2 s, and makes new sums every time."""

    def count() -> Stats:
        clock.advance(0.2)
        return EMPTY.model_copy(update={"total": workers})

    return count


def test_the_sums_of_a_large_fleet_are_shared_for_ten_times_as_long_as_they_took(clock: Clock) -> None:
    sums = Sums(clock.monotonic)
    count = counting(clock, MANY)
    first = sums.get(count)
    clock.advance(1.9)
    assert sums.get(count) is first
    clock.advance(0.2)
    assert sums.get(count) is not first


def test_a_small_fleet_is_counted_anew_however_slow_the_machine_is(clock: Clock) -> None:
    sums = Sums(clock.monotonic)
    assert sums.get(counting(clock, MANY - 1)) is not sums.get(counting(clock, MANY - 1))


def test_a_count_that_fails_is_not_remembered(clock: Clock) -> None:
    sums = Sums(clock.monotonic)

    def fail() -> Stats:
        raise OSError

    with pytest.raises(OSError):
        sums.get(fail)
    assert sums.get(counting(clock, MANY)).total == MANY
