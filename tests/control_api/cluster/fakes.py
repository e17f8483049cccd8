"""What stands in for the cluster at the edge of the process."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from control_api.cluster.nodes import NodeReport
from control_api.cluster.tokens import BootstrapToken
from control_api.cluster.watching import NodeWatch
from control_api.errors import ClusterUnavailable
from control_api.workers.lifecycle import Node
from tests.control_api.world import START, Api


class FakeCluster:
    """A cluster in memory, by the rules of Kubernetes as far as they matter here."""

    def __init__(self) -> None:
        self.answers = True
        self.counts_pods = True
        self.minted: dict[str, UUID] = {}
        self.listed: dict[str, NodeReport] = {}
        self.running: dict[str, int] = {}
        self.asked = 0

    def has(self, name: str, state: Node = Node.READY, *, age: float = 86400.0, pods: int = 110) -> None:
        """Let there be a node that was made `age` seconds before the tests began."""
        version = str(len(self.listed) + self.asked)
        created_at = START - timedelta(seconds=age)
        self.listed[name] = NodeReport(name, state, pods, created_at, f"uid-{name}-{age}", version)

    def _ask(self) -> None:
        self.asked += 1
        if not self.answers:
            raise ClusterUnavailable

    def mint(self, token: BootstrapToken, worker_id: UUID, now: datetime) -> str:
        self._ask()
        self.minted[token.id] = worker_id
        return f"K10ffff::{token.id}.{token.secret}"

    def delete(self, token_id: str) -> None:
        self._ask()
        self.minted.pop(token_id, None)

    def nodes(self) -> list[NodeReport]:
        self._ask()
        return list(self.listed.values())

    def pods(self) -> dict[str, int]:
        self._ask()
        if not self.counts_pods:
            raise ClusterUnavailable
        return dict(self.running)

    def node(self, name: str) -> NodeReport | None:
        self._ask()
        return self.listed.get(name)

    def remove_node(self, seen: NodeReport) -> bool:
        self._ask()
        if self.listed.get(seen.name, seen) != seen:
            return False
        self.listed.pop(seen.name, None)
        return True

    def close(self) -> None:
        pass


def watching(api: Api, cluster: FakeCluster, *, leads: bool = True) -> NodeWatch:
    """Return a watch that looks when the test says so."""
    return NodeWatch(
        cluster,
        api.service.database,
        rules=api.service.settings.rules,
        leads=lambda: leads,
        clock=api.clock,
        seconds=5,
        degraded=lambda is_degraded: api.service.degraded.set("cluster", is_degraded),
    )
