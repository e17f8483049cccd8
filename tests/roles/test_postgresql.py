"""What the role postgresql tells the server, on a server of the tests' own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import psycopg
import pytest

from filter_plugins.postgresql import memory_settings
from tests.control_api.servers import PostgreSQL, start_postgresql

ROLE = Path(__file__).parents[2] / "roles/postgresql"
SALT = bytes.fromhex("5b6d99689d12358ec5a04b1422b0d98f")
PASSWORD = "s3cret-'\"$pass"


def load() -> Any:
    file = ROLE / "library/postgresql_databases.py"
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    specification.loader.exec_module(module)
    return module


databases = load()
scram_verifier, RefusedError = databases.scram_verifier, databases.RefusedError


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    server = start_postgresql()
    yield server
    server.destroy()


@pytest.fixture
def fresh(server: PostgreSQL) -> Iterator[PostgreSQL]:
    yield server
    server.admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", "the-app")
    server.admin("DROP ROLE IF EXISTS {}", "the-owner")
    server.admin("DROP ROLE IF EXISTS {}", "stranger")


def provide(
    server: PostgreSQL, password: str = PASSWORD, *, check: bool = False, script: str = ""
) -> list[str]:
    """Do what the module does; return what was changed."""
    file = server.directory / "password"
    file.write_text(password)
    database = {"name": "the-app", "owner": "the-owner", "password_file": str(file)}
    script = script or (ROLE / "files/database.sql").read_text()
    changed: list[str] = databases.provide(
        ["psql", f"--dbname={server.url('postgres')}"], database, script, check
    )
    return changed


def query(server: PostgreSQL, statement: str, database: str = "postgres") -> list[str]:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        return [row[0] for row in connection.execute(statement)]


def as_user(server: PostgreSQL, name: str, database: str, statement: str) -> None:
    with psycopg.connect(server.url(database), user=name, autocommit=True) as connection:
        connection.execute(statement)


def test_the_role_owns_its_database_and_may_create_in_its_public_schema(fresh: PostgreSQL) -> None:
    assert provide(fresh) == ["CREATE ROLE", "ALTER ROLE", "CREATE DATABASE", "REVOKE", *before_15(fresh)]
    as_user(fresh, "the-owner", "the-app", "CREATE TABLE public.workers (id int)")
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'the-app'"
    assert query(fresh, owner) == ["the-owner"]


def before_15(server: PostgreSQL) -> list[str]:
    """What only an older server needs: there, everybody may create in the schema public."""
    older = int(query(server, "SHOW server_version_num")[0]) < 150000
    return ["ALTER SCHEMA", "REVOKE"] if older else []


def test_a_second_run_changes_nothing(fresh: PostgreSQL) -> None:
    provide(fresh)
    assert provide(fresh) == []


def test_check_mode_says_what_would_be_done_and_does_nothing(fresh: PostgreSQL) -> None:
    assert provide(fresh, check=True) == ["CREATE ROLE", "CREATE DATABASE"]
    assert query(fresh, "SELECT rolname FROM pg_roles WHERE rolname = 'the-owner'") == []
    provide(fresh)
    assert provide(fresh, check=True) == []
    assert provide(fresh, "another", check=True) == ["ALTER ROLE"]
    assert provide(fresh) == []


def test_a_new_password_is_the_roles_after_one_run(fresh: PostgreSQL) -> None:
    provide(fresh)
    assert provide(fresh, "another") == ["ALTER ROLE"]
    assert provide(fresh, "another") == []


def test_nobody_else_gets_into_the_database(fresh: PostgreSQL) -> None:
    provide(fresh)
    fresh.admin("CREATE ROLE {} LOGIN", "stranger")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        as_user(fresh, "stranger", "the-app", "SELECT 1")


@pytest.mark.parametrize(
    "spoil",
    [
        "ALTER ROLE \"the-owner\" PASSWORD 'other'",
        'ALTER ROLE "the-owner" SUPERUSER CREATEROLE',
        'ALTER ROLE "the-owner" NOLOGIN',
    ],
)
def test_what_was_changed_by_hand_is_mended(fresh: PostgreSQL, spoil: str) -> None:
    provide(fresh)
    query_nothing(fresh, spoil)
    assert provide(fresh) == ["ALTER ROLE"]
    assert provide(fresh) == []
    rights = (
        "SELECT rolcanlogin AND NOT (rolsuper OR rolcreaterole) FROM pg_roles WHERE rolname = 'the-owner'"
    )
    assert query(fresh, rights) == [True]


def query_nothing(server: PostgreSQL, statement: str) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_database_that_was_there_changes_hands(fresh: PostgreSQL) -> None:
    fresh.admin("CREATE DATABASE {}", "the-app")
    query_in_app = "CREATE TABLE old (id int)"
    with psycopg.connect(fresh.url("the-app"), autocommit=True) as connection:
        connection.execute(query_in_app)
    assert "ALTER DATABASE" in provide(fresh)
    as_user(fresh, "the-owner", "the-app", "CREATE TABLE public.workers (id int)")
    assert provide(fresh) == []


def test_neither_password_nor_verifier_is_in_the_servers_log(fresh: PostgreSQL) -> None:
    fresh.admin("ALTER SYSTEM SET log_statement = 'all'")
    query(fresh, "SELECT pg_reload_conf()")
    try:
        provide(fresh)
        provide(fresh, "another")
        log = (fresh.directory / "log").read_text()
        assert "rolpassword FROM pg_authid" in log  # so much is logged
        assert PASSWORD not in log
        assert "SCRAM-SHA-256$" not in log
    finally:
        fresh.admin("ALTER SYSTEM RESET log_statement")
        query(fresh, "SELECT pg_reload_conf()")


def test_the_server_knows_the_verifier_as_its_own(fresh: PostgreSQL) -> None:
    """A verifier that it could not read would be taken for a password and hashed anew."""
    provide(fresh)
    stored = query(fresh, "SELECT rolpassword FROM pg_authid WHERE rolname = 'the-owner'")[0]
    assert scram_verifier(PASSWORD, stored) == stored


def test_a_failure_is_one_sentence_with_what_the_server_says_and_no_secret(fresh: PostgreSQL) -> None:
    with pytest.raises(RefusedError) as refused:
        provide(fresh, script="\\set VERBOSITY terse\nSELECT :'verifier' FROM nowhere;\n")
    assert str(refused.value).startswith("The database the-app cannot be provided: ERROR: relation")
    assert "SCRAM" not in str(refused.value)


def test_a_stored_verifier_of_the_password_stays() -> None:
    stored = scram_verifier("s3cret", salt=SALT)
    assert scram_verifier("s3cret", stored) == stored


@pytest.mark.parametrize("stored", ["", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$4096:YQ==$"])
def test_what_is_no_verifier_of_the_password_is_replaced(stored: str) -> None:
    assert scram_verifier("s3cret", stored, SALT) == scram_verifier("s3cret", salt=SALT)


def test_another_password_gets_another_verifier_with_a_salt_of_its_own() -> None:
    stored = scram_verifier("s3cret")
    assert scram_verifier("other", stored) != stored
    assert scram_verifier("s3cret") != stored


@pytest.mark.parametrize("password", ["pässword", "tab\there", "nul\0", "line\n", ""])
def test_a_password_that_postgresql_would_normalise_is_refused(tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    with pytest.raises(RefusedError, match=f"{file} must hold a password of printable ASCII") as refused:
        databases.password_in(str(file))
    assert not password or password not in str(refused.value)


def test_a_password_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="password, cannot be read: No such file or directory"):
        databases.password_in(str(tmp_path / "password"))


def test_the_server_accepts_every_setting(server: PostgreSQL) -> None:
    text = jinja2_settings(memory_mb=8000)
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = (part.strip().strip("'") for part in line.split("=", 1))
            server.admin(f"ALTER SYSTEM SET {name} = '{value}'")
            server.admin(f"ALTER SYSTEM RESET {name}")


def jinja2_settings(memory_mb: int) -> str:
    environment = jinja2.Environment(autoescape=False)
    environment.filters |= {"comment": str, "postgresql_memory_settings": memory_settings}
    template = environment.from_string((ROLE / "templates/muster.conf.j2").read_text())
    facts = {"memtotal_mb": memory_mb}
    return template.render(ansible_managed="", ansible_facts=facts, postgresql_max_connections=100)
