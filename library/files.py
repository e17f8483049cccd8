#!/usr/bin/python
"""Directories, files and links as they are to be, all of a role at once.

Standard library only, Python 3.8 or newer: it runs on the host, without Ansible's library (docs/adr/0010).
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

DOCUMENTATION = r"""
module: files
short_description: Makes directories, small files and links what they are to be, in one go
description:
  - What M(ansible.builtin.file), M(ansible.builtin.copy) and M(ansible.builtin.template) do for one file in up to two
    calls of a host, for all files of a role in one. A big file is better copied.
  - Each file is replaced as a whole, with its owner and mode, so that nobody reads half of it, and nobody finds half
    of it after a power cut. What a run has left that was killed meanwhile is removed by the next one.
options:
  directories:
    description: Made first, in this order.
    type: list
    elements: dict
    suboptions: &attributes
      path: {type: path, required: true, description: Where it is.}
      owner: {type: str, default: root, description: Its owner.}
      group: {type: str, default: root, description: Its group.}
      mode: {type: str, description: Its mode in octal; without, C(0755) of a directory, C(0644) of a file.}
  files:
    description: Written after the directories, in this order.
    type: list
    elements: dict
    suboptions:
      <<: *attributes
      content: {type: str, description: What is in it.}
      secret: {type: str, description: What is in it, and is shown nowhere.}
      random: {type: int, description: Number of random letters and digits that it is made of, where it is not there.}
      validate: {type: str, description: Command that must succeed before it is put in place; C(%s) is the new file.}
  links:
    description: Path -> what it points to.
    type: dict
  absent:
    description: Files and links that are removed.
    type: list
    elements: path
author: Muster
"""
EXAMPLES = r"""
- name: Write Redis' users and settings
  files:
    files:
      - path: /etc/redis/redis.conf
        content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
        group: redis
        mode: "0640"
  register: __redis_files
"""
RETURN = r"""
written:
  description: The paths that were changed, or would have been in check mode.
  type: list
  returned: always
