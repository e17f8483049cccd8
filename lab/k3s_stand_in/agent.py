"""The node's side: proves itself to the server, registers the node, and keeps its lease fresh."""

from __future__ import annotations

import random
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import client, journal, kubeconfig, node_object, patches, paths, tokens
from .errors import Refused, StandInError, TokenError, Unreachable, UsageError
from .https_server import NEVER
from .kinds import LEASES, NODES, Object
from .settings import Settings
from .supervisor import PREFIX

CONNECT_SECONDS, CONFIG_SECONDS = (
    2.0,
    5.0,
)  # K3s' pauses between tries; the second one with a jitter of its own length
KUBELET_FILES = ("serving-kubelet", "client-kubelet")


@dataclass(frozen=True)
class Node:
    """How this node is called and reached."""

    name: str
    addresses: list[str]
    labels: list[str]
    taints: list[str]
    health_port: int
    beat_seconds: float


@dataclass
class Agent:
    """One node's agent; `stop` ends it."""

    files: paths.Paths
    node: Node
    server: str
    token: str
    stop: threading.Event
    ready: Callable[[], None]
    trust: bytes = b""
    known: tokens.Token = field(default_factory=tokens.Token)

    def run(self) -> None:
        """Join, then beat until stopped; raises UsageError for what no retry can mend."""
        if not self._until_done(self._validate, CONNECT_SECONDS, 0.0):
            return
        if not self._until_done(self._fetch, CONFIG_SECONDS, CONFIG_SECONDS):
            return
        refused = node_object.refused_labels(self.node.labels)
        if refused:
            raise UsageError(
                "kubelet exited: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' "
                f"labels specified with --node-labels: [{' '.join(refused)}]; "
                "--node-labels in the 'kubernetes.io' namespace must begin with "
                f"an allowed prefix ({', '.join(node_object.LABEL_PREFIXES)}); "
                "set role labels from the server"
            )
        if not self._until_done(self._register, CONNECT_SECONDS, 0.0):
            return
        _serve_health(self.node.health_port)
        self.ready()
        journal.info("k3s agent is up and running (stand-in, runs no containers)")
        while not self.stop.wait(self.node.beat_seconds):
            self._beat_or_say()

    def _until_done(self, act: Callable[[], None], pause: float, jitter: float) -> bool:
        """Try until it works (True) or the agent is stopped (False); each step journals its own failure."""
        while not self.stop.is_set():
            try:
                act()
            except StandInError as exc:
                journal.error(str(exc))
                self.stop.wait(pause + jitter * random.random())  # noqa: S311 - spreads load, guards nothing
            else:
                return True
        return False

    def _validate(self) -> None:
        try:
            self.known = tokens.parse(self.token)
            self.trust = fetch_ca(self.server)
            check_hash(self.known, self.trust)
        except StandInError as exc:
            raise StandInError(f"Failed to validate connection to cluster at {self.server}: {exc}") from exc

    def _fetch(self) -> None:
        try:
            self._fetch_files()
        except StandInError as exc:
            raise StandInError(
                f"Waiting to retrieve agent configuration; server is not ready: {exc}"
            ) from exc

    def _fetch_files(self) -> None:
        by_token, with_certificate = self._clients()
        with_certificate = _first_answered(with_certificate, by_token)
        for name in ("client-ca.crt", "server-ca.crt"):
            paths.write(self.files.agent / name, with_certificate.text(PREFIX + name))
        for name in KUBELET_FILES:
            both = self._named_certificate(f"{PREFIX}{name}.crt", by_token, with_certificate)
            key_start = both.index(b"-----BEGIN PRIVATE KEY")
            paths.write(self.files.agent / f"{name}.key", both[key_start:])
            paths.write(self.files.agent / f"{name}.crt", both[:key_start])
        self._write_kubeconfig()

    def _clients(self) -> tuple[client.Client, client.Client]:
        """One client that has the token only, and one that has an earlier join's certificate too."""
        headers = (
            client.bearer(self.known.bootstrap)
            if self.known.bootstrap
            else client.basic("node", self.known.password)
        )
        by_token = client.Client(self.server, client.trusting(self.trust), headers)
        trust = client.trusting(self.trust)
        try:
            trust.load_cert_chain(*self._kubelet_pair())
        except (OSError, ssl.SSLError):
            return by_token, by_token
        return by_token, replace(by_token, context=trust)

    def _kubelet_pair(self) -> tuple[Path, Path]:
        return self.files.agent / "client-kubelet.crt", self.files.agent / "client-kubelet.key"

    def _named_certificate(
        self, path: str, by_token: client.Client, with_certificate: client.Client
    ) -> bytes:
        password_file = self.files.node / "password"
        headers = {
            "k3s-Node-Name": self.node.name,
            "k3s-Node-Password": ensure_password(password_file),
            "k3s-Node-IP": ",".join(self.node.addresses),
        }
        status, reason, content = with_certificate.raw("GET", path, headers=headers)
        if status == 401 and with_certificate is not by_token:
            journal.info("Node authorization rejected, retrying without client certificate authentication")
            status, reason, content = by_token.raw("GET", path, headers=headers)
        if status == 403:
            raise Refused(
                status,
                f"Node password rejected, duplicate hostname or contents of '{password_file}' may not match "
                "server node-passwd entry, try enabling a unique node name with the --with-node-id flag",
            )
        if status != 200:
            raise Refused(status, f"{self.server}{path}: {status} {reason}")
        return content

    def _write_kubeconfig(self) -> None:
        certificate, key = self._kubelet_pair()
        user: Object = {"client-certificate": str(certificate), "client-key": str(key)}
        paths.write(
            self.files.agent / "kubelet.kubeconfig", kubeconfig.compose(self.server, self.trust, user)
        )

    def _kubelet(self) -> client.Client:
        context = client.with_certificate(client.trusting(self.trust), *self._kubelet_pair())
        return client.Client(self.server, context)

    def _register(self) -> None:
        try:
            self._create_node()
            self._beat()
        except StandInError as exc:
            raise StandInError(f"Unable to register node with API server: {exc}") from exc
        journal.info(f"Successfully registered node {self.node.name}")

    def _create_node(self) -> None:
        node = node_object.build(self.node.name, self.node.addresses, self.node.labels, self.node.taints)
        try:
            self._kubelet().api("POST", NODES.path(None), node)
        except Refused as exc:
            if exc.status != 409:
                raise
            # Labels and taints count at the first registration only.
            self._patch_status(node["status"])

    def _beat_or_say(self) -> None:
        try:
            self._beat()
        except StandInError as exc:
            journal.error(f"Error updating node status, will retry: {exc}")

    def _beat(self) -> None:
        kubelet, path = self._kubelet(), LEASES.path("kube-node-lease", self.node.name)
        spec = {
            "holderIdentity": self.node.name,
            "leaseDurationSeconds": 40,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self.node.name},
            "spec": spec,
        }
        kubelet.api("PATCH", path, lease, patch=patches.APPLY)
        node = kubelet.api("GET", NODES.path(None, self.node.name))
        conditions = node.get("status", {}).get("conditions", [])
        if not any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions):
            self._patch_status({"conditions": node_object.conditions()})

    def _patch_status(self, status: Object) -> None:
        path = NODES.path(None, self.node.name) + "/status"
        self._kubelet().api("PATCH", path, {"status": status}, patch=patches.STRATEGIC)


