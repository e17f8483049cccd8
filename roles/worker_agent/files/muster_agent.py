#!/usr/bin/env python3
"""The worker agent of Muster: registers this machine with the control API and sends its heartbeats.

One file, standard library only, Python 3.8 or newer. `register` runs once, as root; `run` is the service and
needs no privilege. The agent has no verb that deletes anything, and it never touches K3s.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import math
import os
import random
import re
import shlex
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

VERSION = "0.1.0"
REQUEST_SECONDS = 10
GOODBYE_SECONDS = 3
LONGEST_BACKOFF_SECONDS = 60
READINESS_SECONDS = 2  # how often the kubelet is asked between two heartbeats
REGISTRATION_TRIES = 4
SHORTEST_PAUSE_SECONDS = 1  # whatever a control API asks for
LONGEST_PAUSE_SECONDS = 3600
FORGOTTEN = (401, 404, 410)  # the control API does not know this credential or worker (any more)
LARGEST_ANSWER = 1024 * 1024
LONGEST_SENTENCE = 500
TOKEN = re.compile(r"[\x21-\x7e]+\Z")
SSH_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/]+={0,3}\Z")

Json = Dict[str, Any]
log = logging.getLogger("muster-agent")


class AgentError(Exception):
    """A sentence that says what is wrong and what to do."""

    @property
    def kind(self) -> str:
        """What makes two failures the same one for the log."""
        return str(self)


class UnreachableError(AgentError):
    """The control API gave no answer."""


class UntrustedError(AgentError):
    """Who answers is not the control API that ca_file vouches for."""


class RefusedError(AgentError):
    """The control API answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def kind(self) -> str:
        return f"HTTP {self.status}"  # the sentence may name a time or a number that changes


# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """The configuration file: a JSON object with these keys; only api_url must be there."""

    api_url: str
    ca_file: Optional[str] = None
    state_dir: str = "/var/lib/muster-agent"
    ip_address: Optional[str] = None
    kubelet_healthz_url: Optional[str] = "http://127.0.0.1:10248/healthz"
    disk_path: str = "/"


def load_config(path: str) -> Config:
    """Read the configuration. Raises AgentError with the key that is missing, unknown or wrong."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise AgentError(f"The configuration {path} cannot be read: {exc}.") from exc
    if not isinstance(given, dict):
        raise AgentError(f"The configuration {path} must be a JSON object.")
    unknown = sorted(set(given) - {field.name for field in fields(Config)})
    if unknown:
        raise AgentError(f"The configuration {path} has a key that does not exist: {unknown[0]}.")
    if any(not isinstance(value, (str, type(None))) for value in given.values()):
        raise AgentError(f"The configuration {path} may hold only strings and null.")
    if not given.get("api_url"):
        raise AgentError(f"The configuration {path} has no api_url.")
    check_url(given["api_url"])
    if not str(given.get("kubelet_healthz_url") or "http://").startswith(("http://", "https://")):
        raise AgentError(f"kubelet_healthz_url is '{given['kubelet_healthz_url']}': it must begin with http.")
    return Config(**given)


def check_url(url: str) -> None:
    """Refuse a URL that would send a token in the clear."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # the port is no number, or a bracket is missing
        usable = False
    if not usable:
        raise AgentError(f"api_url is '{url}': it must be like https://master.example.org.")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise AgentError(
            f"api_url is '{url}': use https, or the credential would cross the network in the clear."
        )


# --- state ----------------------------------------------------------------------------------------


@dataclass
class State:
    """What a registration left: who this worker is and how it proves it."""

    worker_id: str
    credential: str
    heartbeat_path: str
    interval_seconds: float

    @property
    def leave_path(self) -> str:
        return self.heartbeat_path.rsplit("/", 1)[0] + "/leave"

    @property
    def rotate_path(self) -> str:
        return self.heartbeat_path.rsplit("/", 1)[0] + "/rotate"

    @property
    def join_error_path(self) -> str:
        return self.heartbeat_path.rsplit("/", 1)[0] + "/join-error"


