#!/usr/bin/python
"""Databases of PostgreSQL, each with the role that owns it and that role's password, which never leaves the host.

Standard library only, Python 3.8 or newer: it runs on the host.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from typing import Any, Dict, List

DOCUMENTATION = r"""
module: postgresql_databases
short_description: Provides databases and the roles that own them, with passwords that are read on the host
description:
  - The server gets each password as the verifier that it stores (SCRAM-SHA-256, RFC 5803), and only when the stored one
    is of another password. What is secret goes to psql on standard input.
  - In check mode it tells what it would do. It imports nothing of Ansible, which takes longer than all it does.
options:
  databases:
    description: In this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: Name of the database.}
      owner: {type: str, required: true, description: Role that owns it.}
      password_file: {type: path, required: true, description: File on the host that holds the role's password.}
  script: {type: str, required: true, description: What psql is given for each of them.}
author: Muster
"""
EXAMPLES = r"""
- name: Ensure that each role owns its database
  postgresql_databases:
    databases: [{name: muster, owner: muster, password_file: /etc/muster/secrets/postgresql_password}]
    script: "{{ lookup('ansible.builtin.file', 'database.sql') }}"
"""
RETURN = r"""
done:
  description: What was done, or would have been in check mode, each with the name of its database.
  type: list
  returned: success
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible puts them there
AS_SUPERUSER = ["runuser", "--user", "postgres", "--", "psql"]  # over the local socket
OPTIONS = ["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
STORED = "SELECT rolpassword FROM pg_authid WHERE rolname = :'owner'"
ITERATIONS = 4096  # PostgreSQL's own default
VERIFIER = re.compile(r"SCRAM-SHA-256\$(?P<iterations>\d+):(?P<salt>[A-Za-z0-9+/=]+)\$")
WHERE = re.compile(r"^psql:[^ ]*: (?:error: )?", re.MULTILINE)  # the line of the script helps nobody
GIVEN = ("databases", "script")
Database = Dict[str, str]


class RefusedError(Exception):
    """A database cannot be provided; the sentence says why."""


def scram_verifier(password: str, stored: str = "", salt: bytes = b"") -> str:
    """The password as PostgreSQL stores it (RFC 5803), so that the server never sees it in the clear.

    In: the password; the verifier that the server has, empty if none; a salt, random unless given.
    Out: `stored` when it is of this password, so that a second run changes nothing; else a new verifier.
    """
    known = VERIFIER.match(stored)
    if known and stored == _verifier(password, base64.b64decode(known["salt"]), int(known["iterations"])):
        return stored
    return _verifier(password, salt or os.urandom(16), ITERATIONS)


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


def password_in(file: str) -> str:
    """The password, which must be plain ASCII: PostgreSQL would normalise another one first (SASLprep)."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            password = opened.read()
    except OSError as exc:
        raise RefusedError(f"{file}, which holds the password, cannot be read: {exc.strerror}.") from exc
    if not (password and password.isascii() and password.isprintable()):
        raise RefusedError(f"{file} must hold a password of printable ASCII characters, and nothing else.")
    return password


def ask(psql: List[str], database: Database, script: str) -> str:
    """What psql prints."""
    names = [f"--set=owner={database['owner']}", f"--set=database={database['name']}"]
    done = subprocess.run(
        [*psql, *OPTIONS, *names],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
        cwd="/",  # which postgres may enter
    )
    if done.returncode:
        said = " ".join(WHERE.sub("", done.stderr).split())
        raise RefusedError(f"The database {database['name']} cannot be provided: {said}")
    return done.stdout


def provide(psql: List[str], database: Database, script: str, check: bool = False) -> List[str]:
    """Provide the database and its owner. Out: what was done; with `check`, what would be."""
    unmade = check and not os.path.lexists(database["password_file"])  # an earlier task would have made it
    password = "unmade" if unmade else password_in(database["password_file"])
    verifier = scram_verifier(password, ask(psql, database, STORED).strip())
    given = script.replace("\\gexec", "\\g") if check else script
    printed = ask(psql, database, f"\\set verifier '{verifier}'\n{given}")
    return [" ".join(line.split()[:2]) for line in printed.splitlines()]  # a statement may hold the verifier


def outcome(given: Dict[str, Any]) -> Dict[str, Any]:
    """In: the arguments. Out: the answer."""
    for name in sorted(given):
        if name not in GIVEN and not name.startswith("_ansible_"):
            raise RefusedError(f"postgresql_databases: there is no {name}, only {' and '.join(GIVEN)}.")
    done = [
        f"{each['name']}: {tag}"
        for each in given["databases"]
        for tag in provide(AS_SUPERUSER, each, given["script"], given["_ansible_check_mode"])
    ]
    after = "".join(f"{line}\n" for line in done)
    return {"changed": bool(done), "done": done, "diff": {"before": "", "after": after}}


def main() -> None:
    try:
        print(json.dumps(outcome(json.loads(ARGUMENTS))))
    except RefusedError as exc:
        print(json.dumps({"failed": True, "msg": str(exc)}))
        sys.exit(1)


if __name__ == "__main__":
    main()
