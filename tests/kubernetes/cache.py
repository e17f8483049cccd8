"""Where the Kubernetes that `tests/kubernetes/build` builds is kept: outside the tree, once a machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Return the machine's cache for root, else the user's own."""
    if os.geteuid() == 0:
        return Path("/var/cache/muster-kubernetes")
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "muster-kubernetes"


def binaries() -> Path | None:
    """Return the directory of the built commands; None when they were not built here."""
    directory = cache() / "bin"
    return directory if directory.is_dir() else None


if __name__ == "__main__":
    print(cache())
