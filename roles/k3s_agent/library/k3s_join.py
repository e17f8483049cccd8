#!/usr/bin/python
"""The join of a K3s agent: whether it can work, whether it has worked, and if not, why, in one sentence.

Standard library only, Python 3.8 or newer: it runs on the worker, without Ansible's library (docs/adr/0010). The tests
have the lines of real agents.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

DOCUMENTATION = r"""
module: k3s_join
short_description: Checks a join of a K3s agent before it, or waits for it, and says in one sentence why it fails
description:
  - C(possible) looks from the worker, without K3s, whether a join can work, and changes nothing.
  - C(joined) waits until the kubelet is healthy and the node Ready. It ends early when the journal of the agent
    names a cause that no waiting mends, and never takes longer than C(seconds).
options:
  state:
    description: What to check.
    type: str
    choices: [possible, joined]
    required: true
  server:
    description: URL of the K3s server.
    type: str
    required: true
  token_file:
    description: File that holds the join token.
    type: path
    required: true
  node_name:
    description: Name of the node.
    type: str
    required: true
  seconds:
    description: How long to wait for the join.
    type: int
    default: 180
author: Muster
"""
EXAMPLES = r"""
- name: Wait for the join
  k3s_join:
    state: joined
    server: https://192.0.2.10:6443
    token_file: /etc/rancher/k3s/join-token
    node_name: worker1
"""
RETURN = r"""
joined:
  description: Whether the node is Ready.
  type: bool
  returned: success
"""

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""  # Ansible writes them there
REQUIRED, SECONDS = ("state", "server", "token_file", "node_name"), 180
MOST_SKEW_SECONDS = 60
CONNECT_SECONDS = 5
POLL_SECONDS = 2
PATIENCE_SECONDS = 20  # so long a cause must stay the same to be believed: a server may just be starting
KUBECONFIG = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"
HEALTHZ = "http://127.0.0.1:10248/healthz"
UNREACHABLE = "{server} cannot be reached: its port is closed to this machine, or the K3s server is down"
ANOTHER_CA = (
    "{server} has another CA than the one that the join token names: the token is of another cluster, or somebody "
    "stands in between; register this worker again"
)
REFUSED = (
    "K3s refused the join token, which is wrong, expired or deleted: run the playbook again, "
    "it brings a fresh one"
)
NO_CGROUP = (
    "the kernel offers no memory cgroup, without which no pod runs: add cgroup_enable=memory to its command line "
    "and reboot"
)
CLOCKS = "the clocks of this machine and of {server} are too far apart for certificates: synchronise the time on both"


class Cause(NamedTuple):
    """What a line of the journal means; `heals`: it may pass by itself, so the wait goes on."""

    pattern: str
    sentence: str
    heals: bool = False


CAUSES = [
    Cause(r"token CA hash does not match", ANOTHER_CA),
    Cause(
        r"Node password rejected|Node password validation failed",
        "K3s knows a node '{node}' with another password: this machine was reinstalled, or another one has its name; "
        "if that one is gone, `k3s kubectl delete node {node}` on the master, and run the playbook again",
        heals=True,  # the control API deletes the node of a dead machine
    ),
    Cause(
        r"duplicate node names?\b",
        "another node of the cluster has the name '{node}': give this machine a name of its own",
    ),
    Cause(
        r"cacerts\"?: [45]\d\d ",
        "what answers at {server} is no K3s server: correct the address, or what passes requests on to it",
    ),
    Cause(r"certificate has expired or is not yet valid", CLOCKS),
    Cause(r"(?i)failed to find memory cgroup", NO_CGROUP),
    Cause(
        r"certificate is valid for .*, not |doesn't contain any IP SANs",
        "the certificate of {server} is not valid for that name: add it to cluster_k3s_tls_names",
    ),
    Cause(
        r"certificate signed by unknown authority|CA cert validation failed: .*x509",
        "the certificate of {server} is not signed by the CA that it presents: something stands in between, "
        "such as a proxy that opens TLS",
    ),
    Cause(
        r"config(uration from server)?: \S+: 401 Unauthorized|/(v1-k3s/\S+|apis): 401 Unauthorized"
        r"|^(time=|level=|[A-Z]{4}\[).*: not authorized\"?$|invalid token|token must not be empty"
        r"|token does not match the server|--token is required",
        REFUSED,
    ),
    Cause(
        r"unknown 'kubernetes.io' or 'k8s.io' labels",
        "the kubelet may not give itself labels of kubernetes.io: set them on the master, "
        "with `k3s kubectl label node {node}`",
    ),
    Cause(
        r"listen tcp (\S+): (bind: )?address already in use",
        "another program has a port that K3s needs ({0}): stop that program",
    ),
    Cause(
        r"flag provided but not defined: (\S+)",
        "this version of K3s has no option {0}: correct k3s_agent_config",
    ),
    Cause(
        r"no default routes? found", "this machine has no default route, which K3s needs to find its address"
    ),
    Cause(
        r"proxyconnect",
        "the HTTP proxy does not lead to {server}: add its address to the hosts without a proxy",
    ),
    Cause(
        r"lookup \S+.*(no such host|server misbehaving|i/o timeout)",
        "the name in {server} cannot be resolved: use an address, or a name that DNS knows",
        heals=True,
    ),
    Cause(
        r"(cacerts|v1-k3s/\S+|:6443).*(connection refused|connection reset|no route to host|i/o timeout|EOF"
        r"|network is unreachable|context deadline exceeded|Client\.Timeout|tim(ed|e) out)",
        UNREACHABLE,
        heals=True,
    ),
    Cause(r"token is not valid|failed to validate token", REFUSED),  # the causes above stand behind it, too
]


class Finding(NamedTuple):
    """A cause with its sentence filled in."""

    sentence: str
    heals: bool


def cause_of(lines: List[str], server: str, node: str) -> Optional[Finding]:
    """What the newest line that says anything about a cause means; None when no line does."""
    for line in reversed(lines):
        for cause in CAUSES:
            found = re.search(cause.pattern, line)
            if found:
                names = [group or "" for group in found.groups()]
                return Finding(cause.sentence.format(*names, server=server, node=node), cause.heals)
    return None


def last_words(lines: List[str]) -> str:
    """The newest complaint among the lines, for a cause that is not known here."""
    complaints = [line for line in lines if re.search(r"level=(error|fatal)|^[EF]\d{4} ", line)]
    return (complaints or lines or ["nothing"])[-1].strip()[:300]


def as_sentence(why: str) -> str:
    """A cause as a sentence of its own; a URL at its beginning stays as it is."""
    return (why if why.startswith("http") else why[:1].upper() + why[1:]) + "."


def token_hash(token: str) -> str:
    """The CA's hash in a token of the secure form `K10<hash>::<credentials>`, '' in a short one."""
    found = re.match(r"K10([0-9a-f]{64})::", token)
    return found[1] if found else ""


