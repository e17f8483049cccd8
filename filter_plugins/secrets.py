"""The secrets of a host as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

CHARACTERS = 43  # letters and digits: 256 bits


def secret_files(secrets: Mapping[str, str], directory: str) -> list[dict[str, Any]]:
    """In: name -> content, or nothing for one that is made on the host. Out: what the module `files` takes."""
    return [
        {
            "path": f"{directory}/{name}",
            "mode": "0600",
            **({"secret": content} if content else {"random": CHARACTERS}),
        }
        for name, content in secrets.items()
    ]


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"secret_files": secret_files}
