"""The module `look`: what it tells of paths on this machine, and that Ansible can put arguments into it."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from library import look

ROOT = Path(__file__).parents[2]
ME = pwd.getpwuid(os.getuid()).pw_name


def ask(**arguments: Any) -> dict[str, Any]:
    return look.answer(json.dumps({**arguments, "_ansible_check_mode": True}))


def test_files_directories_and_links_are_told_apart(tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("abc")
    file.chmod(0o640)
    (directory := tmp_path / "directory").mkdir(mode=0o700)
    (link := tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(fifo := tmp_path / "fifo", mode=0o600)
    assert ask(paths=[str(path) for path in (file, directory, link, fifo, tmp_path / "none")]) == {
        "changed": False,
        "found": {
            str(directory): {"kind": "directory", "owner": ME, "mode": "0700"},
            str(fifo): {"kind": "other", "owner": ME, "mode": "0600"},
            str(file): {"kind": "file", "owner": ME, "mode": "0640"},
            str(link): {"kind": "link", "owner": ME, "mode": "0777", "target": "nowhere"},
        },
        "texts": {},
        "users": {},
    }


def test_a_pattern_stands_for_all_that_match(tmp_path: Path) -> None:
    for name in ("k3s-v1", "k3s-v2", "other"):
        (tmp_path / name).touch()
    assert list(ask(paths=[f"{tmp_path}/k3s-v*"])["found"]) == [f"{tmp_path}/k3s-v1", f"{tmp_path}/k3s-v2"]


def test_the_checksum_of_a_link_is_that_of_the_file_behind_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    found = ask(paths=[f"{tmp_path}/*", str(tmp_path)], sha256=True)["found"]
    sums = {Path(path).name: seen.get("sha256") for path, seen in found.items()}
    abc = hashlib.sha256(b"abc").hexdigest()
    assert sums == {"file": abc, "link": abc, "dangling": None, tmp_path.name: None}
    assert "sha256" not in ask(paths=[f"{tmp_path}/file"])["found"][f"{tmp_path}/file"]


def test_text_is_read_as_it_is_and_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('"""ö\\\n\n')
    (tmp_path / "link").symlink_to("file")
    link = str(tmp_path / "link")
    assert ask(read=[link])["texts"] == {link: '"""ö\\\n\n'}


def test_what_must_be_there_is_named_and_the_rest_is_told(tmp_path: Path) -> None:
    (there := tmp_path / "there").write_text("abc")
    told = ask(read=[str(there), f"{tmp_path}/a"])
    assert told == {"failed": True, "msg": f"{tmp_path}/a is not there.", "texts": {str(there): "abc"}}
    assert ask(read=[f"{tmp_path}/a", f"{tmp_path}/b"])["msg"] == f"{tmp_path}/a, {tmp_path}/b are not there."


def test_users_are_told_with_home_and_shell() -> None:
    told = ask(users=["root", "nobody-of-this-name"])
    assert told["users"] == {"root": {"home": "/root", "shell": pwd.getpwnam("root").pw_shell}}


def test_what_is_no_small_text_is_one_sentence(tmp_path: Path) -> None:
    (binary := tmp_path / "binary").write_bytes(b"\xff")
    (big := tmp_path / "big").write_bytes(b"a" * (look.SMALL + 1))
    assert ask(read=[str(binary)])["msg"] == f"{binary} cannot be read: it is no text."
    assert ask(read=[str(big)])["msg"] == f"{big} is too big to be read: it has more than 1048576 bytes."
    assert ask(read=[str(tmp_path)])["msg"] == f"{tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"path": "/etc"}, "The task is wrong: there is no path, only paths, read, sha256, users."),
        ({"paths": "/etc"}, "The task is wrong: paths must be a list."),
        ({"read": ["/etc/passwd", None]}, "The task is wrong: read must be a list."),
        ({"paths": ["/etc"], "sha256": "yes"}, "The task is wrong: sha256 must be true or false."),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    assert ask(**arguments) == {"failed": True, "msg": sentence}


def test_ansible_puts_the_arguments_into_it(tmp_path: Path) -> None:
    """Through the real ansible: names that are hard to quote, check mode, and a failure."""
    (file := tmp_path / 'a"""\\ö').write_text("abc")
    for paths, status, said in (([str(file)], 0, '"texts": {'), ([f"{tmp_path}/none"], 2, "is not there.")):
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible",
                "localhost",
                "--check",
                "--module-name=look",
                f"--args={json.dumps({'read': paths})}",
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(tmp_path)}
            | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr


def test_it_runs_as_a_program_that_answers_in_json(tmp_path: Path) -> None:
    source = (ROOT / "library/look.py").read_text()
    for arguments, status in (({"paths": [str(tmp_path)]}, 0), ({"path": []}, 1)):
        program = source.replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", json.dumps(arguments))
        done = subprocess.run(
            [sys.executable, "-"], input=program, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert json.loads(done.stdout) == look.answer(json.dumps(arguments))
