"""`muster workers` against a running service: find, look, change, maintain, remove."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_api.cli import workers
from control_api.errors import ApiRefused
from tests.control_api.cli.test_enrolment_tokens import Cli
from tests.control_api.cli.test_serve import Service


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    directory: Path = tmp_path_factory.mktemp("service")
    service = Service(directory).start()
    for name in ("w1", "w10", "w2"):
        service.register(hostname=name, machineId=name[-1] * 32 if name != "w10" else "f" * 32)
    yield Cli(service)
    service.stop()


def rows(cli: Cli, *arguments: str) -> list[str]:
    return [row["hostname"] for row in json.loads(cli.says("workers", "list", "--json", *arguments))]


def shown(cli: Cli, name: str) -> dict[str, Any]:
    return dict(json.loads(cli.says("workers", "show", name, "--json")))


def test_workers_are_found_changed_maintained_and_removed(cli: Cli) -> None:
    assert rows(cli, "--search", "w1", "--order", "desc") == ["w10", "w1"]
    assert (
        cli.says("workers", "set", "w1", "--name", "big", "--label", "zone=a", "--notes", "n")
        == "big is changed."
    )
    cli.says(
        "workers", "set", "big", "--label", "zone=b", "--label", "disk=", "--notes", "", "--max-pods", "5"
    )
    seen = shown(cli, "w1")
    assert (seen["name"], seen["labels"], seen["notes"], seen["maxPods"]) == (
        "big",
        {"zone": "b", "disk": ""},
        None,
        5,
    )
    assert rows(cli, "--label", "zone=b", "--status", "PENDING", "--status", "ACTIVE") == ["w1"]
    assert cli.says("workers", "maintenance", "big", "new disk", "--drain") == "big is in maintenance."
    assert shown(cli, seen["id"])["maintenance"]["reason"] == "new disk"
    assert rows(cli, "--intent", "maintenance") == ["w1"]
    assert cli.says("workers", "resume", "big") == "big is PENDING."
    facts = cli.says("workers", "show", "big").splitlines()
    assert facts[1].split() == ["name", "big"]
    assert "maintenance: new disk" in facts[-2]
    assert cli.says("workers", "remove", "w10", "--yes") == "w10 is removed."
    assert rows(cli) == ["w1", "w2"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nobody"), "There is no worker nobody."),
        (("show", "w"), "There is no worker w."),
        (("set", "w2", "--name", "UPPER"), "The request is not valid: name is not a host name"),
        (("set", "w2", "--label", "zone"), "--label zone must be like zone=a, or zone- to take it away."),
        (("maintenance", "w2", "x", "--until", "2001-01-01T00:00:00Z"), "until must lie in the future"),
        (("list", "--sort", "lastHeartbeat"), "sort"),
    ],
)
def test_a_refusal_is_one_sentence(cli: Cli, arguments: tuple[str, ...], sentence: str) -> None:
    done = cli.run("workers", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert sentence in done.stderr


def test_a_removal_is_asked_for(cli: Cli) -> None:
    done = cli.run("workers", "remove", "w2")  # nobody answers
    assert done.returncode == 1
    assert "Remove w2" in done.stdout
    assert "w2" in rows(cli)


def test_labels_are_set_and_taken_away() -> None:
    assert workers.labels(["a=1", "b=", "c-", "d=x=y"]) == {"a": "1", "b": "", "c": None, "d": "x=y"}
    with pytest.raises(ApiRefused, match="must be like"):
        workers.labels(["a"])
