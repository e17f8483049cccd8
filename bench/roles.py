"""What the roles install, for measurements: their templates with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from filter_plugins.postgresql import memory_settings

ROLES = Path(__file__).parent.parent / "roles"


def render(role: str, template: str, **variables: Any) -> str:
    """Return the template as the role would write it, with these variables beside its defaults."""
    templates = Environment(  # noqa: S701 - a configuration is no HTML
        loader=FileSystemLoader(ROLES / role / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters |= {"comment": lambda text: f"# {text}", "postgresql_memory_settings": memory_settings}
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    given = {**defaults, **variables, "ansible_managed": "rendered for a measurement"}
    return templates.get_template(template).render(given)
