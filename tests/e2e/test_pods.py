"""What the firewall lets through between the pods of two workers, and what of others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import wait_until
from tests.e2e.overlay import PORT, Overlay

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

LISTEN = """
import socket
port = socket.socket(type=socket.SOCK_DGRAM)
port.bind(("", 9999))
while True: print(port.recv(99), flush=True)
"""
SEND = """
import socket, sys
address, port, datagram = sys.argv[1:]
socket.socket(type=socket.SOCK_DGRAM).sendto(bytes.fromhex(datagram), (address, int(port)))
"""


@pytest.fixture(scope="module")
def pods(lab: Lab) -> Iterator[Overlay]:
    overlay = Overlay(lab, ["worker1", "worker2"])
    try:
        overlay.lay()
        yield overlay
    finally:
        overlay.remove()


def test_pods_of_two_workers_reach_each_other(pods: Overlay) -> None:
    for worker, other in (("worker1", "worker2"), ("worker2", "worker1")):
        assert "1 received" in pods.in_pod(worker, f"ping -c 1 -W 5 {pods.pod(other)}")


def test_a_worker_reaches_the_pods_of_another(lab: Lab, pods: Overlay) -> None:
    assert "1 received" in lab.on("worker1", f"ping -c 1 -W 5 {pods.pod('worker2')}")


def test_what_a_foreign_machine_sends_into_the_tunnel_reaches_no_pod(lab: Lab, pods: Overlay) -> None:
    """The same datagram, from a worker, from this machine and from the worker again."""
    address, heard = lab.addresses["worker2"], "journalctl --unit=pod --output=cat"

    def tell(text: str) -> bool:
        """Whether the pod hears what worker1 sends."""
        sent = pods.datagram("worker1", "worker2", 9999, text.encode())
        lab.on("worker1", f"python3 -c '{SEND}' {address} {PORT} {sent.hex()}")
        return text in lab.on("worker2", heard)

    lab.on("worker2", f"systemd-run --unit=pod --collect ip netns exec pod python3 -c '{LISTEN}'")
    try:
        wait_until(lambda: tell("before"), 10, "the pod does not hear the worker")
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.sendto(pods.datagram("worker1", "worker2", 9999, b"forged"), (address, PORT))
        wait_until(lambda: tell("after"), 10, "the pod does not hear the worker any more")
        assert "forged" not in lab.on("worker2", heard)
    finally:
        lab.on("worker2", "systemctl stop pod")
