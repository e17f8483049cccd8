"""A lab's name decides where everything of it is."""

from __future__ import annotations

import pytest

from lab.errors import LabError
from lab.layout import Layout, host_names, is_server, is_worker, number, of_environment


@pytest.mark.parametrize(
    ("name", "network", "gateway", "master", "worker12"),
    [
        ("lab", "10.213.151.0/24", "10.213.151.1", "10.213.151.10", "10.213.151.22"),
        ("e2e", "10.213.140.0/24", "10.213.140.1", "10.213.140.10", "10.213.140.22"),
    ],
)
def test_a_name_gives_the_same_network_everywhere(
    name: str, network: str, gateway: str, master: str, worker12: str
) -> None:
    layout = Layout(name)
    assert (str(layout.network), layout.gateway) == (network, gateway)
    assert (layout.address("master"), layout.address("worker12")) == (master, worker12)


def test_names_of_links_fit_into_the_kernels_fifteen_characters() -> None:
    layout = Layout("molecule")
    servers = [f"server{index}" for index in range(1, 10)]
    links = [layout.bridge, *(layout.link(host) for host in (*host_names(99), *servers))]
    assert max(map(len, links)) <= 15
    assert len(set(links)) == len(links)


def test_a_host_is_the_master_a_worker_or_a_server() -> None:
    kinds = {host: (is_worker(host), is_server(host)) for host in ("master", "worker99", "server1")}
    assert kinds == {"master": (False, False), "worker99": (True, False), "server1": (False, True)}
    assert Layout("lab").address("server1") == "10.213.151.111"


@pytest.mark.parametrize("name", ["", "9lab", "Lab", "two-words", "muchtoolong", "a/b"])
def test_a_name_that_cannot_name_a_lab_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="one to eight lower-case letters and digits"):
        Layout(name)


@pytest.mark.parametrize(
    "host", ["", "worker", "worker0", "worker100", "worker1 ", "server0", "server10", "../master"]
)
def test_a_name_that_is_no_host_of_a_lab_is_refused(host: str) -> None:
    with pytest.raises(LabError, match="no host of a lab"):
        number(host)


def test_the_environment_names_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_LAB", "dev")
    assert of_environment() == Layout("dev")
    monkeypatch.delenv("MUSTER_LAB")
    assert of_environment() == Layout("lab")
