"""A client that sends the next heartbeat over a connection as soon as the last is answered.

Parameters, as JSON: port, kind (`muster`, `muster backwards` or `plan`), connections, workers, warm_up, seconds.
Prints a line of JSON when the warm-up is over, and one at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import uvloop

from bench.identity import AUTH_SECRET, worker_id
from control_api.workers.credentials import Credentials

BOOT = "6b6a9f8e-3a57-4d0b-9a0c-0b8f1f1f1f1f"
Maker = Callable[[int], bytes]


def of_muster(number: int) -> Maker:
    """Return what makes the heartbeats of this worker, as its agent sends them; the argument is their `seq`."""
    ident = worker_id(number)
    head = (
        f"PATCH /api/workers/{ident}/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
        f"Authorization: Bearer {CREDENTIALS.issue(ident, 1)}\r\nContent-Type: application/json\r\n"
        "User-Agent: muster-agent/0.1.0\r\nContent-Length: "
    )
    figures = (
        '"nodeReady": true, "cpuUsage": 12.5, "memoryUsage": 41.2, "diskUsage": 63.1, "loadAverage": 0.42}'
    )

    def heartbeat(seq: int) -> bytes:
        body = f'{{"bootId": "{BOOT}", "seq": {seq}, {figures}'
        return f"{head}{len(body)}\r\n\r\n{body}".encode()

    return heartbeat


def of_plan(number: int) -> Maker:
    """Return the same for the plan's curl."""
    ident = "c" + hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[:24]
    body = '{"cpuUsage": 12.5, "memoryUsage": 41.2, "diskUsage": 63.1, "currentPods": 4}'
    request = (
        f"PATCH /api/workers/{ident}/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/7.88.1\r\n"
        f"Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    return lambda _: request


CREDENTIALS = Credentials([AUTH_SECRET])
# Backwards: the connections take their workers in descending order.
MAKERS = {"muster": of_muster, "muster backwards": of_muster, "plan": of_plan}


class Tally:
    """What has been answered since the last look."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.waits: list[float] = []

    def take(self) -> dict[str, Any]:
        waits = sorted(self.waits)
        told = {"statuses": self.statuses, "p50": at(waits, 0.5), "p99": at(waits, 0.99)}
        self.statuses, self.waits = {}, []
        return told


def at(ordered: list[float], share: float) -> float | None:
    """Return the value that this share of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Connection(asyncio.Protocol):
    """One connection with its own workers."""

    def __init__(self, makers: list[Maker], tally: Tally) -> None:
        self._requests = self._made(makers)
        self._tally = tally
        self._received = b""

    @staticmethod
    def _made(makers: list[Maker]) -> Iterator[bytes]:
        for maker in itertools.cycle(makers):
            yield maker(
                time.monotonic_ns()
            )  # of two clients with the same worker, the later one is the later one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < length(head):
            return
        status = head[9:12].decode()
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._tally.waits.append(time.perf_counter() - self._sent)
        self._received = b""
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def length(head: bytes) -> int:
    """Return the content-length that a head names."""
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


async def main() -> None:
    given = json.loads(sys.argv[1])
    maker, tally = MAKERS[given["kind"]], Tally()
    backwards = given["kind"].endswith("backwards")
    loop = asyncio.get_running_loop()
    for first in range(given["connections"]):
        numbers = range(first, given["workers"], given["connections"])
        makers = [maker(number) for number in (reversed(numbers) if backwards else numbers)]
        await loop.create_connection(partial(Connection, makers, tally), "127.0.0.1", given["port"])
    for pause in (given["warm_up"], given["seconds"]):
        await asyncio.sleep(pause)
        print(json.dumps(tally.take()), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
