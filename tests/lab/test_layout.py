"""A lab's name decides where everything of it is."""

from __future__ import annotations

import pytest

from lab.errors import LabError
from lab.layout import Layout, host_names, number, of_environment


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
    links = [layout.bridge, *(layout.link(host) for host in host_names(99))]
    assert max(map(len, links)) <= 15
    assert len(set(links)) == len(links)


@pytest.mark.parametrize("name", ["", "9lab", "Lab", "two-words", "muchtoolong", "a/b"])
def test_a_name_that_cannot_name_a_lab_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="one to eight lower-case letters and digits"):
        Layout(name)


@pytest.mark.parametrize("host", ["", "worker", "worker0", "worker100", "worker1 ", "../master"])
def test_a_name_that_is_no_host_of_a_lab_is_refused(host: str) -> None:
    with pytest.raises(LabError, match="no host of a lab"):
        number(host)


def test_the_environment_names_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_LAB", "dev")
    assert of_environment() == Layout("dev")
    monkeypatch.delenv("MUSTER_LAB")
    assert of_environment() == Layout("lab")
