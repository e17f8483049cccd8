"""A real ACME server for the lab, Debian's pebble, and the DNS that it asks, on this machine's end of the bridge."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from pathlib import Path

from tests.e2e.conftest import wait_until

PORT, ROOTS_PORT, DNS_PORT, NAMES_PORT = 14000, 15000, 8053, 8055
# Every request is checked, without the pauses and the refusals at random that pebble is made for.
AT_ONCE = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}


class Acme:
    """`bundle` is the authority of the server's own certificate, `roots` that of the certificates which it issues."""

    def __init__(self, address: str, home: Path) -> None:
        self.url = f"https://{address}:{PORT}/dir"
        self.bundle = home / "acme.crt"
        self._address = address
        self._home = home
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pebble"
        key = self._home / "acme.key"
        names = ["-addext", f"subjectAltName=IP:{self._address}", "-keyout", key, "-out", self.bundle]
        subprocess.run(["openssl", *options.split(), *names], check=True, capture_output=True)
        config = {
            "listenAddress": f"{self._address}:{PORT}",
            "managementListenAddress": f"{self._address}:{ROOTS_PORT}",
            "certificate": str(self.bundle),
            "privateKey": str(key),
            "httpPort": 80,
            "tlsPort": 443,
            "externalAccountBindingRequired": False,
        }
        (self._home / "pebble.json").write_text(json.dumps({"pebble": config}))
        only_dns = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
        dns = f"{self._address}:{DNS_PORT}"
        self._run(
            "pebble-challtestsrv", "-management", f"{self._address}:{NAMES_PORT}", "-dns01", dns, *only_dns
        )
        self._run("pebble", "-config", str(self._home / "pebble.json"), "-dnsserver", dns)
        wait_until(lambda: bool(self.roots), 20, "pebble does not answer")
        wait_until(
            lambda: self.let_lead("ready.example.org", self._address) is None, 20, "its DNS does not answer"
        )

    def _run(self, *command: str) -> None:
        environment = {**os.environ, **AT_ONCE}
        with (self._home / f"{command[0]}.log").open("wb") as log:
            self._running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
            process.wait(timeout=10)

    @property
    def roots(self) -> str:
        trusted = ssl.create_default_context(cafile=str(self.bundle))
        url = f"https://{self._address}:{ROOTS_PORT}/roots/0"
        with urllib.request.urlopen(url, context=trusted, timeout=5) as answer:
            return str(answer.read().decode())

    def let_lead(self, name: str, address: str) -> None:
        """Let the DNS that the server asks say that the name leads there."""
        for path, body in (("clear-a", {"host": name}), ("add-a", {"host": name, "addresses": [address]})):
            url = f"http://{self._address}:{NAMES_PORT}/{path}"
            urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5).close()
