"""The documentation names what exists, and names all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_role_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert [role.name for role in (ROOT / "roles").iterdir() if f"`{role.name}`" not in changelog] == []


def test_every_command_of_make_has_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE).group(1).split())
    assert targets == set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))


def test_every_secret_that_may_be_given_is_documented() -> None:
    named = set(re.findall(r"vault_[a-z0-9_]+", (ROOT / "playbooks/vars/master.yml").read_text()))
    documented = set(re.findall(r"vault_[a-z0-9_]+", (ROOT / "docs/operations.md").read_text()))
    assert named <= documented


def test_every_setting_is_documented_and_nothing_else() -> None:
    from control_api.settings import Settings

    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    page = (ROOT / "docs/settings.md").read_text()
    assert set(re.findall(r"^\| `([A-Z0-9_]+)` \|", page, flags=re.MULTILINE)) == settings


def test_every_option_of_the_lab_is_in_the_readme() -> None:
    from lab.cli import app

    names = {
        command.name or command.callback.__name__ for command in app.registered_commands if not command.hidden
    }
    documented = set(re.findall(r"muster lab (\w+)", "".join(page.read_text() for page in PAGES)))
    assert names <= documented


def test_every_test_that_the_rules_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/rules.md").read_text()))
    sources = "".join(page.read_text() for page in (ROOT / "tests/control_api").rglob("test_*.py"))
    assert len(named) > 40
    assert named - set(re.findall(r"def (test_\w+)\(", sources)) == set()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    rooms = "bench|control_api|docs|filter_plugins|inventory|lab|molecule|playbooks|roles|tests"
    named = re.findall(rf"`((?:{rooms})/[\w./-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
