#!/usr/bin/python
"""What is at some paths, what some files say, and which users there are, in one call.

Standard library only, Python 3.8 or newer: it runs on the host, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
import sys
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, Dict, List, Optional

DOCUMENTATION = r"""
module: look
short_description: Tells what is at some paths, what some files say, and which users there are
description:
  - What M(ansible.builtin.stat), M(ansible.builtin.find), M(ansible.builtin.slurp) and M(ansible.builtin.getent) tell
    in a call each, in one for all that a role asks about. It only reads, in check mode too.
options:
  paths:
    description: Where to look; patterns, as a shell knows them, are allowed. What is not there is left out.
    type: list
    elements: path
  sha256:
    description: Whether to tell the SHA-256 of the files, or of the files behind links, too.
    type: bool
    default: false
  read:
    description: Small text files that are read; each must be there. Give the task C(no_log) where one is a secret.
    type: list
    elements: path
  users:
    description: Users to look for; who is not there is left out.
    type: list
    elements: str
author: Muster
"""
EXAMPLES = r"""
- name: Look for the release in use, and for this one
  look:
    paths: [/usr/local/bin/k3s, "{{ __k3s_binary_path }}"]
    sha256: true
  register: __k3s_binary_seen

- name: Read the password
  look:
    read: ["{{ redis_password_file }}"]
  register: __redis_secrets
  no_log: true
"""
RETURN = r"""
found:
  description: >-
    Path -> what is there: its C(kind), which is file, directory, link or other; its C(owner) and C(mode); the C(target)
    of a link; the C(sha256), where it is asked for.
  type: dict
  returned: success
  sample:
    /usr/local/bin/k3s: {kind: link, owner: root, mode: "0777", target: k3s-v1.34.4+k3s1}
texts:
  description: Path -> what the file says.
  type: dict
  returned: always
users:
  description: Name -> C(home) and C(shell).
  type: dict
  returned: success
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
USUAL: Dict[str, Any] = {"paths": [], "read": [], "sha256": False, "users": []}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
SMALL = 1024 * 1024


class LookError(Exception):
    """A sentence for the user."""


def given(text: str) -> Dict[str, Any]:
    """The arguments of the task, with those that it leaves out."""
    said = {name: value for name, value in json.loads(text).items() if not name.startswith("_ansible_")}
    for name, value in said.items():
        if name not in USUAL:
            raise LookError(f"The task is wrong: there is no {name}, only {', '.join(USUAL)}.")
        if name == "sha256" and not isinstance(value, bool):
            raise LookError("The task is wrong: sha256 must be true or false.")
        if name != "sha256" and not is_list(value):
            raise LookError(f"The task is wrong: {name} must be a list.")
    return {**USUAL, **said}


def is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value)


def seen_at(path: str, sha256: bool) -> Dict[str, str]:
    """What is at the path; of a link, what is behind it has the checksum."""
    status = os.lstat(path)
    seen = {
        "kind": KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        "owner": owner(status.st_uid),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }
    if seen["kind"] == "link":
        seen["target"] = os.readlink(path)
    if sha256 and Path(path).is_file():
        seen["sha256"] = checksum(os.path.realpath(path))
    return seen


def user(name: str) -> Optional[Dict[str, str]]:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return {"home": entry.pw_dir, "shell": entry.pw_shell}


def owner(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@lru_cache(maxsize=None)  # a link and its file are often looked at together
def checksum(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        for block in iter(lambda: content.read(SMALL), b""):
            digest.update(block)
    return digest.hexdigest()


def text_of(path: str) -> str:
    """What the file says."""
    with open(path, "rb") as file:
        content = file.read(SMALL + 1)
    if len(content) > SMALL:
        raise LookError(f"{path} is too big to be read: it has more than {SMALL} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise LookError(f"{path} cannot be read: it is no text.") from None


def answer(text: str) -> Dict[str, Any]:
    """In: the arguments as JSON. Out: what the module says."""
    texts: Dict[str, str] = {}
    missing: List[str] = []
    try:
        arguments = given(text)
        paths = sorted({path for pattern in arguments["paths"] for path in glob(pattern)})
        found = {path: seen_at(path, arguments["sha256"]) for path in paths}
        for path in arguments["read"]:
            try:
                texts[path] = text_of(path)
            except FileNotFoundError:
                missing.append(path)
    except LookError as exc:
        return {"failed": True, "msg": str(exc)}
    except OSError as exc:
        return {"failed": True, "msg": f"{exc.filename} cannot be read: {exc.strerror}."}
    if missing:
        are = "is" if len(missing) == 1 else "are"
        return {"failed": True, "msg": f"{', '.join(missing)} {are} not there.", "texts": texts}
    users = {name: entry for name in arguments["users"] for entry in [user(name)] if entry}
    return {"changed": False, "found": found, "texts": texts, "users": users}


def main() -> None:
    said = answer(ARGUMENTS)
    sys.stdout.write(json.dumps(said))
    sys.exit(1 if said.get("failed") else 0)


if __name__ == "__main__":
    main()