def state_of(answer: Json) -> State:
    """Take the state from the `data` of a registration's answer."""
    try:
        beat = answer["heartbeat"]
        interval = float(beat["intervalSeconds"])
        return State(str(answer["workerId"]), str(answer["credential"]), str(beat["url"]), interval)
    except (KeyError, TypeError, ValueError) as exc:
        raise AgentError(f"The answer to the registration is not one of a control API: {exc!r}.") from exc


def load_state(directory: str) -> Optional[State]:
    """Read the state, or return None when this machine has not registered yet."""
    path = Path(directory, "state.json")
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as exc:
        raise AgentError(f"The state {path} cannot be read: {exc}. Remove it and register again.") from exc


def known_state(config: Config) -> State:
    """Read the state. Raises AgentError when this machine has not registered yet."""
    state = load_state(config.state_dir)
    if state is None:
        raise AgentError(f"This machine has not registered: there is no {config.state_dir}/state.json.")
    return state


def save_state(directory: str, state: State) -> None:
    write_secret(Path(directory, "state.json"), json.dumps(vars(state), indent=2) + "\n")


def mark_unknown(directory: str, *, unknown: bool) -> None:
    """Leave word for the role: the file `unknown` is there while the control API does not know this worker."""
    mark = Path(directory, "unknown")
    with contextlib.suppress(OSError):  # only a hint; a full disk must not cost a heartbeat
        if unknown:
            mark.touch(0o600)
        elif mark.exists():
            mark.unlink()


def write_secret(path: Path, text: str) -> None:
    """Replace the file atomically, mode 0600, owned by its directory's owner."""
    owner = path.parent.stat()
    descriptor, name = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        Path(name).replace(path)
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- probes: pure, on text that is given to them --------------------------------------------------


def memory(meminfo: str) -> Tuple[int, float]:
    """Total bytes and percent used, from /proc/meminfo (proc(5)); used is what could not be had without swapping."""
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in meminfo.splitlines() if ":" in line}
    total = values["MemTotal"]
    return total, percent(total - values["MemAvailable"], total)


def cpu_times(stat: str) -> Tuple[int, int]:
    """Busy and all clock ticks since boot, from the first line of /proc/stat (proc(5))."""
    ticks = [int(word) for word in stat.splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def cpu_usage(before: Tuple[int, int], after: Tuple[int, int]) -> Optional[float]:
    """Percent of time busy between two readings of cpu_times, None when no time has passed."""
    return percent(after[0] - before[0], after[1] - before[1]) if after[1] > before[1] else None


def cpu_model(cpuinfo: str) -> Optional[str]:
    """The CPU's name from /proc/cpuinfo; some ARM machines name only the board there, 64-bit servers nothing."""
    named = [line.partition(":") for line in cpuinfo.splitlines()]
    found = {name.strip(): value for name, _, value in reversed(named)}
    return next((short(found[name]) for name in ("model name", "Model", "Hardware") if name in found), None)


def system_name(os_release: str) -> Optional[str]:
    """PRETTY_NAME of os-release(5), whose values are quoted as a shell's."""
    for line in os_release.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            with contextlib.suppress(ValueError):  # a quote that does not end
                return short(" ".join(shlex.split(value)))
    return None


def machine_id(text: str) -> Optional[str]:
    """The id of machine-id(5); None while it is missing or `uninitialized`, as in an image."""
    return text.strip() if re.fullmatch(r"[0-9a-f]{32}\s*", text) else None


def short(text: str) -> str:
    """Words as the control API takes them: printable, single spaces, at most 200 characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:200]


def architecture(machine: str) -> str:
    """The architecture as Kubernetes and container images name it."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)


def public_key(text: str) -> Optional[str]:
    """Type and key of an SSH public key file, without its comment; None for a type that nobody uses any more."""
    key = " ".join(text.split()[:2])
    return key if SSH_KEY.match(key) else None


def percent(part: float, whole: float) -> float:
    """A share as 0 to 100, one decimal."""
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 1) if whole else 0.0


# --- reading this machine -------------------------------------------------------------------------


