#!/usr/bin/env python3
"""Keeps the firewall's set of workers as the control API knows it: asks every few seconds, swaps the set at once.

One file, standard library only, Python 3.8 or newer. It runs as root with the one capability to change the firewall.
What it knew last is kept in a file, which the firewall's rules include: after a reboot they need no control API.
Where something has flushed the rules, it loads them again.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import ipaddress
import json
import logging
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import List, NamedTuple, Optional
from urllib.parse import urlsplit

TABLE = "inet muster"
SET = "inet muster workers"
PATH = "/api/peers"
NFT = "/usr/sbin/nft"
RULES = Path("/etc/muster/firewall.nft")
LOADED = Path("/run/muster-firewall/loaded")  # the digest of the rules that are to be in force
REQUEST_SECONDS = 5
LARGEST_ANSWER = 4 * 1024 * 1024
log = logging.getLogger("muster-peers")


class PeersError(Exception):
    """A sentence that says why the set, or the file of it, stays as it is."""


class Answer(NamedTuple):
    """A list of addresses and its entity tag."""

    addresses: List[str]
    tag: Optional[str]


# --- what is read ---------------------------------------------------------------------------------


def token_of(text: str) -> str:
    """Take the token from its file's text: the token alone, or JSON with `credential`, as a worker agent keeps it."""
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        return str(json.loads(text)["credential"])
    except (ValueError, KeyError) as exc:
        raise PeersError(f"the file of the token is no state of a worker agent: {exc!r}") from exc


def addresses_of(body: bytes) -> List[str]:
    """Take the addresses from an answer, in order. Nothing but IPv4 addresses ever gets into the rules."""
    try:
        given = json.loads(body)["data"]["addresses"]
        return [str(address) for address in sorted({ipaddress.IPv4Address(str(each)) for each in given})]
    except (ValueError, KeyError, TypeError) as exc:
        raise PeersError(f"the answer is not one of a control API: {exc!r}") from exc


def elements(addresses: List[str]) -> str:
    """Write the command that fills the set; an empty text for nobody."""
    return f"add element {SET} {{ {', '.join(addresses)} }}\n" if addresses else ""


# --- the control API ------------------------------------------------------------------------------


class ControlApi:
    """Asks over one connection that stays open."""

    def __init__(self, url: str, token_file: str, ca_file: Optional[str]) -> None:
        self._url = urlsplit(url)
        self._token_file = token_file
        self._ca_file = ca_file
        self._connection: Optional[http.client.HTTPConnection] = None

    def ask(self, known: Optional[str]) -> Optional[Answer]:
        """Return the list, or None when it is still the one with the tag `known`. Raises PeersError."""
        try:
            token = token_of(Path(self._token_file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PeersError("this machine has not registered yet") from None
        headers = {"Authorization": "Bearer " + token, "If-None-Match": known or "none"}
        try:
            return self._asked_once_more_if_hung_up(headers)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.close()
            raise PeersError(f"the control API does not answer: {exc or type(exc).__name__}") from exc

    def _asked_once_more_if_hung_up(self, headers: "dict[str, str]") -> Optional[Answer]:
        """A connection that was closed while it was idle is no trouble."""
        was_open = self._connection is not None
        try:
            return self._answer(headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            if not was_open:
                raise
            self.close()
            return self._answer(headers)

    def _answer(self, headers: "dict[str, str]") -> Optional[Answer]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("GET", PATH, headers=headers)
        response = self._connection.getresponse()
        body = response.read(LARGEST_ANSWER)
        if response.status == 304:
            return None
        if response.status != 200:
            raise PeersError(f"the control API refuses with HTTP {response.status}")
        return Answer(addresses_of(body), response.getheader("ETag"))

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=REQUEST_SECONDS)
        context = ssl.create_default_context(cafile=self._ca_file)
        return http.client.HTTPSConnection(host, port, timeout=REQUEST_SECONDS, context=context)

    def close(self) -> None:
        """Give up the connection; the next question opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


# --- the firewall ---------------------------------------------------------------------------------


def nft(*arguments: str, commands: Optional[str] = None) -> str:
    """What nft says. Raises PeersError."""
    done = subprocess.run(
        [NFT, *arguments],
        input=commands,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    if done.returncode != 0:
        raise PeersError(f"nft refuses: {' '.join(done.stdout.split())[:300]}")
    return done.stdout


def swap(addresses: List[str]) -> None:
    """Give the set these elements and no others, in one transaction. Raises PeersError."""
    nft("--file", "-", commands=f"flush set {SET}\n{elements(addresses)}")


def mend() -> bool:
    """Load the rules again if they are to be in force and something has flushed them; say whether. Raises PeersError.

    Rules that no login has passed yet are not loaded by anybody but the role, which takes them back after a minute.
    """
    if not LOADED.exists() or f"table {TABLE}" in nft("list", "tables").splitlines():
        return False
    if LOADED.read_text().strip() != hashlib.sha256(RULES.read_bytes()).hexdigest():
        raise PeersError(
            "the firewall's rules were flushed, and those on the disk are not the ones that were in use"
        )
    nft("--file", str(RULES))
    log.warning("the firewall's rules were flushed by something else, and are loaded again")
    return True


def keep(addresses: List[str], path: Path) -> None:
    """Replace the file that the rules include, atomically and for root alone. Raises PeersError."""
    try:
        descriptor, name = tempfile.mkstemp(dir=str(path.parent), prefix=".peers.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(elements(addresses))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as exc:
        raise PeersError(f"the workers cannot be kept for the next boot: {exc}") from exc


# --- loop -----------------------------------------------------------------------------------------


class Keeper:
    """Looks again and again; a failure is logged when it is another one than before."""

    def __init__(self, api: ControlApi, kept: Path) -> None:
        self._api = api
        self._kept = kept
        self._tag: Optional[str] = None
        self._trouble = ""

    def look(self) -> None:
        """Ask once, and swap the set if it changed; see to it that there are rules at all."""
        try:
            if mend():
                self._tag = None
            answer = self._api.ask(self._tag)
            if answer is not None:
                try:
                    keep(answer.addresses, self._kept)
                finally:
                    swap(answer.addresses)  # a full disk does not decide who is let in
                self._tag = answer.tag
                log.info("%d addresses may reach this node", len(answer.addresses))
            trouble = ""
        except (PeersError, OSError) as exc:
            trouble = str(exc)
        if trouble and trouble != self._trouble:
            log.warning("not up to date: %s", trouble)
        self._trouble = trouble


def main(arguments: Optional[List[str]] = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="of the control API")
    parser.add_argument("--token-file", required=True, help="the token, or the state of a worker agent")
    parser.add_argument("--ca-file", help="certificate that the control API's is checked against")
    parser.add_argument("--seconds", type=float, required=True, help="longest time between two looks")
    parser.add_argument("--keep", type=Path, required=True, help="file that the firewall's rules include")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    keeper = Keeper(ControlApi(options.url, options.token_file, options.ca_file), options.keep)
    while not stopping.is_set():
        keeper.look()
        stopping.wait(options.seconds * random.uniform(0.8, 1))  # noqa: S311 - so that not all nodes ask at once
    return 0


if __name__ == "__main__":
    sys.exit(main())
