"""The JSON contract of the workers: what is accepted, and what is answered."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, StrictBool

from control_api.envelope import Request, Wire
from control_api.workers import lifecycle, listing
from control_api.workers.lifecycle import Intent, Moment, Node, Status
from control_api.workers.listing import LONGEST, Listing, NodeState, Order, Sort
from control_api.workers.models import Transition, Worker
from control_api.workers.store import Tally

HOST_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST_LABELS = rf"{HOST_LABEL}(\.{HOST_LABEL})*"
LONGEST_HOSTNAME = 253
HOSTNAME = re.compile(rf"(?=.{{1,{LONGEST_HOSTNAME}}}\Z){HOST_LABELS}\Z")
QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|Pi|Ei|k|K|M|G|T|P|E)?\Z")
SSH_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]{1,60}) [A-Za-z0-9+/]{16,4000}={0,3}\Z"
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
LABEL_WORD = "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
LABEL_KEY = f"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{LABEL_WORD}"  # as Kubernetes has it
LABEL_VALUE = f"({LABEL_WORD})?"
MAX_PAGE = 500
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
LARGEST = 2**63 - 1


def _hostname(value: str) -> str:
    if not HOSTNAME.match(value):
        msg = "is not a host name: lower-case letters, digits and hyphens, labels of at most 63 characters"
        raise ValueError(msg)
    return value


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        msg = "is not an IP address"
        raise ValueError(msg) from None
    if "%" in value or address.is_loopback or address.is_unspecified or address.is_multicast:
        msg = "is not an address that other machines reach"
        raise ValueError(msg)
    return str(address)


def quantity(value: object) -> int:
    """Return the bytes of a quantity as Kubernetes reads it: `31Gi` is 31 × 1024³, `468G` is 468 × 1000³.

    Raises ValueError for anything else, `23Gii` as well as -1.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    found = QUANTITY.match(text)
    if not found:
        msg = "is not a quantity such as 31Gi, 468G or a number of bytes"
        raise ValueError(msg)
    number, suffix = found[1], found[2] or ""
    base = 1024 if suffix.endswith("i") else 1000
    size = int(Fraction(number) * base ** POWERS[suffix[:1].lower()])
    if size > LARGEST:
        msg = "is larger than 8 Ei"
        raise ValueError(msg)
    return size


def _printable(value: str) -> str:
    if CONTROL.search(value):
        msg = "must not hold control characters"
        raise ValueError(msg)
    return value


def _ssh_key(value: str) -> str:
    if not SSH_KEY.match(value):
        msg = "is not an SSH public key (type and base64, no comment)"
        raise ValueError(msg)
    return value


