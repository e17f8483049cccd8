"""Environment, files and flags are read in K3s' order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.k3s_stand_in import settings
from lab.k3s_stand_in.errors import UsageError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def drop_in(config: Path, name: str, text: str) -> None:
    directory = Path(f"{config}.d")
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)


def test_flags_win_over_files_and_files_over_the_environment(config: Path) -> None:
    config.write_text("node-name: from-file\ntoken: from-file\n")
    environment = {"K3S_NODE_NAME": "from-env", "K3S_TOKEN": "from-env", "K3S_URL": "https://from-env"}
    found = settings.read("agent", ["--node-name=from-flag"], environment, config)

    assert (found.text("node-name"), found.text("token"), found.text("server")) == (
        "from-flag",
        "from-file",
        "https://from-env",
    )


def test_drop_ins_replace_in_alphabetical_order_and_append_with_a_plus(config: Path) -> None:
    config.write_text("tls-san: [a]\nnode-label: [x=1]\n")
    drop_in(config, "20.yaml", "tls-san+: [c]\n")
    drop_in(config, "10.yaml", "tls-san: b\nnode-label+: [y=2]\n")
    drop_in(config, "30.txt", "tls-san: [ignored]\n")
    found = settings.read("server", [], {}, config)

    assert found.items("tls-san") == ["b", "c"]
    assert found.items("node-label") == ["x=1", "y=2"]


def test_a_repeated_flag_replaces_the_list_of_the_file(config: Path) -> None:
    config.write_text("tls-san: [a, b]\n")
    found = settings.read("server", ["--tls-san", "c", "--tls-san=d,e"], {}, config)

    assert found.items("tls-san") == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("command", "arguments", "text", "sentence"),
    [
        ("agent", ["--tls-san", "x"], "", "flag provided but not defined: -tls-san"),
        ("server", [], "no-such-key: 1", "flag provided but not defined: -no-such-key"),
        ("agent", ["--token"], "", "flag needs an argument: --token"),
        ("agent", ["stray"], "", "unexpected argument 'stray'"),
        ("agent", [], "- a list", "must hold keys and values"),
    ],
)
def test_what_k3s_does_not_know_is_refused(
    config: Path, command: str, arguments: list[str], text: str, sentence: str
) -> None:
    config.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        settings.read(command, arguments, {}, config)


def test_component_flags_are_read_from_their_list(config: Path) -> None:
    config.write_text("kubelet-arg: [healthz-port=1, --healthz-port=2]\n")
    assert settings.read("agent", [], {}, config).argument("kubelet-arg", "healthz-port", "3") == "2"
    assert settings.read("agent", [], {}, config).argument("kubelet-arg", "other", "3") == "3"
