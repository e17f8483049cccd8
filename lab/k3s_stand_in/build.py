"""Packs the stand-in's modules into one executable file, byte for byte the same for the same sources."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

SOURCES = Path(__file__).parent
ONLY_HERE = {"__init__.py", "build.py"}
MAIN = "import sys\n\nfrom k3s_stand_in.main import main\n\nsys.exit(main(sys.argv, sys.stdout))\n"


def build(path: Path) -> str:
    """Write the executable to `path` (mode 0755), return its SHA-256 in hex; an equal file is left alone."""
    content = b"#!/usr/bin/env python3\n" + _archive()
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(content)
        fresh.chmod(0o755)
        fresh.replace(path)
    return hashlib.sha256(content).hexdigest()


def _archive() -> bytes:
    members = {"__main__.py": MAIN, "k3s_stand_in/__init__.py": ""}
    for source in sorted(SOURCES.glob("*.py")):
        if source.name not in ONLY_HERE:
            members[f"k3s_stand_in/{source.name}"] = source.read_text()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, text in members.items():
            archive.writestr(
                zipfile.ZipInfo(name), text
            )  # ZipInfo without a date is dated 1980: reproducible
    return packed.getvalue()
