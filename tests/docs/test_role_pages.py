"""The pages of the roles are those that `make docs` writes, and say what the roles take."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.role_pages import ROOT, TARGET, index, kind, page, pages, value


def test_the_pages_are_up_to_date() -> None:
    """If this fails: `make docs`, then look at the difference."""
    on_disk = {path.name: path.read_text() for path in TARGET.iterdir()}
    assert on_disk == pages(ROOT / "roles")


def test_every_role_has_a_page() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir()} == {
        Path(name).stem for name in pages(ROOT / "roles") if name != "README.md"
    }


def test_a_page_says_what_a_role_does_and_takes() -> None:
    spec = {
        "short_description": "Doors",
        "description": ["Opens doors.", "Closes them."],
        "options": {
            "door_key": {"type": "path", "required": True, "description": "File of the key | none."},
            "door_list": {
                "type": "list",
                "elements": "dict",
                "description": "Doors.",
                "options": {"name": {"type": "str", "required": True, "description": "Its name."}},
            },
        },
    }
    assert page("door", spec, {"door_list": []}).splitlines()[4:] == [
        "Doors.",
        "",
        "Opens doors. Closes them.",
        "",
        "## Inputs",
        "",
        "| input | type | default | |",
        "|---|---|---|---|",
        "| `door_key` | path | required | File of the key \\| none. |",
        "| `door_list` | list of dict | `[]` | Doors. |",
        "| `door_list[].name` | str | required | Its name. |",
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [(5, "`5`"), ("", "`''`"), ([22], "`[22]`"), ({}, "`{}`"), (True, "`true`"), ("a | b", "`a \\| b`")],
)
def test_values_are_written_as_in_yaml(given: object, text: str) -> None:
    assert value(given) == text


def test_choices_stand_for_the_type() -> None:
    assert kind({"type": "str", "choices": ["sqlite", "etcd"]}) == "`sqlite` or `etcd`"


def test_the_index_leads_to_every_role() -> None:
    assert "| [`door`](door.md) | Doors |" in index({"door": {"short_description": "Doors"}})
