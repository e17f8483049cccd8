"""Workers with an agent each: a TLS connection that is kept, and a heartbeat over it every interval.

Parameters, as JSON: port, certificate, source (the address that it connects from), first, last, step (its workers),
interval, ramp, begin and seconds. Everyone connects within `ramp`, beats at once and then every interval, whatever the
answers do; the time of an answer counts from when its heartbeat was due. Prints a line of JSON with what was answered
in the `seconds` after `begin`, a time of the monotonic clock, which all processes share.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import ssl
import sys
import time
from collections import Counter
from typing import Any

from bench.closed_loop import Maker, length, of_muster

BIND_ADDRESS_NO_PORT = 24
PATIENCE = 60  # seconds for connecting: while a whole fleet does, it may take long


class Fleet:
    """Some of the workers, in one process."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._tls = ssl.create_default_context(cafile=given["certificate"])
        self._poll = select.epoll()
        self._connections: dict[int, Worker] = {}
        self._due: list[tuple[float, int, Worker]] = []  # a heap
        self.statuses: Counter[str] = Counter()
        self.tenths: Counter[int] = Counter()  # answers by tenths of a millisecond
        self.reconnected = 0

    def connect_all(self) -> None:
        """Connect everyone, evenly over the ramp."""
        numbers = range(self._given["first"], self._given["last"], self._given["step"])
        began = time.monotonic()
        for place, number in enumerate(numbers):
            self.serve(began + self._given["ramp"] * place / len(numbers))
            worker = Worker(of_muster(number))
            self._connect(worker)
            heapq.heappush(self._due, (time.monotonic(), number, worker))

    def serve(self, until: float) -> None:
        """Send what is due and take the answers."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                due, number, worker = self._due[0]
                heapq.heapreplace(self._due, (due + self._given["interval"], number, worker))
                self._beat(worker, due)
            if now >= until:
                return
            following = min(until, self._due[0][0] if self._due else until)
            for file, _ in self._poll.poll(max(0.0, following - now), 256):
                self._receive(self._connections[file])

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def forget(self) -> None:
        """Count from now on."""
        self.statuses.clear()
        self.tenths.clear()
        self.reconnected = 0

    def _connect(self, worker: Worker) -> None:
        raw = socket.socket()
        raw.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.settimeout(PATIENCE)
        raw.bind((self._given["source"], 0))
        raw.connect(("127.0.0.1", self._given["port"]))
        worker.socket = self._tls.wrap_socket(raw, server_hostname="127.0.0.1")
        worker.socket.setblocking(False)
        worker.waiting, worker.received = None, b""
        self._connections[worker.socket.fileno()] = worker
        self._poll.register(worker.socket.fileno(), select.EPOLLIN)

    def _beat(self, worker: Worker, due: float) -> None:
        if worker.waiting is not None:
            self.statuses["no answer within an interval"] += 1
        worker.seq += 1
        worker.waiting = due
        try:
            worker.socket.send(worker.heartbeat(worker.seq))
        except OSError:
            self._again(worker)

    def _again(self, worker: Worker) -> None:
        """Connect anew, as an agent does when its kept connection has been closed."""
        self.reconnected += 1
        unanswered = worker.waiting
        del self._connections[worker.socket.fileno()]
        worker.socket.close()
        try:
            self._connect(worker)
            if unanswered is not None:
                worker.seq += 1
                worker.waiting = unanswered
                worker.socket.send(worker.heartbeat(worker.seq))
        except OSError as exc:
            raise SystemExit(f"A worker cannot connect again: {exc}") from exc

    def _receive(self, worker: Worker) -> None:
        try:
            data = worker.socket.recv(8192)
        except ssl.SSLWantReadError:  # session tickets
            return
        except OSError:
            data = b""
        if not data:
            self._again(worker)
            return
        worker.received += data
        head, end, body = worker.received.partition(b"\r\n\r\n")
        if not end or len(body) < length(head) or worker.waiting is None:
            return
        self.statuses[head[9:12].decode()] += 1
        self.tenths[int((time.monotonic() - worker.waiting) * 10_000)] += 1
        worker.waiting, worker.received = None, b""


class Worker:
    """One of them, with its connection."""

    __slots__ = ("heartbeat", "received", "seq", "socket", "waiting")
    socket: ssl.SSLSocket

    def __init__(self, heartbeat: Maker) -> None:
        self.heartbeat = heartbeat
        self.seq = 0
        self.waiting: float | None = None  # since when an answer is due
        self.received = b""


def main() -> None:
    """Connect, beat, tell."""
    given = json.loads(sys.argv[1])
    fleet = Fleet(given)
    fleet.connect_all()
    if time.monotonic() > given["begin"]:
        raise SystemExit("Connecting took longer than the ramp.")
    fleet.serve(given["begin"])
    fleet.forget()
    fleet.serve(given["begin"] + given["seconds"])
    told = {
        "connections": fleet.connections,
        "statuses": fleet.statuses,
        "tenths": fleet.tenths,
        "reconnected": fleet.reconnected,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
