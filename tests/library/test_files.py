"""The module `files`, as Ansible runs it: in this process, on files of this machine."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from library import files

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


class Place:
    """Runs the module and returns what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            files.main(json.dumps({**arguments, "_ansible_check_mode": check, "_ansible_version": "2"}))
        return dict(json.loads(self._capsys.readouterr().out))


@pytest.fixture
def place(capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(capsys)


def file(path: Path, content: str = "new\n", **more: str) -> dict[str, str]:
    return {"path": str(path), "content": content, **ME, **more}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_files_and_links_are_made_once(place: Place, tmp_path: Path) -> None:
    wanted = {
        "directories": [{"path": str(tmp_path / "a/b"), "mode": "0700", **ME}],
        "files": [file(tmp_path / "a/b/c")],
        "links": {str(tmp_path / "d"): "a/b/c"},
    }
    assert place(**wanted)["written"] == [str(tmp_path / name) for name in ("a/b", "a/b/c", "d")]
    assert (tmp_path / "d").read_text() == "new\n"
    assert (mode(tmp_path / "a/b"), mode(tmp_path / "a/b/c")) == (0o700, 0o644)
    assert (again := place(**wanted))["changed"] is False
    assert again["written"] == []
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/c"]


def test_check_mode_tells_and_changes_nothing(place: Place, tmp_path: Path) -> None:
    (old := tmp_path / "old").write_text("old\n")
    told = place(
        check=True,
        directories=[{"path": str(tmp_path / "a"), **ME}],
        files=[file(tmp_path / "a/b"), file(old, owner="nobody-yet")],
        links={str(tmp_path / "c"): "a"},
        absent=[str(old)],
    )
    assert told["written"] == [str(tmp_path / name) for name in ("a", "a/b", "old", "c", "old")]
    assert told["diff"][2] == {
        "before_header": str(old),
        "after_header": str(old),
        "before": "old\n",
        "after": "new\n",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert old.read_text() == "old\n"


def test_other_attributes_are_a_change(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "a"
    place(files=[file(path)])
    path.chmod(0o666)
    assert place(check=True, files=[file(path)])["changed"] is True
    assert mode(path) == 0o666
    assert place(files=[file(path)])["written"] == [str(path)]
    assert mode(path) == 0o644


def test_a_file_is_replaced_and_not_written_over(place: Place, tmp_path: Path) -> None:
    (path := tmp_path / "a").write_text("old\n")
    with path.open() as reader:
        place(files=[file(path, mode="0600")])
        assert reader.read() == "old\n"
    assert (path.read_text(), mode(path)) == ("new\n", 0o600)


def test_a_link_in_the_place_of_a_file_is_replaced(place: Place, tmp_path: Path) -> None:
    (target := tmp_path / "target").write_text("old\n")
    (path := tmp_path / "a").symlink_to(target)
    place(files=[file(path)])
    assert not path.is_symlink()
    assert target.read_text() == "old\n"


def test_what_a_killed_run_left_is_removed(place: Place, tmp_path: Path) -> None:
    (here := tmp_path / "here").write_text("new\n")
    here.chmod(0o644)
    (left := tmp_path / ".muster-abc").mkdir()
    (left / "here").write_text("half a secr")
    (other := tmp_path / ".other").mkdir()
    assert place(check=True, files=[file(here)])["written"] == [str(left)]
    assert left.is_dir()
    assert place(files=[file(here)])["written"] == [str(left)]
    assert set(tmp_path.iterdir()) == {here, other}
    assert place(links={str(tmp_path / "link"): "here"}, files=[file(here)])["written"] == [
        str(tmp_path / "link")
    ]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []
    target = tmp_path / "file"
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append((os.fstat(number).st_size, target.exists()))
    )
    place(files=[file(target)])
    assert synced == [(len("new\n"), False)]


def test_a_secret_is_shown_nowhere(place: Place, tmp_path: Path) -> None:
    told = place(files=[{"path": str(tmp_path / "a"), "secret": "of-nobody-else", **ME}])
    assert (tmp_path / "a").read_text() == "of-nobody-else"
    assert "of-nobody-else" not in json.dumps(told)


def test_a_random_secret_is_made_once(place: Place, tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "a"), "random": 43, "mode": "0600", **ME}
    told = place(files=[wanted])
    made = (tmp_path / "a").read_text()
    assert (len(made), made.isalnum(), mode(tmp_path / "a")) == (43, True, 0o600)
    assert made not in json.dumps(told)
    assert place(files=[wanted])["changed"] is False
    assert (tmp_path / "a").read_text() == made


def test_what_is_not_valid_is_not_put_in_place(place: Place, tmp_path: Path) -> None:
    (path := tmp_path / "a").write_text("old\n")
    told = place(files=[file(path, validate="grep --quiet old %s")])
    assert told["failed"] is True
    assert f"{path} was not written" in told["msg"]
    assert path.read_text() == "old\n"
    assert place(files=[file(path, content="old 2\n", validate="grep --quiet old %s")])["changed"] is True


def test_a_link_is_turned_and_one_of_nothing_is_allowed(place: Place, tmp_path: Path) -> None:
    link = tmp_path / "current"
    place(links={str(link): "release-1"})
    assert place(links={str(link): "release-2"})["changed"] is True
    assert link.readlink() == Path("release-2")


def test_what_is_to_be_absent_is_removed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    absent = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert place(absent=absent)["written"] == absent[:1]
    assert place(absent=absent)["changed"] is False


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"directories": [{"path": "{}/file", **ME}]}, "{}/file is there, but is not a directory."),
        ({"files": [{"path": "{}/directory", "content": ""}]}, "{}/directory is there, but is a directory."),
        (
            {"files": [{"path": "{}/none/a", "content": ""}]},
            "{}/none, where a is to be, is not there.",
        ),
        ({"links": {"{}/file": "a"}}, "{}/file is there, but is not a link."),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    place: Place, tmp_path: Path, wanted: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    arguments = json.loads(json.dumps(wanted).replace("{}", str(tmp_path)))
    assert place(**arguments)["msg"] == sentence.format(tmp_path)


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (path := tmp_path / "a").write_text("old\n")
    monkeypatch.setattr(files, "write", full)
    assert place(files=[file(path)])["msg"] == f"{path} cannot be written: No space left on device."
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_secret_is_none(place: Place, tmp_path: Path) -> None:
    (path := tmp_path / "a").touch()
    place(files=[{"path": str(path), "random": 43, **ME}])
    assert len(path.read_text()) == 43


