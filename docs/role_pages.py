"""The pages docs/roles/*.md, written from the roles' argument specifications and defaults by `make docs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/roles"
NOTE = "<!-- Written by `make docs`: change roles/*/meta/argument_specs.yml and roles/*/defaults/main.yml instead. -->"
Specification = Mapping[str, Any]


def pages(roles: Path) -> dict[str, str]:
    """The name and the text of every page for a directory of roles."""
    specs = {path.name: load(path / "meta/argument_specs.yml") for path in sorted(roles.iterdir())}
    mains = {name: found["argument_specs"]["main"] for name, found in specs.items() if found}
    texts = {
        f"{name}.md": page(name, spec, load(roles / name / "defaults/main.yml"))
        for name, spec in mains.items()
    }
    return {"README.md": index(mains), **texts}


def load(path: Path) -> dict[str, Any]:
    """The content of a YAML file; nothing where there is no file."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def index(specs: Mapping[str, Specification]) -> str:
    """The page that leads to the others."""
    rows = [f"| [`{name}`]({name}.md) | {cell(spec['short_description'])} |" for name, spec in specs.items()]
    intro = (
        "What each role does and takes. Set an input in `group_vars` or `host_vars` of your inventory; what is not in\n"
        "your inventory comes from `playbooks/vars/`, which wires the roles, and from the defaults."
    )
    return "\n".join(["# Roles", "", NOTE, "", intro, "", "| role | |", "|---|---|", *rows, ""])


def page(name: str, spec: Specification, defaults: Mapping[str, Any]) -> str:
    """The page of one role: what it does, and its inputs."""
    head = [f"# Role `{name}`", "", NOTE, "", sentence(spec["short_description"])]
    if spec.get("description"):
        head += ["", prose(spec["description"])]
    rows = list(inputs(spec.get("options", {}), defaults))
    table = ["## Inputs", "", "| input | type | default | |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([*head, "", *table, ""])


def inputs(
    options: Mapping[str, Specification], defaults: Mapping[str, Any], inside: str = ""
) -> Iterator[str]:
    """A row for every input, and for every key of an input that is a dictionary or a list of such."""
    for name, spec in options.items():
        full = inside + name
        default = "required" if spec.get("required") else value(defaults[full]) if full in defaults else ""
        yield f"| `{full}` | {kind(spec)} | {default} | {cell(prose(spec['description']))} |"
        yield from inputs(spec.get("options", {}), {}, f"{full}[]." if spec["type"] == "list" else f"{full}.")


def kind(spec: Specification) -> str:
    """`list of str`, or the values that may be chosen."""
    if spec.get("choices"):
        return " or ".join(value(choice) for choice in spec["choices"])
    return f"list of {spec['elements']}" if spec.get("elements") else str(spec["type"])


def value(given: object) -> str:
    """A value as one writes it in YAML, in one line."""
    text = yaml.safe_dump(given, default_flow_style=True, width=10_000, allow_unicode=True)
    return f"`{cell(text.removesuffix(chr(10)).removesuffix(chr(10) + '...'))}`"


def prose(description: str | list[str]) -> str:
    """A description in one paragraph."""
    return " ".join((description if isinstance(description, str) else " ".join(description)).split())


def sentence(text: str) -> str:
    """The text with a full stop."""
    return text if text.endswith(".") else f"{text}."


def cell(text: str) -> str:
    """The text as it may stand in a table."""
    return text.replace("|", "\\|")


def write(target: Path) -> None:
    """Write every page, and remove those of roles that are gone."""
    texts = pages(ROOT / "roles")
    target.mkdir(exist_ok=True)
    for path in target.glob("*.md"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(TARGET)
