"""What the role postgresql tells the server, on a server of the tests' own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import jinja2
import psycopg
import pytest

from filter_plugins.postgresql import memory_settings, scram_verifier
from tests.control_api.servers import PostgreSQL, start_postgresql

TEMPLATES = Path(__file__).parents[2] / "roles/postgresql/templates"
PASSWORD = "s3cret-'\"$pass"


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


def provide(server: PostgreSQL, password: str = PASSWORD) -> list[str]:
    """Do what tasks/database.yml does; return the command tags of what was changed."""
    stored = query(server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'the-owner'")
    verifier = scram_verifier(password, stored[0] or "" if stored else "")
    script = jinja2.Template((TEMPLATES / "database.sql.j2").read_text()).render(
        __postgresql_verifier=verifier
    )
    options = ["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
    names = ["--set=owner=the-owner", "--set=database=the-app"]
    done = subprocess.run(
        ["psql", *options, *names, server.url("postgres")],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


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
    template = environment.from_string((TEMPLATES / "muster.conf.j2").read_text())
    facts = {"memtotal_mb": memory_mb}
    return template.render(ansible_managed="", ansible_facts=facts, postgresql_max_connections=100)