# Their forms are documented, and refused with a better sentence than pydantic's.
Hostname = Annotated[
    str,
    AfterValidator(_hostname),
    Field(json_schema_extra={"pattern": f"^{HOST_LABELS}$", "maxLength": LONGEST_HOSTNAME}),
]
Address = Annotated[
    str,
    Field(max_length=45, json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
    AfterValidator(_address),
]
Bytes = Annotated[int, BeforeValidator(quantity, json_schema_input_type=int | str)]
Text = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Line = Annotated[str, AfterValidator(_printable)]
JoinSentence = Annotated[Line, Field(examples=["The K3s server at https://192.0.2.1:6443 does not answer."])]
LabelKey = Annotated[str, Field(max_length=317, pattern=rf"^{LABEL_KEY}$")]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^{LABEL_VALUE}$")]
Selector = Annotated[str, Field(max_length=381, pattern=rf"^{LABEL_KEY}(={LABEL_VALUE})?$")]
Percent = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Registration(Request):
    """What a machine says of itself; the mission's own fields and the agent's."""

    hostname: Hostname
    ip_address: Address
    cpu_cores: Annotated[int, Field(strict=True, ge=1, le=4096)]
    registration_token: Annotated[SecretStr, Field(max_length=512)] | None = None
    machine_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    boot_id: UUID | None = None
    architecture: Annotated[Text, Field(max_length=32)] | None = None
    cpu_model: Text | None = None
    cpu_architecture: Text | None = Field(None, description="The mission's name for the CPU's model.")
    total_memory_bytes: Annotated[int, Field(strict=True, ge=0, le=LARGEST)] | None = None
    total_memory: Bytes | None = None
    total_storage_bytes: Annotated[int, Field(strict=True, ge=0, le=LARGEST)] | None = None
    total_storage: Bytes | None = None
    operating_system: Text | None = None
    os_image: Text | None = None
    kernel_version: Text | None = None
    agent_version: Annotated[Text, Field(max_length=64)] | None = None
    ssh_host_keys: Annotated[list[Annotated[str, AfterValidator(_ssh_key)]], Field(max_length=10)] = Field([])

    def facts(self) -> dict[str, Any]:
        """Return the columns of the worker that this machine decides."""
        return {
            "hostname": self.hostname,
            "ip_address": self.ip_address,
            "cpu_cores": self.cpu_cores,
            "cpu_model": self.cpu_model or self.cpu_architecture,
            "architecture": self.architecture,
            "total_memory_bytes": _first(self.total_memory_bytes, self.total_memory),
            "total_storage_bytes": _first(self.total_storage_bytes, self.total_storage),
            "operating_system": self.operating_system or self.os_image,
            "kernel_version": self.kernel_version,
            "agent_version": self.agent_version,
            "ssh_host_keys": self.ssh_host_keys,
            "join_error": None,  # of an earlier attempt
        }


class HeartbeatReport(Request):
    """What a worker says every half minute; all of it may be left out."""

    boot_id: UUID | None = None
    seq: Annotated[int, Field(strict=True, ge=0, le=LARGEST)] | None = None
    node_ready: StrictBool | None = None
    cpu_usage: Percent | None = None
    memory_usage: Percent | None = None
    disk_usage: Percent | None = None
    current_pods: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = None
    load_average: Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)] | None = None


class Goodbye(Request):
    """Why a worker leaves, when it says so."""

    reason: Text | None = Field(None, examples=["the machine is shut down"])


class JoinError(Request):
    """Why a worker has not joined the cluster, in one sentence."""

    join_error: Annotated[JoinSentence, Field(min_length=1, max_length=500)]


class ListQuery(Request):
    """What the list is asked for, in the query string."""

    status: list[Status] = Field([], max_length=5, description="Any of these statuses; may be repeated.")
    intent: Intent | None = None
    architecture: Annotated[Line, Field(max_length=32)] | None = Field(None, examples=["amd64"])
    node_state: NodeState | None = None
    label: Annotated[list[Selector], Field(max_length=10)] = Field(
        [],
        description="A label as `key=value`, or `key` for whatever value; all of several.",
        examples=[["zone=a"]],
    )
    search: Annotated[Line, Field(max_length=253)] = Field(
        "", description="A part of the name, the hostname or the address, in whatever case."
    )
    sort: Sort = Sort.HOSTNAME
    order: Order = Order.ASC
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    cursor: Annotated[str, Field(max_length=LONGEST)] | None = Field(
        None, description="nextCursor of the page before, with the same sort, order and filters."
    )

    def listing(self) -> Listing:
        """Return the page that is asked for. Raises InvalidRequest when the cursor is none of this list."""
        return Listing(
            statuses=tuple(self.status),
            intent=self.intent,
            architecture=self.architecture,
            node_state=self.node_state,
            labels=tuple(listing.label(selector) for selector in self.label),
            search=self.search.lower(),
            sort=self.sort,
            order=self.order,
            limit=self.limit,
            after=None if self.cursor is None else listing.position(self.cursor, self.sort, self.order),
        )


class Maintenance(Wire):
    """Why a worker is in maintenance, who wanted it, since and until when; drain: whether its pods shall move."""

    reason: str = Field(examples=["new disk"])
    by: str
    since: datetime
    until: datetime | None
    drain: bool


