#!/usr/bin/python3
"""Directories, files and links as they are to be, all of a role at once.

Standard library only, Python 3.8 or newer: it runs on the host.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import string
import tempfile
from pathlib import Path
from typing import Any, Dict, List

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
      mode: {type: raw, description: Its mode; C(0755) for a directory and C(0644) for a file where none is given.}
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

UNFINISHED = ".muster-"  # begins the name of a directory where a file is made before it gets its own name
ALPHABET = string.ascii_letters + string.digits
Given = Dict[str, Any]


class Host:
    """The files of the host, as far as the module may change them. module: the AnsibleModule."""

    def __init__(self, module: Any) -> None:
        self._module = module
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
            if not self._module.check_mode:
                shutil.rmtree(unfinished)

    def directory(self, given: Given) -> None:
        """Make the directory, with its parents."""
        path = Path(given["path"])
        self._refuse(path.exists() and not path.is_dir(), f"{path} is there, but is not a directory.")
        made = not path.is_dir()
        if made:
            self._changed(path, "", "directory\n")
            if self._module.check_mode:
                return
            path.mkdir(parents=True)
        if self._dress(path, given, "0755") and not made:
            self._changed(path)

    def file(self, given: Given) -> None:
        """Write the file, if it is not as it is to be."""
        path = Path(given["path"])
        self._refuse(path.is_dir(), f"{path} is there, but is a directory.")
        there = path.is_file() and not path.is_symlink()
        before = path.read_bytes() if there else b""
        secret = given["content"] is None
        content = before if before and given["random"] else wanted(given)
        if not there or before != content:
            shown = ("(secret)\n", "(another secret)\n") if secret else (text(before), text(content))
            self._changed(path, *shown)
            if not self._module.check_mode:
                self._replace(path, content, given)
        elif self._dress(path, given, "0644"):
            self._changed(path)

    def link(self, path: Path, target: str) -> None:
        """Point the link to the target, there or not."""
        before = os.readlink(path) if path.is_symlink() else ""
        self._refuse(path.exists() and not before, f"{path} is there, but is not a link.")
        if before == target:
            return
        self._changed(path, before and f"-> {before}\n", f"-> {target}\n")
        if not self._module.check_mode:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as directory:
                new = Path(directory, path.name)
                new.symlink_to(target)
                new.replace(path)

    def absent(self, path: Path) -> None:
        """Remove the file or link."""
        if not os.path.lexists(path):
            return
        self._changed(path, "there\n", "")
        if not self._module.check_mode:
            path.unlink()

    def _replace(self, path: Path, content: bytes, given: Given) -> None:
        self._refuse(not path.parent.is_dir(), f"{path.parent}, where {path.name} is to be, is not there.")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as directory:
            new = Path(directory, path.name)
            write(new, content)
            self._dress(new, given, "0644")
            if given["validate"]:
                code, out, said = self._module.run_command(
                    [part.replace("%s", str(new)) for part in shlex.split(given["validate"])]
                )
                self._refuse(
                    code, f"{path} was not written, since it would be wrong: {(said or out).strip()}"
                )
            new.replace(path)

    def _dress(self, path: Path, given: Given, usual: str) -> bool:
        mode = given["mode"] or usual
        wanted = {"path": str(path), "owner": given["owner"], "group": given["group"], "mode": mode}
        return bool(
            self._module.set_fs_attributes_if_different(
                {**wanted, "secontext": [None, None, None], "attributes": None}, changed=False
            )
        )

    def _changed(self, path: Path, before: str = "other attributes\n", after: str = "") -> None:
        self.written.append(str(path))
        self.diff.append(
            {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
        )

    def _refuse(self, when: Any, sentence: str) -> None:
        if when:
            self._module.fail_json(msg=sentence, written=self.written)


def wanted(given: Given) -> bytes:
    """The content that is given or asked for."""
    if given["random"]:
        return "".join(secrets.choice(ALPHABET) for _ in range(given["random"])).encode()
    return str(given["secret"] if given["content"] is None else given["content"]).encode()


def write(path: Path, content: bytes) -> None:
    """Write it to the disk, not only to the memory: a name may get there sooner than what is behind it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def text(content: bytes) -> str:
    """What a difference shows of it."""
    return content.decode("utf-8", "replace")


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    attributes = {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "raw"},
    }
    content = {
        "content": {"type": "str"},
        "secret": {"type": "str", "no_log": True},
        "random": {"type": "int"},
        "validate": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "options": attributes, "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "options": {**attributes, **content},
                "required_one_of": [("content", "secret", "random")],
                "mutually_exclusive": [("content", "secret", "random")],
                "default": [],
            },
            "links": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    host = Host(module)
    try:
        host.make(given)
    except OSError as exc:  # a full disk, a read-only one
        at = host.written[-1] if host.written else exc.filename  # it is counted before it is touched
        module.fail_json(msg=f"{at} cannot be written: {exc.strerror}.")
    module.exit_json(changed=bool(host.written), written=host.written, diff=host.diff)


if __name__ == "__main__":
    main()
