"""Long work in small pieces, so that short work in between waits for a piece and not for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

REST = 2  # times what the work has taken
LONGEST = (
    0.06  # seconds of a rest: where a piece takes longer, the machine is busy, and rests of its own are in it
)
Piece = TypeVar("Piece")


def evenly(
    pieces: Iterable[Piece],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Piece]:
    """Yield the pieces; after each, rest for twice as long as it and its use have taken, but never for long.

    It takes a third of a core at most, and three times as long.
    """
    begun = clock()
    for piece in pieces:
        yield piece
        sleep(min(REST * (clock() - begun), LONGEST))
        begun = clock()