def ca_hash(bundle: bytes) -> Optional[str]:
    """K3s' hash of its CA; None for a chain, whose root only K3s itself picks (pkg/clientaccess/token.go)."""
    return hashlib.sha256(bundle).hexdigest() if bundle.count(b"-----BEGIN CERTIFICATE") == 1 else None


def limits_memory(controllers: Optional[str], cgroups: str) -> bool:
    """Whether the kernel can bound the memory of pods.

    controllers: cgroup.controllers of the unified hierarchy's root, None where it is not mounted there. cgroups:
    /proc/cgroups, whose last column says which controllers of the older hierarchies are on.
    """
    if controllers is not None:
        return "memory" in controllers.split()
    rows = [line.split() for line in cgroups.splitlines()]
    return any(row[0] == "memory" and row[-1] == "1" for row in rows if row)


def unready(node: Any) -> str:
    """What a Node object says of why it is not Ready, '' when it is."""
    conditions = (node.get("status") or {}).get("conditions") or []
    ready: Any = next((c for c in conditions if c.get("type") == "Ready"), {})
    if ready.get("status") == "True":
        return ""
    return "its node is not Ready: " + (ready.get("message") or "it has not reported yet")


def obstacle(server: str, token: str, controllers: Optional[str], cgroups: str) -> Optional[str]:
    """Why a join cannot work, as this machine sees it; None when nothing speaks against it."""
    if not limits_memory(controllers, cgroups):
        return NO_CGROUP
    try:
        bundle, their_time = fetch_ca(server)
    except socket.gaierror:
        return f"the name in {server} cannot be resolved: use an address, or a name that DNS knows"
    except (OSError, http.client.HTTPException) as exc:
        return f"{UNREACHABLE.format(server=server)} ({str(exc) or type(exc).__name__})"
    if their_time is not None and abs(their_time - time.time()) > MOST_SKEW_SECONDS:
        seconds = round(time.time() - their_time)
        ahead = "ahead of" if seconds > 0 else "behind"
        return f"{CLOCKS.format(server=server)} (this machine is {abs(seconds)} s {ahead} it)"
    wanted, found = token_hash(token), ca_hash(bundle)
    if wanted and found and wanted != found:
        return ANOTHER_CA.format(server=server)
    return None


