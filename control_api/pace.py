"""Long work in small pieces, so that short work in between waits for a piece and not for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

LONGEST = (
    0.03  # seconds of a rest: where a piece takes longer, the machine is busy, and rests of its own are in it
)
Piece = TypeVar("Piece")


def evenly(
    pieces: Iterable[Piece],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Piece]:
    """Yield the pieces; after each, rest for as long as it and its use have taken, but never for long.

    It takes half of a core at most, and twice as long.
    """
    begun = clock()
    for piece in pieces:
        yield piece
        sleep(min(clock() - begun, LONGEST))
        begun = clock()
