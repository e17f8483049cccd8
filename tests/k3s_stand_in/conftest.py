"""The executable, built once, and machines that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.k3s_stand_in import build
from tests.k3s_stand_in.machines import Machine, Server


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("binary") / "k3s"
    build(path)
    return path


@pytest.fixture(scope="module")
def server(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of one file share; it calls a node silent after 2 s."""
    quick = ["node-monitor-grace-period=2s", "node-monitor-period=300ms"]
    root = tmp_path_factory.mktemp("server")
    config = {"agent-token": "only-agents", "kube-controller-manager-arg": quick}
    machine = Server(binary, root, **config)
    machine.up("server")
    yield machine
    machine.stop()


@pytest.fixture
def own_server(binary: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, not started."""
    machine = Server(binary, tmp_path / "server")
    machine.root.mkdir()
    yield machine
    if machine.process:
        machine.stop()


@pytest.fixture
def more_servers(binary: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """more_servers(name, first, token, **config): the machine of a server that joins another, not started."""
    made: list[Server] = []

    def make(name: str, first: Server, token: str, **config: Any) -> Server:
        root = tmp_path / f"{name}-{len(made)}"
        root.mkdir()
        made.append(Server(binary, root, name, server=first.url, token=token, **config))
        return made[-1]

    yield make
    for machine in made:
        if machine.process:
            machine.stop()


@pytest.fixture
def worker(binary: Path, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """worker(name, server, token, **config): a machine of an agent, not started."""
    made: list[Machine] = []

    def make(name: str, server: Server, token: str, **config: Any) -> Machine:
        root = tmp_path / f"{name}-{len(made)}"
        root.mkdir()
        made.append(Machine(binary, root, name, server=server.url, token=token, **config))
        return made[-1]

    yield make
    for machine in made:
        if machine.process:
            machine.stop()
