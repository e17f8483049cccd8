"""How a host answers to connections; a JSON list, in the order of the doors.

open: somebody listens. refused: nobody listens, and nothing hinders us. dropped: no answer at all; a datagram
that somebody takes without an answer looks like that too.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
SECONDS = 2


def knock(source: str, host: str, door: str) -> str:
    protocol, port = door.split("/")
    with socket.socket(socket.AF_INET, KINDS[protocol]) as visitor:
        visitor.settimeout(SECONDS)
        visitor.bind((source, 0))
        try:
            visitor.connect((host, int(port)))
            if protocol == "udp":
                visitor.send(b"?")
                visitor.recv(1)
        except ConnectionRefusedError:
            return "refused"
        except socket.timeout:  # noqa: UP041 - Python 3.8 has no other name for it
            return "dropped"
        return "open"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help="address of this machine to knock from")
    parser.add_argument("host")
    parser.add_argument("doors", nargs="+", help="tcp/22, udp/8472 …")
    asked = parser.parse_args()
    with ThreadPoolExecutor(len(asked.doors)) as visitors:
        json.dump(
            list(visitors.map(lambda door: knock(asked.source, asked.host, door), asked.doors)), sys.stdout
        )


if __name__ == "__main__":
    main()
