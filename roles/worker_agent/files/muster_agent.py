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
import os
import random
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
FORGOTTEN = (401, 404, 410)  # the control API does not know this credential or worker (any more)

Json = Dict[str, Any]
log = logging.getLogger("muster-agent")


class AgentError(Exception):
    """A sentence that says what is wrong and what to do."""


class UnreachableError(AgentError):
    """The control API gave no answer."""


class RefusedError(AgentError):
    """The control API answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
    return Config(**given)


def check_url(url: str) -> None:
    """Refuse a URL that would send a token in the clear."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
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


def state_of(answer: Json) -> State:
    """Take the state from the `data` of a registration's answer."""
    beat = answer["heartbeat"]
    return State(answer["workerId"], answer["credential"], beat["url"], float(beat["intervalSeconds"]))


def load_state(directory: str) -> Optional[State]:
    """Read the state, or return None when this machine has not registered yet."""
    path = Path(directory, "state.json")
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as exc:
        raise AgentError(f"The state {path} cannot be read: {exc}. Remove it and register again.") from exc


def save_state(directory: str, state: State) -> None:
    write_secret(Path(directory, "state.json"), json.dumps(vars(state), indent=2) + "\n")


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
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


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
    """The CPU's name from /proc/cpuinfo; ARM machines have none there."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return " ".join(value.split())[:200]
    return None


def system_name(os_release: str) -> Optional[str]:
    """PRETTY_NAME of os-release(5)."""
    for line in os_release.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return None


def architecture(machine: str) -> str:
    """The architecture as Kubernetes and container images name it."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)


def public_key(text: str) -> Optional[str]:
    """Type and key of an SSH public key file, without its comment."""
    words = text.split()
    return " ".join(words[:2]) if len(words) >= 2 else None


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
        "machineId": read("/etc/machine-id").strip() or None,
        "bootId": boot_id(),
        "architecture": architecture(os.uname().machine),
        "cpuModel": cpu_model(read("/proc/cpuinfo")),
        "totalMemoryBytes": memory(read("/proc/meminfo"))[0],
        "totalStorageBytes": shutil.disk_usage(config.disk_path).total,
        "operatingSystem": system_name(read("/etc/os-release")),
        "kernelVersion": os.uname().release,
        "agentVersion": VERSION,
        "sshHostKeys": [key for key in keys if key],
    }
    return {name: value for name, value in known.items() if value is not None}


def own_address(api_url: str) -> str:
    """The address that this machine reaches the control API from. UDP only chooses a route, nothing is sent."""
    parts = urlsplit(api_url)
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as exc:
        raise UnreachableError(f"There is no route to {parts.hostname}: {exc}.") from exc


def boot_id() -> Optional[str]:
    return read("/proc/sys/kernel/random/boot_id").strip() or None


def sequence() -> int:
    """Milliseconds since boot: with the boot id it grows for ever, across restarts of the agent too."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)


class Gauges:
    """The figures of a heartbeat. CPU use is the share since the reading before, so the first has none."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._cpu: Optional[Tuple[int, int]] = None

    def read(self) -> Json:
        before, self._cpu = self._cpu, cpu_times(read("/proc/stat"))
        disk = shutil.disk_usage(self._config.disk_path)
        figures: Json = {
            "cpuUsage": cpu_usage(before, self._cpu) if before else None,
            "memoryUsage": memory(read("/proc/meminfo"))[1],
            "diskUsage": percent(disk.used, disk.used + disk.free),
            "loadAverage": round(os.getloadavg()[0], 2),
        }
        return {name: value for name, value in figures.items() if value is not None}

    def node_ready(self) -> Optional[bool]:
        """What the kubelet says of itself; None when no kubelet is expected."""
        if not self._config.kubelet_healthz_url:
            return None
        try:
            with urllib.request.urlopen(self._config.kubelet_healthz_url, timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False


# --- transport ------------------------------------------------------------------------------------


class Api:
    """The control API over one connection that stays open between requests."""

    def __init__(self, config: Config) -> None:
        parts = urlsplit(config.api_url)
        self._host, self._port, self._base = str(parts.hostname), parts.port, parts.path.rstrip("/")
        self._connection: Optional[http.client.HTTPConnection] = None
        self._tls = tls_context(config.ca_file) if parts.scheme == "https" else None

    def call(
        self, method: str, path: str, body: Callable[[], Json], token: str, timeout: float = REQUEST_SECONDS
    ) -> Json:
        """Send a request and return the `data` of the answer.

        body is called for every try: a connection that was closed while it was idle is opened anew, once.
        Raises RefusedError for an error answer, UnreachableError when there is none.
        """
        if self._connection is not None:
            try:
                return self._exchange(self._connection, method, path, body(), token, timeout)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
        try:
            self._connection = self._connect(timeout)
            return self._exchange(self._connection, method, path, body(), token, timeout)
        except ssl.SSLCertVerificationError as exc:
            self.close()
            raise UnreachableError(
                f"The certificate of {self._host} is not trusted ({exc.verify_message}): check ca_file."
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise UnreachableError(
                f"The control API at {self._host} does not answer: {exc or type(exc).__name__}."
            ) from exc

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Json,
        token: str,
        timeout: float,
    ) -> Json:
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"muster-agent/{VERSION}",
        }
        connection.request(method, self._base + path, json.dumps(body).encode("utf-8"), headers)
        answer = connection.getresponse()
        content = answer.read(1024 * 1024)
        if answer.getheader("Connection", "").lower() == "close":
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
        message = str(envelope["message"])
    except (ValueError, KeyError, TypeError):
        message = "the answer is not one of a control API"
    raise RefusedError(status, f"{message.rstrip('.')} (HTTP {status}).")


