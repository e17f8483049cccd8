"""Write this machine's Debian sources, source packages included, into the directory that is given."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lab.apt import machine_sources


def with_sources(text: str) -> str:
    """Return an apt source file that offers source packages beside what it offered."""
    stanzas = re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE)
    return re.sub(r"^deb (.*)$", r"deb \1\ndeb-src \1", stanzas, flags=re.MULTILINE)


if __name__ == "__main__":
    found = machine_sources()
    if not found:
        sys.exit("This machine has no Debian sources to build Kubernetes from.")
    for name, content in found.items():
        Path(sys.argv[1], name).write_text(with_sources(content))
