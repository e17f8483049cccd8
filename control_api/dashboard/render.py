"""Templates to HTML: everything that is printed is escaped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """A file that pages refer to; `href` changes with its content, so that browsers may keep it for ever."""

    href: str
    body: bytes
    media_type: str


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    version = hashlib.sha256(body).hexdigest()[:12]
    return Asset(f"/static/{path.name}?v={version}", body, TYPES[path.suffix])


ASSETS = {path.name: _asset(path) for path in sorted((HERE / "static").iterdir()) if path.suffix in TYPES}
_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.globals["asset"] = lambda name: ASSETS[name].href


def render(template: str, **values: Any) -> str:
    """Return the template filled with the values."""
    return _templates.get_template(template).render(values)
