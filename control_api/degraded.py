"""The names of what works less well at the moment; `/readyz` shows them."""

from __future__ import annotations

import threading


class Degraded:
    """A set of names that every thread may change."""

    def __init__(self) -> None:
        """Begin with everything well."""
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def set(self, name: str, is_degraded: bool) -> None:
        """Say how the feature of this name is."""
        with self._lock:
            if is_degraded:
                self._names.add(name)
            else:
                self._names.discard(name)

    def names(self) -> list[str]:
        """Return the features that are degraded, in order."""
        with self._lock:
            return sorted(self._names)
