"""PostgreSQL's settings from the machine's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STEP = 256  # MB; another kernel on the same machine reports a few MB more or less, and must change nothing


def memory_settings(memory_mb: int, max_connections: int) -> dict[str, str]:
    """Sizes of PostgreSQL's caches for a machine that it shares with K3s and the control API.

    In: the machine's memory in MB, and the connections that are accepted. Out, of the memory rounded down to 256 MB:

    - `shared_buffers`: an eighth, from 128 MB to 4 GB (half of what a machine of its own would get);
    - `effective_cache_size`: a half, for the planner only;
    - `maintenance_work_mem`: a thirty-second part, from 64 MB to 1 GB;
    - `work_mem`: a sixteenth, shared by all connections, from 4 MB to 64 MB each.
    """
    memory = max(memory_mb // STEP, 1) * STEP
    sizes = {
        "shared_buffers": bounded(memory // 8, 128, 4096),
        "effective_cache_size": max(memory // 2, 128),
        "maintenance_work_mem": bounded(memory // 32, 64, 1024),
        "work_mem": bounded(memory // 16 // max_connections, 4, 64),
    }
    return {name: f"{size}MB" for name, size in sizes.items()}


def bounded(value: int, least: int, most: int) -> int:
    """The value, or the bound that it would cross."""
    return min(max(value, least), most)


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"postgresql_memory_settings": memory_settings}