def test_an_owner_that_check_mode_would_have_made_is_a_change(place: Place, tmp_path: Path) -> None:
    place(files=[file(path := tmp_path / "a")])
    assert place(check=True, files=[file(path, owner="nobody-yet")])["written"] == [str(path)]


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        ({"files": [{"path": "/a"}]}, "/a needs one of content, secret, random"),
        ({"files": [{"path": "/a", "content": "", "secret": ""}]}, "/a needs one of content, secret, random"),
        ({"files": [{"content": ""}]}, "path is missing"),
        ({"files": [{"path": "/a", "content": 1, "of": ""}]}, "there is no of, content must be a str"),
        ({"directories": [{"path": "/a", "mode": "u=rwx"}]}, "/a needs a mode of octal digits"),
        ({"file": []}, "there is no file"),
        ({"links": []}, "links must be a dict"),
    ],
)
def test_a_task_that_is_wrong_is_told_how(place: Place, wanted: dict[str, Any], wrong: str) -> None:
    told = place(**wanted)
    assert told == {**told, "failed": True, "changed": False, "msg": f"The task is wrong: {wrong}."}


def test_an_owner_who_is_not_there_is_named(place: Place, tmp_path: Path) -> None:
    told = place(files=[file(path := tmp_path / "a", owner="nobody-yet")])
    assert told["msg"] == f"{path}: there is no user or group 'nobody-yet'."
    assert list(tmp_path.iterdir()) == []
