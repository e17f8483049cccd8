"""Pure filters that narrow a universal lock file, and the wheels for it, to one Python on one architecture."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from packaging.markers import Marker

PIN = re.compile(
    r"(?P<pin>[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?==[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\\n]+?))?\s*(?P<rest>\\?\n)"
)

OLDEST_GLIBC = 35  # 2.35, of Ubuntu 22.04: no supported system has an older one


def locked_for(requirements: str, python: str, architecture: str) -> str:
    """The pins of a hashed lock file that a Linux host needs, without comments and markers.

    In: the text that `uv pip compile --universal --generate-hashes` wrote, the host's full Python version (3.11.2)
    and its architecture as uname(1) names it. pip itself would read the markers for the Python that it runs on,
    which is the controller's (https://packaging.python.org/specifications/dependency-specifiers/#environment-markers).
    """
    host = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": architecture,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }
    kept = []
    for block in re.split(r"^(?=[A-Za-z0-9])", requirements, flags=re.MULTILINE):
        found = PIN.match(block)
        if found and (found["marker"] is None or Marker(found["marker"]).evaluate(host)):
            lines = [found["pin"] + " " + found["rest"], *block[found.end() :].splitlines(keepends=True)]
            kept += [line for line in lines if not line.lstrip().startswith("#")]
    return "".join(kept)


def platforms(architecture: str) -> list[str]:
    """The platforms whose wheels run on every supported host of this architecture, the best one first.

    pip itself would take its own machine's, which is the controller's. It takes those that are named and no older ones
    (https://packaging.python.org/specifications/platform-compatibility-tags/#manylinux).
    """
    tags = [f"manylinux_2_{minor}" for minor in range(OLDEST_GLIBC, 16, -1)] + ["manylinux2014"]
    tags += ["manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1"]
    return [f"{tag}_{architecture}" for tag in tags]


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"locked_for": locked_for, "wheel_platforms": platforms}