class WorkerView(Wire):
    """A worker as everyone sees it."""

    id: UUID
    name: str
    hostname: str
    ip_address: str
    status: Status
    intent: Intent
    maintenance: Maintenance | None
    approved: bool
    is_ready: bool
    is_schedulable: bool
    last_heartbeat: datetime | None
    heartbeat_age_seconds: float | None
    node_state: Node | None
    join_error: str | None
    cpu_cores: int
    cpu_model: str | None
    architecture: str | None
    total_memory_bytes: int | None
    total_storage_bytes: int | None
    operating_system: str | None
    kernel_version: str | None
    agent_version: str | None
    ssh_host_keys: list[str]
    labels: dict[str, str]
    ansible_host: str | None
    ansible_port: int | None
    ansible_user: str | None
    max_pods: int | None
    notes: str | None
    machine_id: str | None
    observed_address: str | None
    cpu_usage: float | None
    memory_usage: float | None
    disk_usage: float | None
    current_pods: int | None
    pod_capacity: int | None
    load_average: float | None
    created_at: datetime
    registered_at: datetime
    updated_at: datetime


class HeartbeatTarget(Wire):
    """Where to send heartbeats, and how often."""

    url: str = Field(examples=["/api/workers/7034f966-b7f4-4394-b22d-0c8180282204/heartbeat"])
    interval_seconds: int


class Registered(Wire):
    """The answer to a registration."""

    worker_id: UUID
    worker: WorkerView
    is_restart: bool
    credential: str
    join_token: str | None
    master_url: str | None
    heartbeat: HeartbeatTarget


class Rotated(Wire):
    """The answer to a rotation: the new credential for the worker itself, none for an operator."""

    credential: str | None


class Received(Wire):
    """The answer to a heartbeat; a credential comes with it when the old one is to be replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"nextInSeconds": 30, "status": "ACTIVE"}]})

    next_in_seconds: int
    status: Status
    credential: str | None = None


class Left(Wire):
    """The answer to a goodbye."""

    status: Status = Field(examples=[Status.INACTIVE])


class JoinErrorNoted(Wire):
    """The answer to the reason of a failed join: what is written down now."""

    join_error: JoinSentence


class Removed(Wire):
    """What was taken off the roll-call."""

    id: UUID
    hostname: str
    removed_at: datetime


class WorkerPage(Wire):
    """Some of the workers; nextCursor asks for those that follow, and is null on the last page."""

    workers: list[WorkerView]
    next_cursor: str | None


class InventoryWorker(Wire):
    """A worker as a host of an inventory: nothing that changes with every heartbeat."""

    id: UUID
    name: str
    hostname: str
    machine_id: str | None
    ip_address: str
    status: Status
    intent: Intent
    approved: bool
    is_ready: bool
    is_schedulable: bool
    node_state: Node | None
    cpu_cores: int
    cpu_model: str | None
    architecture: str | None
    total_memory_bytes: int | None
    total_storage_bytes: int | None
    operating_system: str | None
    kernel_version: str | None
    agent_version: str | None
    ssh_host_keys: list[str]
    labels: dict[str, str]
    ansible_host: str | None
    ansible_port: int | None
    ansible_user: str | None
    max_pods: int | None


class Inventory(Wire):
    """Every worker, for the inventory plugin."""

    workers: list[InventoryWorker]


class Peers(Wire):
    """The IPv4 addresses that the workers' traffic may come from, in order."""

    addresses: list[str]


class TransitionView(Wire):
    """A recorded change of status: from none when the worker became known, to none when it was removed."""

    id: int
    from_status: Status | None = Field(serialization_alias="from")
    to_status: Status | None = Field(serialization_alias="to")
    reason: str = Field(examples=["not heard for 91 s"])
    actor: str = Field(examples=["monitor"])
    evidence: dict[str, Any]
    at: datetime


class TransitionPage(Wire):
    """Changes of a worker, the newest first; nextCursor asks for older ones, and is null when there are none."""

    transitions: list[TransitionView]
    next_cursor: str | None


class Amount(Wire):
    """How much of something there is on all workers, how much on the active ones, how much of it is used."""

    total: int
    active: int
    used: float


class Pods(Wire):
    """How many pods all workers may run, and how many run on those that are heard.

    What K3s says of a node counts. Where it says nothing, the worker's limit does, or the 110 of a kubelet.
    """

    capacity: int
    current: int


class ClusterView(Wire):
    """Whether K3s is asked, and answers; if not, each worker's own word about its node counts."""

    is_configured: bool
    answers: bool
    seen_at: datetime | None