# --- registration ---------------------------------------------------------------------------------


def register(api: Api, config: Config, token: str) -> Tuple[State, Json]:
    """Register this machine, keep its state, and return it with the answer."""
    answer = api.call("POST", "/api/workers/register", lambda: facts(config), token)
    state = state_of(answer)
    save_state(config.state_dir, state)
    return state, answer


def register_once(config: Config, token_file: str, join_token_file: Optional[str]) -> Json:
    """The command `register`: by the credential if there is one that still counts, else by the token."""
    token = Path(token_file).read_text(encoding="utf-8").strip()
    if not token:
        raise AgentError(f"The file {token_file} holds no enrolment token.")
    state = load_state(config.state_dir)
    tokens = [state.credential, token] if state else [token]
    _, answer = try_tokens(Api(config), config, tokens)
    if join_token_file and answer.get("joinToken"):
        write_secret(Path(join_token_file), answer["joinToken"] + "\n")
    return {
        "workerId": answer["workerId"],
        "isRestart": answer["isRestart"],
        "masterUrl": answer.get("masterUrl"),
        "joinTokenWritten": bool(join_token_file and answer.get("joinToken")),
    }


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
        self._stop = stop
        self._api = Api(config)
        self._gauges = Gauges(config)
        self._reported_ready: Optional[bool] = None
        self._trouble: Optional[str] = ""  # neither trouble nor success has been logged yet

    def run(self) -> None:
        failures = 0
        notify("READY=1")
        while not self._stop.is_set():
            notify("WATCHDOG=1")
            try:
                pause = self._beat()
                failures = 0
                self._say(None)
            except AgentError as exc:
                failures += 1
                pause = backoff(failures)
                self._say(str(exc))
            self._wait(pause, until_ready_changes=failures == 0)
        notify("STOPPING=1")
        self._leave()

    def _beat(self) -> float:
        """Send a heartbeat and return the seconds until the next one."""
        try:
            answer = self._api.call("PATCH", self._state.heartbeat_path, self._report, self._state.credential)
        except RefusedError as exc:
            if exc.status not in FORGOTTEN:
                raise
            self._state, _ = register(self._api, self._config, self._state.credential)
            log.info("registered again as worker %s", self._state.worker_id)
            return 0.0
        if answer.get("credential"):
            self._state.credential = answer["credential"]
            save_state(self._config.state_dir, self._state)
            log.info("received a new credential")
        return float(answer["nextInSeconds"])

    def _report(self) -> Json:
        self._reported_ready = self._gauges.node_ready()
        report = {
            "bootId": boot_id(),
            "seq": sequence(),
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
            if until_ready_changes and self._gauges.node_ready() != self._reported_ready:
                return

    def _say(self, trouble: Optional[str]) -> None:
        """Log a failure when it changes, not every time it happens."""
        if trouble == self._trouble:
            return
        if trouble:
            log.warning("%s Trying on.", trouble)
        else:
            log.info("heartbeats are accepted")
        self._trouble = trouble

    def _leave(self) -> None:
        """Say goodbye, so that nobody has to wait for the silence."""
        goodbye = {"reason": "the agent was stopped"}
        try:
            self._api.call(
                "POST", self._state.leave_path, lambda: goodbye, self._state.credential, GOODBYE_SECONDS
            )
        except AgentError as exc:
            log.warning("%s The goodbye was not heard.", exc)


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
    state = load_state(config.state_dir)
    if state is None:
        raise AgentError(f"This machine has not registered: there is no {config.state_dir}/state.json.")
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
    service = verbs.add_parser("run", help="send heartbeats until stopped")
    for verb in (once, service):
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
        else:
            run_service(config)
    except (AgentError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
