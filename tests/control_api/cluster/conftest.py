"""Clusters: one in memory, and the lab's stand-in for K3s as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.k3s_stand_in import build
from tests.control_api.cluster.fakes import FakeCluster
from tests.control_api.world import Api, Clock, make_settings, running_api
from tests.k3s_stand_in.machines import Machine, Server


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def api(database_url: str, clock: Clock, cluster: FakeCluster) -> AsyncIterator[Api]:
    """The API with a cluster; the monitor has looked once."""
    async with running_api(make_settings(database_url), clock, cluster) as api:
        api.service.monitor.tick()
        yield api
        api.service.monitor.stop()


@pytest.fixture(scope="session")
def k3s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("k3s") / "k3s"
    build(path)
    return path


@pytest.fixture(scope="module")
def server(k3s: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    machine = Server(k3s, tmp_path_factory.mktemp("server"))
    machine.up("server")
    yield machine
    machine.stop()


@pytest.fixture
def agent(k3s: Path, tmp_path: Path, server: Server) -> Iterator[Machine]:
    """A machine that is not started; the test gives it a token."""
    root = tmp_path / "worker"
    root.mkdir()
    machine = Machine(k3s, root, "worker", server=server.url)
    yield machine
    if machine.process:
        machine.stop()