class Stats(Wire):
    """The fleet in numbers."""

    total: int = Field(examples=[10])
    by_status: dict[Status, int]
    cpu_cores: Amount = Field(examples=[{"total": 80, "active": 72, "used": 31.5}])
    memory_bytes: Amount = Field(examples=[{"total": 343597383680, "active": 309237645312, "used": 1.2e11}])
    storage_bytes: Amount = Field(
        examples=[{"total": 4680000000000, "active": 4212000000000, "used": 1.9e12}]
    )
    pods: Pods
    cluster: ClusterView


def view(worker: Worker, at: Moment) -> WorkerView:
    """Return the worker as it is seen at this moment."""
    beat = worker.heartbeat
    health = lifecycle.health(
        approved=worker.approved,
        recorded=worker.status,
        ever_ready=beat.joined_at is not None,
        left=beat.left_at is not None,
        node_ready=beat.node_ready,
        node=worker.node_state,
        registered_at=worker.registered_at,
        last_heartbeat_at=beat.received_at,
        at=at,
    )
    status = lifecycle.status(worker.intent, health)
    age = None if beat.received_at is None else max(0.0, (at.now - beat.received_at).total_seconds())
    return WorkerView.model_validate(
        {
            **{name: getattr(worker, name) for name in WORKER_COLUMNS},
            **{name: getattr(beat, name) for name in BEAT_COLUMNS},
            "maintenance": _maintenance(worker),
            "status": status,
            "is_ready": health is Status.ACTIVE,
            "is_schedulable": status is Status.ACTIVE,
            "last_heartbeat": beat.received_at,
            "heartbeat_age_seconds": None if age is None else round(age, 3),
            "node_state": worker.node_state if at.knows_nodes else None,
            "join_error": None if health is Status.ACTIVE else worker.join_error,
            "current_pods": lifecycle.current_pods(worker.node_pods, beat.current_pods, at),
            "pod_capacity": worker.node_pod_capacity if at.knows_nodes else None,
        }
    )


BEAT_COLUMNS = ("cpu_usage", "memory_usage", "disk_usage", "load_average")
DERIVED = (
    "maintenance",
    "status",
    "is_ready",
    "is_schedulable",
    "last_heartbeat",
    "heartbeat_age_seconds",
    "node_state",
    "join_error",
    "current_pods",
    "pod_capacity",
)
WORKER_COLUMNS = tuple(name for name in WorkerView.model_fields if name not in BEAT_COLUMNS + DERIVED)


def _maintenance(worker: Worker) -> Maintenance | None:
    if worker.intent is not Intent.MAINTENANCE:
        return None
    return Maintenance(
        reason=worker.maintenance_reason or "",
        by=worker.maintenance_by or "",
        since=worker.maintenance_since or worker.updated_at,
        until=worker.maintenance_until,
        drain=worker.maintenance_drain or False,
    )


def transition_view(row: Transition) -> TransitionView:
    """Return a transition as it is seen."""
    return TransitionView.model_validate(row, from_attributes=True)


def stats(tallies: list[Tally], at: Moment, cluster_is_configured: bool) -> Stats:
    """Fold the sums of the statuses into the fleet's numbers."""
    active = [tally for tally in tallies if tally.status is Status.ACTIVE]

    def amount(total: str, used: str) -> Amount:
        return Amount(
            total=sum(getattr(tally, total) for tally in tallies),
            active=sum(getattr(tally, total) for tally in active),
            used=round(sum(getattr(tally, used) for tally in tallies), 2),
        )

    counts = {tally.status: tally.workers for tally in tallies}
    return Stats(
        total=sum(counts.values()),
        by_status={status: counts.get(status, 0) for status in Status},
        cpu_cores=amount("cpu_cores", "cpu_used"),
        memory_bytes=amount("memory_bytes", "memory_used"),
        storage_bytes=amount("storage_bytes", "storage_used"),
        pods=Pods(
            capacity=sum(tally.pod_capacity for tally in tallies),
            current=sum(tally.pods for tally in tallies),
        ),
        cluster=ClusterView(
            is_configured=cluster_is_configured,
            answers=cluster_is_configured and at.knows_nodes,
            seen_at=at.nodes_seen_at,
        ),
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