def read(path: str) -> str:
    """The text of a file, '' when it is not there or may not be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def facts(config: Config) -> Json:
    """What a registration says of this machine."""
    keys = [public_key(read(str(path))) for path in sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))]
    known: Json = {
        "hostname": socket.gethostname().lower(),
        "ipAddress": config.ip_address or own_address(config.api_url),
        "cpuCores": os.cpu_count() or 1,
        "machineId": machine_id(read("/etc/machine-id")),
        "bootId": boot_id(),
        "architecture": architecture(os.uname().machine),
        "cpuModel": cpu_model(read("/proc/cpuinfo")),
        "totalMemoryBytes": figure(lambda: memory(read("/proc/meminfo"))[0]),
        "totalStorageBytes": figure(lambda: shutil.disk_usage(config.disk_path).total),
        "operatingSystem": system_name(read("/etc/os-release")),
        "kernelVersion": os.uname().release,
        "agentVersion": VERSION,
        "sshHostKeys": [key for key in keys if key][:10],
    }
    return {name: value for name, value in known.items() if value is not None}


def own_address(api_url: str) -> str:
    """The address that this machine reaches the control API from. UDP only chooses a route, nothing is sent."""
    parts = urlsplit(api_url)
    trouble: Optional[OSError] = None
    try:
        ways = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
    except OSError as exc:
        raise UnreachableError(f"The name {parts.hostname} cannot be resolved: {exc}.") from exc
    for family, kind, _, _, target in ways:  # an IPv6 address is of no use where only IPv4 is routed
        try:
            with socket.socket(family, kind) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
        except OSError as exc:
            trouble = exc
    raise UnreachableError(f"There is no route to {parts.hostname}: {trouble}.")


def boot_id() -> Optional[str]:
    return read("/proc/sys/kernel/random/boot_id").strip() or None


def sequence(last: int) -> int:
    """A number above `last`: milliseconds since boot, so that it also grows over restarts of the agent."""
    return max(last + 1, int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000))


def figure(measure: Callable[[], Any]) -> Any:
    """What was measured, None when it could not be: a figure that is missing must not cost the heartbeat."""
    try:
        return measure()
    except (OSError, ValueError, KeyError, IndexError):
        return None


class Gauges:
    """The figures of a heartbeat. CPU use is the share since the reading before, so the first has none."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._cpu: Optional[Tuple[int, int]] = None
        # The kubelet is on this machine: a proxy that the environment names is not asked.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(self) -> Json:
        figures: Json = {
            "cpuUsage": figure(self._cpu_usage),
            "memoryUsage": figure(lambda: memory(read("/proc/meminfo"))[1]),
            "diskUsage": figure(self._disk_usage),
            "loadAverage": figure(lambda: round(os.getloadavg()[0], 2)),
        }
        return {name: value for name, value in figures.items() if value is not None}

    def _cpu_usage(self) -> Optional[float]:
        before, self._cpu = self._cpu, cpu_times(read("/proc/stat"))
        return cpu_usage(before, self._cpu) if before else None

    def _disk_usage(self) -> float:
        disk = shutil.disk_usage(self._config.disk_path)
        return percent(disk.used, disk.used + disk.free)

    def node_ready(self) -> Optional[bool]:
        """What the kubelet says of itself; None when no kubelet is expected."""
        if not self._config.kubelet_healthz_url:
            return None
        try:
            with self._opener.open(self._config.kubelet_healthz_url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False


# --- transport ------------------------------------------------------------------------------------


class Api:
    """The control API over one connection that stays open between requests."""

    def __init__(self, config: Config) -> None:
        parts = urlsplit(config.api_url)
        self._host, self._base = str(parts.hostname), parts.path.rstrip("/")
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._connection: Optional[http.client.HTTPConnection] = None
        self._tls = tls_context(config.ca_file) if parts.scheme == "https" else None

    def call(
        self, method: str, path: str, body: Callable[[], Json], token: str, timeout: float = REQUEST_SECONDS
    ) -> Json:
        """Send a request and return the `data` of the answer.

        body is called for every try: a connection that was closed while it was idle is opened anew, once.
        Raises RefusedError for an error answer, UnreachableError when there is none, UntrustedError when the
        certificate is not one of ca_file.
        """
        kept = self._connection is not None
        try:
            try:
                return self._exchange(method, path, body(), token, timeout)
            except socket.timeout:  # whoever is silent has not hung up: nothing is won by asking again
                raise
            except (OSError, http.client.HTTPException):
                if not kept:
                    raise
                self.close()
                return self._exchange(method, path, body(), token, timeout)
        except ssl.SSLCertVerificationError as exc:
            self.close()
            raise UntrustedError(
                f"The certificate of {self._host} is not trusted ({exc.verify_message}): check api_url and ca_file."
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise UnreachableError(
                f"The control API at {self._host} does not answer: {str(exc) or type(exc).__name__}."
            ) from exc

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def _exchange(self, method: str, path: str, body: Json, token: str, timeout: float) -> Json:
        if self._connection is None:
            self._connection = self._connect(timeout)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"muster-agent/{VERSION}",
        }
        self._connection.request(method, self._base + path, json.dumps(body).encode("utf-8"), headers)
        answer = self._connection.getresponse()
        content = answer.read(LARGEST_ANSWER)
        if answer.will_close or not answer.isclosed():  # hung up, or too long to be read to its end
            self.close()
        return data_of(answer.status, content)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def tls_context(ca_file: Optional[str]) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise AgentError(f"The certificate in ca_file ({ca_file}) cannot be read: {exc}.") from exc


def data_of(status: int, content: bytes) -> Json:
    """The `data` of an answer in the control API's envelope; RefusedError for everything else."""
    try:
        envelope = json.loads(content)
        if status < 300 and envelope["success"] is True:
            return dict(envelope["data"])
        message = ": ".join([str(envelope["message"]).rstrip("."), *complaints(envelope)])
    except (ValueError, KeyError, TypeError, AttributeError):
        message = "the answer is not one of a control API"
    raise RefusedError(status, f"{message} (HTTP {status}).")


def complaints(envelope: Json) -> List[str]:
    """What an error answer says of single fields, as at most one text."""
    details = (envelope.get("error") or {}).get("details") or []
    texts = [f"{detail['field']} {detail['message']}" for detail in details]
    return ["; ".join(texts)] if texts else []


# --- registration ---------------------------------------------------------------------------------


def register(api: Api, config: Config, token: str) -> Tuple[State, Json]:
    """Register this machine; the state that this leaves, not yet stored, and the answer."""
    answer = api.call("POST", "/api/workers/register", lambda: facts(config), token)
    return state_of(answer), answer


def register_once(config: Config, token_file: str, join_token_file: Optional[str]) -> Json:
    """The command `register`: by the credential if there is one that still counts, else by the token."""
    token = read_token(token_file)
    for directory in [Path(config.state_dir)] + [Path(name).parent for name in [join_token_file] if name]:
        if not directory.is_dir():  # said before the token is used
            raise AgentError(f"The directory {directory} does not exist: create it.")
    known = load_state(config.state_dir)
    tokens = [known.credential, token] if known else [token]
    state, answer = try_tokens(Api(config), config, tokens)
    save_state(config.state_dir, state)
    mark_unknown(config.state_dir, unknown=False)
    if join_token_file:
        write_secret(Path(join_token_file), join_token(state, answer) + "\n")
    return {
        "workerId": state.worker_id,
        "isRestart": bool(answer.get("isRestart")),
        "masterUrl": answer.get("masterUrl"),
        "joinTokenWritten": bool(join_token_file),
    }


def join_token(state: State, answer: Json) -> str:
    """The join token in the answer to a registration. Raises AgentError that says why there is none."""
    if answer.get("joinToken"):
        return str(answer["joinToken"])
    known = f"This machine is registered as worker {state.worker_id}"
    if (answer.get("worker") or {}).get("approved") is False:
        raise AgentError(
            f"{known}, but an operator must approve it before it can join the cluster: approve it, then register again."
        )
    raise AgentError(
        f"{known}, but the control API has no join token for it: repair its access to the cluster, then register again."
    )


def rotate_once(config: Config) -> Json:
    """The command `rotate`: exchange the credential for a new one; a running service takes it over by itself."""
    state = known_state(config)
    save_state(config.state_dir, state)  # said before the old one dies: there is room for the new one
    try:
        answer = Api(config).call("POST", state.rotate_path, dict, state.credential)
    except RefusedError as exc:
        raise AgentError(f"The control API refused the rotation: {exc}") from exc
    if not answer.get("credential"):
        raise AgentError("The answer to the rotation is not one of a control API: it holds no credential.")
    state.credential = str(answer["credential"])
    save_state(config.state_dir, state)
    return {"workerId": state.worker_id}


def tell_join_error(config: Config, sentence: str) -> Json:
    """The command `join-failed`: have the control API write down why this machine has not joined the cluster."""
    state = known_state(config)
    why = " ".join("".join(char if char.isprintable() else " " for char in sentence).split())[
        :LONGEST_SENTENCE
    ]
    if not why:
        raise AgentError("Standard input holds no sentence that says why the join has failed.")
    try:
        Api(config).call("PUT", state.join_error_path, lambda: {"joinError": why}, state.credential)
    except RefusedError as exc:
        raise AgentError(f"The control API did not take the reason of the failed join: {exc}") from exc
    return {"workerId": state.worker_id}


def read_token(path: str) -> str:
    """The enrolment token in a file. Raises AgentError when there is none."""
    try:
        token = Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as exc:
        raise AgentError(f"The enrolment token cannot be read: {exc}.") from exc
    if not TOKEN.match(token):
        raise AgentError(
            f"The file {path} holds no enrolment token: it must be one word of ASCII characters."
        )
    return token


def try_tokens(api: Api, config: Config, tokens: List[str]) -> Tuple[State, Json]:
    """Register with the first token that is accepted; an API that is not there yet is waited for, shortly."""
    for number, token in enumerate(tokens, start=1):
        for attempt in range(1, REGISTRATION_TRIES + 1):
            try:
                return register(api, config, token)
            except RefusedError as exc:
                if exc.status in FORGOTTEN and number < len(tokens):
                    break
                if exc.status < 500 or attempt == REGISTRATION_TRIES:
                    raise AgentError(f"The control API refused the registration: {exc}") from exc
            except UnreachableError:
                if attempt == REGISTRATION_TRIES:
                    raise
            time.sleep(backoff(attempt))
    raise AgentError("The control API refused the registration.")


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures: exponential, with full jitter, at most a minute."""
    return random.uniform(0.2, min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures, 10)))  # noqa: S311 - not for secrets


# --- the service ----------------------------------------------------------------------------------


class Service:
    """Beats until it is told to stop."""

    def __init__(self, config: Config, state: State, stop: threading.Event) -> None:
        self._config = config
        self._state = state
        self._saved = True
        self._stop = stop
        self._api = Api(config)
        self._gauges = Gauges(config)
        self._seq = 0
        self._reported_ready: Optional[bool] = None
        self._trouble: Optional[str] = ""  # neither trouble nor success has been logged yet

    def run(self) -> None:
        failures = 0
        notify("READY=1")
        while not self._stop.is_set():
            notify("WATCHDOG=1")
            trouble: Optional[AgentError] = None
            try:
                pause = self._beat()
                failures = 0
                mark_unknown(self._config.state_dir, unknown=False)
            except AgentError as exc:
                failures += 1
                pause = backoff(failures)
                trouble = exc
            unsaved = self._save()
            self._say(trouble or unsaved)
            self._wait(pause, until_ready_changes=failures == 0)
        notify("STOPPING=1")
        self._leave()

    def _beat(self) -> float:
        """Send a heartbeat and return the seconds until the next one."""
        try:
            answer = self._send()
        except RefusedError as exc:
            if exc.status not in FORGOTTEN:
                raise
            self._register_again()
            answer = self._send()  # refused once more, it is a failure like any other
        if answer.get("credential"):
            self._state.credential = str(answer["credential"])
            self._saved = False
            log.info("received a new credential")
        return pace(answer.get("nextInSeconds", self._state.interval_seconds))

    def _send(self) -> Json:
        return self._api.call("PATCH", self._state.heartbeat_path, self._report, self._state.credential)

    def _register_again(self) -> None:
        if self._take_over():
            return
        try:
            self._state, _ = register(self._api, self._config, self._state.credential)
        except RefusedError as exc:
            if exc.status not in FORGOTTEN:
                raise
            mark_unknown(self._config.state_dir, unknown=True)
            raise RefusedError(
                exc.status, f"The control API does not know this worker, register it with a token: {exc}"
            ) from exc
        self._saved = False
        log.info("registered again as worker %s", self._state.worker_id)

    def _take_over(self) -> bool:
        """Take the state that another run of this file has left since: it registered anew, or rotated."""
        with contextlib.suppress(AgentError):
            stored = load_state(self._config.state_dir)
            if self._saved and stored is not None and stored != self._state:
                self._state = stored
                log.info("took over the new credential of worker %s", stored.worker_id)
                return True
        return False

    def _save(self) -> Optional[AgentError]:
        """Store a changed state. A disk that is full costs no heartbeat: it is tried again with the next one."""
        if not self._saved:
            try:
                save_state(self._config.state_dir, self._state)
            except OSError as exc:
                return AgentError(f"The state cannot be written to {self._config.state_dir}: {exc.strerror}.")
            self._saved = True
        return None

    def _report(self) -> Json:
        self._reported_ready = self._gauges.node_ready()
        self._seq = sequence(self._seq)
        report = {
            "bootId": boot_id(),
            "seq": self._seq,
            "nodeReady": self._reported_ready,
            **self._gauges.read(),
        }
        return {name: value for name, value in report.items() if value is not None}

    def _wait(self, seconds: float, *, until_ready_changes: bool) -> None:
        """Wait, but no longer than until the kubelet has become ready or unready: that is news."""
        deadline = time.monotonic() + seconds
        while not self._stop.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._stop.wait(min(remaining, READINESS_SECONDS)):
                return
            notify("WATCHDOG=1")  # the control API may ask for pauses that are longer than the watchdog's
            if until_ready_changes and self._gauges.node_ready() != self._reported_ready:
                return

    def _say(self, trouble: Optional[AgentError]) -> None:
        """Log a failure when its kind changes, not every time it happens."""
        kind = trouble.kind if trouble else None
        if kind == self._trouble:
            return
        if trouble:
            log.warning("%s Trying on.", trouble)
        else:
            log.info("heartbeats are accepted")
        self._trouble = kind

    def _leave(self) -> None:
        """Say goodbye, so that nobody has to wait for the silence."""
        goodbye = {"reason": "the agent was stopped"}
        try:
            self._api.call(
                "POST", self._state.leave_path, lambda: goodbye, self._state.credential, GOODBYE_SECONDS
            )
        except AgentError as exc:
            log.warning("%s The goodbye was not heard.", exc)


def pace(asked: Any) -> float:
    """Seconds until the next heartbeat: a little less than asked for, so that a fleet does not beat in step."""
    try:
        seconds = float(asked)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise AgentError(f"The control API asks for the next heartbeat in '{asked}' seconds.")
    bounded = min(max(seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
    return bounded * random.uniform(0.9, 1.0)  # noqa: S311 - not for secrets


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.connect(address)
        channel.sendall(message.encode("ascii"))


# --- main -----------------------------------------------------------------------------------------


def run_service(config: Config) -> None:
    """The command `run`."""
    state = known_state(config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Service(config, state, stop).run()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="muster_agent.py", description="The worker agent of Muster.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=VERSION)
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    verbs.required = True
    once = verbs.add_parser(
        "register", help="register this machine once, as root, and print the outcome as JSON"
    )
    once.add_argument("--token-file", required=True, help="file that holds the enrolment token")
    once.add_argument("--join-token-file", help="write the K3s join token to this file (0600)")
    rotate = verbs.add_parser("rotate", help="exchange this machine's credential for a new one")
    failed = verbs.add_parser(
        "join-failed",
        help="read from standard input why this machine has not joined K3s, and tell the control API",
    )
    service = verbs.add_parser("run", help="send heartbeats until stopped")
    for verb in (once, rotate, failed, service):
        verb.add_argument("--config", default="/etc/muster-agent/config.json", help="default: %(default)s")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one verb; an error is one sentence on standard error and exit status 1."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        config = load_config(options.config)
        if options.verb == "register":
            print(json.dumps(register_once(config, options.token_file, options.join_token_file)))
        elif options.verb == "rotate":
            print(json.dumps(rotate_once(config)))
        elif options.verb == "join-failed":
            print(json.dumps(tell_join_error(config, sys.stdin.read())))
        else:
            run_service(config)
    except (AgentError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