def _first_answered(with_certificate: client.Client, by_token: client.Client) -> client.Client:
    """The client to go on with: a server that was built anew breaks off at a certificate of its former CA."""
    try:
        try:
            with_certificate.text(f"{PREFIX}config")
        except Unreachable:
            by_token.text(f"{PREFIX}config")
            return by_token
    except StandInError as exc:
        raise StandInError(f"failed to retrieve configuration from server: {exc}") from exc
    return with_certificate


def from_settings(files: paths.Paths, settings: Settings) -> Node:
    """This node, as configured; raises UsageError."""
    name = settings.text("node-name", socket.gethostname()).lower()
    if settings.switch("with-node-id"):
        name = f"{name}-{_ensure(files.node / 'id', 4, 0o644)}"
    for text in settings.items("node-taint"):
        node_object.taint(text)
    return Node(
        name,
        settings.items("node-ip") or [own_address()],
        settings.items("node-label"),
        settings.items("node-taint"),
        int(settings.argument("kubelet-arg", "healthz-port", "10248")),
        tokens.seconds(settings.argument("kubelet-arg", "node-status-update-frequency", "10s")),
    )


def given_token(settings: Settings, files: paths.Paths) -> str:
    """The join token from the settings or its file; raises UsageError when a first join has none."""
    token = settings.text("token")
    if settings.text("token-file"):
        token = read_token_file(settings.text("token-file"))
    if not token and not (files.agent / "client-kubelet.crt").exists():
        raise UsageError("--token is required")
    return token


def read_token_file(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as exc:
        raise UsageError(f"open {file}: {(exc.strerror or str(exc)).lower()}") from exc


def given_server(settings: Settings) -> str:
    """The server's URL; raises UsageError."""
    url = settings.text("server")
    if not url:
        raise UsageError("--server is required")
    if urlsplit(url).scheme != "https":
        raise UsageError(f"only https:// URLs are supported, invalid scheme: {url}")
    return url.rstrip("/")


def fetch_ca(server: str) -> bytes:
    """The server's CA, fetched unverified, then checked to have signed the server's certificate (as K3s)."""
    try:
        ca = client.Client(server, client.trusting_anyone()).text("/cacerts")
    except StandInError as exc:
        raise StandInError(f"failed to get CA certs: {exc}") from exc
    try:
        client.Client(server, client.trusting(ca)).text("/cacerts")
    except (StandInError, ValueError, ssl.SSLError) as exc:
        raise StandInError(f"CA cert validation failed: {exc}") from exc
    return ca


def check_hash(token: tokens.Token, ca: bytes) -> None:
    """Raises TokenError when the token was made for another CA."""
    if not token.ca_hash:
        journal.warning(
            "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include "
            "a CA hash. Use the full token from the server's node-token file to enable Cluster CA validation."
        )
    elif token.ca_hash != tokens.hash_of(ca):
        raise TokenError(
            "token CA hash does not match the Cluster CA certificate hash: "
            f"{token.ca_hash} != {tokens.hash_of(ca)}"
        )


def ensure_password(file: Path) -> str:
    """This machine's node password, made on the first call."""
    return _ensure(file, 16, 0o600)


def _ensure(file: Path, size: int, mode: int) -> str:
    if not file.exists():
        paths.write(file, secrets.token_hex(size) + "\n", mode)
    return file.read_text().strip()


def own_address() -> str:
    """The address of the default route's interface; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class _Health(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self) -> None:
        known = self.path.partition("?")[0] == "/healthz"
        content = b"ok" if known else b"404 page not found\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """No line per request in the journal."""


def _serve_health(port: int) -> None:
    """The kubelet's local health endpoint."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _Health)
    except OSError as exc:
        raise UsageError(f"kubelet exited: listen tcp 127.0.0.1:{port}: {exc.strerror}") from exc
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(NEVER,), name="healthz", daemon=True).start()
