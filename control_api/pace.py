"""Long work in small pieces, so that short work in between waits for a piece and not for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")


def evenly(
    pieces: Iterable[Piece],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Piece]:
    """Yield the pieces; before another one is made, rest for as long as the last one and its use have taken.

    It takes half of a core at most, and twice as long.
    """
    begun = clock()
    for piece in pieces:
        yield piece
        sleep(clock() - begun)
        begun = clock()
