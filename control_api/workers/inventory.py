"""The inventory as a document: written row by row, so that a hundred thousand workers need little memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

FORMAT = 2  # part of the entity tag: raise it when the document's shape changes
IN_MEMORY = 4 * 2**20  # bytes; a larger document goes to a file that has no name
PIECE = 2**20


def entity_tag(fingerprint: str) -> str:
    """Return the weak entity tag (RFC 9110) of the inventory with this fingerprint."""
    return f'W/"{FORMAT}-{fingerprint}"'


def matches(header: str | None, tag: str) -> bool:
    """Say whether an If-None-Match header names the tag; weakly, so that W/ makes no difference."""
    given = [each.strip() for each in (header or "").split(",")]
    return "*" in given or tag.removeprefix("W/") in [each.removeprefix("W/") for each in given]


def document(rows: Iterable[str]) -> IO[bytes]:
    """Return a file with the answer, from its beginning: `{"success": …, "data": {"workers": […]}}`."""
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - whoever sends it closes it
    file.write(b'{"success":true,"message":"Every worker","data":{"workers":[')
    for number, row in enumerate(rows):
        file.write(b",\n" if number else b"\n")
        file.write(row.encode())
    file.write(b"]}}")
    return file


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the file's content, then close it."""
    with file:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece
