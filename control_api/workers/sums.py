"""The sums over the fleet, shared by all who look: at 100,000 workers counting is most of what a page costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from control_api.workers.wire import Stats

MANY = 10_000  # workers; fewer than that are counted anew for everybody, in some 25 ms
SHARE = 10  # times as long as the counting took, what it found is shown: it takes a tenth of a core at most


class Sums:
    """Remembers the sums for a while; one counts, the others wait for what it finds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin without any."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: Stats | None = None
        self._good_until = 0.0

    def get(self, count: Callable[[], Stats]) -> Stats:
        """Return the sums, counted now or a moment ago."""
        with self._lock:
            begun = self._monotonic()
            if self._found is None or begun >= self._good_until:
                self._found = count()
                ended = self._monotonic()
                is_large = self._found.total >= MANY
                self._good_until = ended + SHARE * (ended - begun) if is_large else 0.0
            return self._found