def fetch_ca(server: str) -> "tuple[bytes, Optional[float]]":
    """The server's CA and the time on its clock; whom the CA belongs to is for the token's hash to say."""
    parts = urlsplit(server)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 6443, timeout=CONNECT_SECONDS, context=context
    )
    try:
        connection.request("GET", "/cacerts")
        answer = connection.getresponse()
        date = answer.getheader("Date")
        return answer.read(), email.utils.parsedate_to_datetime(date).timestamp() if date else None
    finally:
        connection.close()


def wait(
    lacking: Callable[[], str],
    journal: Callable[[], List[str]],
    server: str,
    node: str,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[str]:
    """Wait until nothing is `lacking`, at most so many seconds; None, or why it has not worked.

    A cause that no waiting mends ends the wait once it has been the newest one for PATIENCE_SECONDS.
    """
    started = since = clock()
    last: Optional[Finding] = None
    while True:
        still = lacking()
        if not still:
            return None
        lines = journal()
        found = cause_of(lines, server, node)
        if found != last:
            last, since = found, clock()
        if found and not found.heals and clock() - since >= PATIENCE_SECONDS:
            return found.sentence
        if clock() - started >= seconds:
            return found.sentence if found else f"{still}; the agent said last: {last_words(lines)}"
        sleep(POLL_SECONDS)


# --- reading this machine -------------------------------------------------------------------------


def read(path: str) -> Optional[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def ask(*command: str) -> "tuple[str, str]":
    """What a command printed, or '' and its complaint when it failed or took too long."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError) as exc:
        return "", str(exc)
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace"), ""
    return "", done.stderr.decode("utf-8", "replace").strip()[-300:] or f"it ended with {done.returncode}"


def not_joined(node: str, kubeconfig: str = KUBECONFIG) -> str:
    """What a join still lacks: a healthy kubelet, or K3s' word to the kubelet itself that its node is Ready."""
    try:
        # The kubelet is on this machine: a proxy that the environment names is not asked.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(HEALTHZ, timeout=CONNECT_SECONDS).close()
    except OSError:
        return "its kubelet is not healthy"
    command = (
        "/usr/local/bin/k3s",
        "kubectl",
        "--kubeconfig",
        kubeconfig,
        "get",
        "node",
        node,
        "--output",
        "json",
    )
    printed, complaint = ask(*command)
    try:
        return unready(json.loads(printed))
    except ValueError:
        return f"its kubelet is healthy, but K3s does not show it its node: {complaint or printed[:300]}"


def journal_since(start: float) -> List[str]:
    """The agent's lines in the journal since that time."""
    since = f"@{int(start)}"
    return ask(
        "journalctl",
        "--unit",
        "k3s-agent",
        "--since",
        since,
        "--lines",
        "60",
        "--output",
        "cat",
        "--no-pager",
    )[0].splitlines()


def main(arguments: str = ARGUMENTS) -> None:
    """Check or wait, and tell."""
    given = json.loads(arguments)
    why = what_is_wrong(given) or what_fails(given)
    joined = {"changed": False, "joined": given.get("state") == "joined"}
    print(json.dumps({"failed": True, "msg": as_sentence(why)} if why else joined))
    sys.exit(bool(why))


def what_is_wrong(given: Dict[str, Any]) -> str:
    """What a task may not say; '' when it is right."""
    own = [name for name in given if not name.startswith("_ansible_")]
    wrong = [f"there is no {name}" for name in own if name not in (*REQUIRED, "seconds")]
    wrong += [f"{name} is missing" for name in REQUIRED if name not in given]
    if given.get("state", "joined") not in ("possible", "joined"):
        wrong.append("state is possible or joined")
    return f"The task is wrong: {', '.join(wrong)}" if wrong else ""


def what_fails(given: Dict[str, Any]) -> Optional[str]:
    """Why the join cannot work, or has not."""
    server, node = given["server"], given["node_name"]
    if given["state"] == "possible":
        token = read(given["token_file"]) or ""
        return obstacle(server, token, read("/sys/fs/cgroup/cgroup.controllers"), read("/proc/cgroups") or "")
    start, seconds = time.time() - 5, given.get("seconds", SECONDS)
    return wait(lambda: not_joined(node), lambda: journal_since(start), server, node, seconds=seconds)


if __name__ == "__main__":
    main()
