"""Long work rests twice as long as it works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control_api import pace
from tests.control_api.world import Clock


def test_after_each_piece_it_rests_for_twice_as_long_as_the_piece_and_its_use_have_taken(
    clock: Clock,
) -> None:
    rests: list[float] = []

    def pieces() -> Iterator[int]:
        for piece in (1, 2, 3, 5000):
            clock.advance(piece / 1000)
            yield piece

    def rest(seconds: float) -> None:
        rests.append(seconds)
        clock.advance(seconds)

    for _ in pace.evenly(pieces(), clock=clock.monotonic, sleep=rest):
        clock.advance(0.01)
    assert rests == pytest.approx([0.022, 0.024, 0.026, pace.LONGEST])


def test_nothing_to_do_takes_no_rest() -> None:
    assert list(pace.evenly([], sleep=lambda _: 1 / 0)) == []
