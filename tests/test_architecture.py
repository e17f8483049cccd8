"""Which way things point: the import rules of docs/architecture.md, read from the source by ast."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
API = sorted((ROOT / "control_api").rglob("*.py"))
AGENT = ROOT / "roles/worker_agent/files/muster_agent.py"
SQL = ("models", "store", "db", "schema", "postgres_link")  # a name that ends in _store is a store
STAND_IN = re.compile(r"(?<![a-z])stand[-_ ]?in(?![a-z])", re.IGNORECASE)
WEB = ("routes", "http", "middleware", "app")  # a name that ends in _routes is one of the routes


def imports(path: Path, *, at_run_time: bool = True) -> set[str]:
    """Return the names of the modules that a file imports; with at_run_time, not those for type checkers only."""
    return {name for node in nodes(ast.parse(path.read_text()), at_run_time) for name in names(node)}


def nodes(tree: ast.AST, at_run_time: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from nodes(node, at_run_time)


def names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def top(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def foreign(path: Path) -> set[str]:
    return top(path) - set(sys.stdlib_module_names) - {"__future__"}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert len(API) > 40
    assert "sqlalchemy" in top(ROOT / "control_api/workers/store.py")
    assert "fastapi" in top(ROOT / "control_api/app.py")


def test_the_lifecycle_imports_the_standard_library_only() -> None:
    assert foreign(ROOT / "control_api/workers/lifecycle.py") == set()


def test_errors_import_nothing() -> None:
    assert imports(ROOT / "control_api/errors.py") == set()


@pytest.mark.parametrize("path", API, ids=label)
def test_only_those_who_hold_queries_import_sqlalchemy(path: Path) -> None:
    allowed = path.stem in SQL or path.stem.endswith("_store") or "migrations" in path.parts
    assert allowed or not top(path) & {"sqlalchemy", "alembic", "psycopg"}


@pytest.mark.parametrize("path", API, ids=label)
def test_only_the_edge_imports_fastapi(path: Path) -> None:
    allowed = path.stem in WEB or path.stem.endswith("_routes")
    assert allowed or not top(path) & {"fastapi", "starlette"}


@pytest.mark.parametrize("path", API, ids=label)
def test_nobody_imports_the_app_but_the_one_that_serves_it(path: Path) -> None:
    assert module(path) == "control_api.cli.serve" or "control_api.app" not in imports(path)


@pytest.mark.parametrize("path", API, ids=label)
def test_rooms_do_not_meet_through_their_routes(path: Path) -> None:
    routes = {name for name in imports(path) if name.startswith("control_api.") and name.endswith("routes")}
    assert module(path) == "control_api.app" or not routes


@pytest.mark.parametrize("path", API, ids=label)
def test_only_the_fleet_room_knows_ansible(path: Path) -> None:
    assert "fleet" in path.parts or not top(path) & {"ansible", "ansible_runner", "pyinfra"}


@pytest.mark.parametrize("path", [path for path in API if "cli" in path.parts], ids=label)
def test_the_command_line_starts_without_the_libraries_of_the_api(path: Path) -> None:
    """Heavy imports stand in the functions that need them, so that the light installation can run."""
    tree = ast.parse(path.read_text())
    at_start = {name.split(".")[0] for node in tree.body for name in names(node)}
    light = set(sys.stdlib_module_names) | {"__future__", "typer", "rich", "httpx2", "control_api"}
    assert at_start <= light
    own = {name for node in tree.body for name in names(node) if name.startswith("control_api.")}
    assert all(name.startswith(("control_api.cli", "control_api.errors")) for name in own)


def test_the_agent_imports_the_standard_library_only() -> None:
    assert foreign(AGENT) == set()


def sources() -> Iterator[Path]:
    for part in ("control_api", "roles", "playbooks", "inventory", "filter_plugins", "molecule", "bench"):
        yield from (
            path for path in (ROOT / part).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )


def test_nothing_outside_the_lab_knows_the_stand_in() -> None:
    assert [label(path) for path in sources() if STAND_IN.search(path.read_text(errors="replace"))] == []