"""

Given = Dict[str, Any]
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
USUAL: Given = {"directories": [], "files": [], "links": {}, "absent": []}
ATTRIBUTES = {"path": str, "owner": "root", "group": "root"}
DIRECTORY = {**ATTRIBUTES, "mode": "0755"}
CONTENT = {"content": str, "secret": str, "random": int}
FILE = {**ATTRIBUTES, "mode": "0644", "validate": "", **CONTENT}
UNFINISHED = ".muster-"  # begins the name of a directory where a file is made before it gets its own name
ALPHABET = string.ascii_letters + string.digits


class RefusedError(Exception):
    """Why something is not as it is to be, in one sentence."""


def taken(given: Given, usual: Given, *required: str) -> Given:
    """What is given, and the usual for the rest: of what has no usual value, its type is named there.

    Raises RefusedError where one is unknown, missing or of another type.
    """
    given = {
        name: value for name, value in given.items() if value is not None and not name.startswith("_ansible_")
    }
    types = {name: value if isinstance(value, type) else type(value) for name, value in usual.items()}
    wrong = [f"{name} is missing" for name in required if name not in given]
    wrong += [f"there is no {name}" for name in given if name not in types]
    wrong += [
        f"{name} must be a {types[name].__name__}"
        for name, value in given.items()
        if not isinstance(value, types.get(name, object))
    ]
    if wrong:
        raise RefusedError(f"The task is wrong: {', '.join(wrong)}.")
    return {**{name: value for name, value in usual.items() if value is not types[name]}, **given}


def understood(arguments: Given) -> Given:
    """What the task asks for, whole. Raises RefusedError where it is wrong, before anything is changed."""
    given = taken(arguments, USUAL)
    given["directories"] = [taken(directory, DIRECTORY, "path") for directory in given["directories"]]
    given["files"] = [taken(file, FILE, "path") for file in given["files"]]
    for file in given["files"]:
        if len(CONTENT.keys() & file.keys()) != 1:
            raise RefusedError(f"The task is wrong: {file['path']} needs one of {', '.join(CONTENT)}.")
    for each in given["directories"] + given["files"]:
        if not re.fullmatch("[0-7]{3,4}", each["mode"]):
            raise RefusedError(f"The task is wrong: {each['path']} needs a mode of octal digits.")
    return given


class Host:
    """The files of the host, as far as the module may change them. check: nothing is changed, only told."""

    def __init__(self, *, check: bool) -> None:
        self._check = check
        self.written: List[str] = []
        self.diff: List[Dict[str, str]] = []

    def make(self, given: Given) -> None:
        """Make everything, in its order."""
        named = [*(file["path"] for file in given["files"]), *given["links"]]
        for place in sorted({Path(path).parent for path in named}):
            self.clear(place)
        for directory in given["directories"]:
            self.directory(directory)
        for file in given["files"]:
            self.file(file)
        for path, target in given["links"].items():
            self.link(Path(path), target)
        for path in given["absent"]:
            self.absent(Path(path))

    def clear(self, directory: Path) -> None:
        """Remove what a run that was killed has left: it may hold a secret."""
        for unfinished in sorted(directory.glob(f"{UNFINISHED}*")):
            self._changed(unfinished, "unfinished\n")
            if not self._check:
                shutil.rmtree(unfinished)

    def directory(self, given: Given) -> None:
        """Make the directory, with its parents."""
        path = Path(given["path"])
        self._refuse(path.exists() and not path.is_dir(), f"{path} is there, but is not a directory.")
        made = not path.is_dir()
        if made:
            self._changed(path, "", "directory\n")
            if self._check:
                return
            path.mkdir(parents=True)
        if self._dress(path, given) and not made:
            self._changed(path)

    def file(self, given: Given) -> None:
        """Write the file, if it is not as it is to be."""
        path = Path(given["path"])
        self._refuse(path.is_dir(), f"{path} is there, but is a directory.")
        there = path.is_file() and not path.is_symlink()
        before = path.read_bytes() if there else b""
        content = before if before and "random" in given else wanted(given)
        if not there or before != content:
            shown = (
                ("(secret)\n", "(another secret)\n")
                if "content" not in given
                else (text(before), text(content))
            )
            self._changed(path, *shown)
            if not self._check:
                self._replace(path, content, given)
        elif self._dress(path, given):
            self._changed(path)

    def link(self, path: Path, target: str) -> None:
        """Point the link to the target, there or not."""
        before = os.readlink(path) if path.is_symlink() else ""
        self._refuse(path.exists() and not before, f"{path} is there, but is not a link.")
        if before == target:
            return
        self._changed(path, before and f"-> {before}\n", f"-> {target}\n")
        if not self._check:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as directory:
                new = Path(directory, path.name)
                new.symlink_to(target)
                new.replace(path)

    def absent(self, path: Path) -> None:
        """Remove the file or link."""
        if not os.path.lexists(path):
            return
        self._changed(path, "there\n", "")
        if not self._check:
            path.unlink()

    def _replace(self, path: Path, content: bytes, given: Given) -> None:
        self._refuse(not path.parent.is_dir(), f"{path.parent}, where {path.name} is to be, is not there.")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as directory:
            new = Path(directory, path.name)
            write(new, content)
            self._dress(new, given)
            if given["validate"]:
                code, said = run([part.replace("%s", str(new)) for part in shlex.split(given["validate"])])
                self._refuse(code, f"{path} was not written, since it would be wrong: {said}")
            new.replace(path)

    def _dress(self, path: Path, given: Given) -> bool:
        """Give it its owner and mode; say whether it had others."""
        seen = path.stat()
        ids, mode = owners(given, unknown_is_fine=self._check), int(given["mode"], 8)
        if ids == (seen.st_uid, seen.st_gid) and mode == stat.S_IMODE(seen.st_mode):
            return False
        if not self._check:
            os.chown(path, *ids)
            path.chmod(mode)
        return True

    def _changed(self, path: Path, before: str = "other attributes\n", after: str = "") -> None:
        self.written.append(str(path))
        self.diff.append(
            {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
        )

    def _refuse(self, when: Any, sentence: str) -> None:
        if when:
            raise RefusedError(sentence)


def owners(given: Given, *, unknown_is_fine: bool) -> Tuple[int, int]:
    """The numbers of user and group; -1, which nobody has, for one that is not there yet. Raises RefusedError."""
    try:
        user, group = given["owner"], given["group"]
        return (
            int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid,
            int(group) if group.isdigit() else grp.getgrnam(group).gr_gid,
        )
    except KeyError as exc:
        if unknown_is_fine:
            return -1, -1
        raise RefusedError(f"{given['path']}: there is no user or group {exc.args[0].split()[-1]}.") from None


def run(command: List[str]) -> Tuple[int, str]:
    """Run it; return its exit status and what it says."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as exc:
        return 127, str(exc)
    return done.returncode, (done.stderr or done.stdout).strip()


def wanted(given: Given) -> bytes:
    """The content that is given or asked for."""
    if "random" in given:
        return "".join(secrets.choice(ALPHABET) for _ in range(given["random"])).encode()
    return str(given["content"] if "content" in given else given["secret"]).encode()


def write(path: Path, content: bytes) -> None:
    """Write it to the disk, not only to the memory: a name may get there sooner than what is behind it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def text(content: bytes) -> str:
    """What a difference shows of it."""
    return content.decode("utf-8", "replace")


def main(arguments: str = ARGUMENTS) -> None:
    """Make everything and tell what was changed, or why it could not be."""
    given = json.loads(arguments)
    host = Host(check=given["_ansible_check_mode"])
    failed = ""
    try:
        host.make(understood(given))
    except RefusedError as exc:
        failed = str(exc)
    except OSError as exc:  # a full disk, a read-only one
        at = host.written[-1] if host.written else exc.filename  # it is counted before it is touched
        failed = f"{at} cannot be written: {exc.strerror}."
    told = {"changed": bool(host.written), "written": host.written, "diff": host.diff}
    print(json.dumps({**told, "failed": True, "msg": failed} if failed else told))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
