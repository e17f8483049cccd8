"""Pods of two workers in the network that flannel lays between them: VXLAN 1 on port 8472, a bridge, namespaces.

https://github.com/flannel-io/flannel/blob/master/Documentation/backends.md#vxlan. The stand-in runs no containers.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

PORT = 8472
LAY = """
set -e
ip link add flannel.1 type vxlan id 1 dstport {port} local {address} nolearning
ip address add {network}.0/32 dev flannel.1
ip link set flannel.1 mtu 1450 up
ip link add cni0 type bridge
ip address add {network}.1/24 dev cni0
ip link set cni0 up
ip netns add pod
ip link add pod0 type veth peer name eth0 netns pod
ip link set pod0 master cni0 up
ip -n pod address add {network}.7/24 dev eth0
ip -n pod link set eth0 mtu 1450 up
ip -n pod link set lo up
ip -n pod route add default via {network}.1
cat /sys/class/net/flannel.1/address
"""
LINK = """
set -e
ip neighbour replace {network}.0 lladdr {mac} dev flannel.1 nud permanent
bridge fdb append {mac} dev flannel.1 dst {address}
ip route add {network}.0/24 via {network}.0 dev flannel.1 onlink
"""
REMOVE = "ip netns delete pod; ip link delete flannel.1; ip link delete cni0; true"


class Overlay:
    """A pod on each of some workers. `macs` are those of the ends of the tunnel."""

    def __init__(self, lab: Lab, workers: list[str]) -> None:
        self._lab = lab
        self.networks = {worker: f"10.42.{number}" for number, worker in enumerate(workers, 101)}
        self.macs: dict[str, str] = {}

    def lay(self) -> None:
        for worker, network in self.networks.items():
            lay = LAY.format(port=PORT, address=self._lab.addresses[worker], network=network)
            self.macs[worker] = self._lab.on(worker, lay).split()[-1]
        for worker in self.networks:
            for other in self.networks.keys() - {worker}:
                address, network = self._lab.addresses[other], self.networks[other]
                self._lab.on(worker, LINK.format(network=network, mac=self.macs[other], address=address))

    def remove(self) -> None:
        for worker in self.networks:
            self._lab.on(worker, REMOVE)

    def pod(self, worker: str) -> str:
        """The address of the pod."""
        return f"{self.networks[worker]}.7"

    def in_pod(self, worker: str, command: str) -> str:
        return self._lab.on(worker, f"ip netns exec pod {command}")

    def datagram(self, sender: str, receiver: str, port: int, text: bytes) -> bytes:
        """What one end of the tunnel sends the other for a pod: RFC 7348 around Ethernet, IPv4 and UDP."""
        udp = struct.pack("!HHHH", 9, port, 8 + len(text), 0) + text
        ends = [socket.inet_aton(self.pod(worker)) for worker in (sender, receiver)]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, *ends)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        macs = [bytes.fromhex(self.macs[worker].replace(":", "")) for worker in (receiver, sender)]
        return bytes([8, 0, 0, 0, 0, 0, 1, 0]) + b"".join(macs) + b"\x08\x00" + head + udp


def checksum(header: bytes) -> int:
    total: int = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
