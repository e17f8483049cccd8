"""The thread that asks K3s how its nodes are, apart from the monitor, which must never wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import structlog

from control_api.cluster import joining, replacing, stale_store, store
from control_api.cluster.kubernetes import Cluster
from control_api.db import Database
from control_api.errors import ClusterUnavailable, MusterError
from control_api.workers import monitor
from control_api.workers import store as workers_store
from control_api.workers.lifecycle import Rules

FEATURE = "cluster"  # the name under which /readyz says that news from K3s are missing
log = structlog.get_logger()


class NodeWatch:
    """Looks every few seconds: the leader asks K3s, the others see whether it was answered."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        *,
        rules: Rules,
        leads: Callable[[], bool],
        clock: Callable[[], datetime],
        seconds: float,
        degraded: Callable[[bool], None] = lambda _is: None,
    ) -> None:
        """Look every `seconds`.

        leads: says that this process is the one to ask. degraded: told whether news from K3s are missing.
        """
        self._cluster = cluster
        self._database = database
        self._rules = rules
        self._leads = leads
        self._clock = clock
        self._seconds = seconds
        self._degraded = degraded
        self._stop = threading.Event()
        self._answers = True
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Look once."""
        try:
            if self._leads():
                self.tick()
                self._tell(answers=True)
        except ClusterUnavailable as exc:
            self._tell(answers=False, reason=str(exc.__cause__))
        with self._database.reading() as session:
            at = workers_store.moment(session, self._clock(), self._rules)
        self._degraded(not at.knows_nodes)

    def tick(self) -> None:
        """Ask once: store how the nodes are, record whose status that changes, tidy up in the cluster.

        Raises ClusterUnavailable, DatabaseUnavailable.
        """
        asked_at = self._clock()
        reports = self._cluster.nodes()
        pods = self._pods()
        with self._database.transaction() as session:
            changed = store.save_nodes(session, reports, pods, asked_at)
            at = workers_store.moment(session, self._clock(), self._rules)
            monitor.tell(workers_store.record_changes(session, at, actor="monitor", only=changed))
            spent = store.spent_join_tokens(session, at.now)
            doubts = stale_store.doubts(session)
        for token_id, worker_id in spent:
            joining.take_back(self._cluster, self._database, token_id, worker_id, at.now)
        by_name = {report.name: report for report in reports}
        for doubt in doubts:
            node = by_name.get(doubt.name)
            replacing.settle(self._cluster, self._database, doubt, node, actor="monitor", now=at.now)

    def _pods(self) -> dict[str, int] | None:
        """Count the pods; when that fails the nodes are news all the same."""
        try:
            return self._cluster.pods()
        except ClusterUnavailable as exc:
            log.warning("nodes: pods not counted", reason=str(exc.__cause__))
            return None

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except MusterError as exc:
                log.warning("nodes: a look failed", reason=type(exc).__name__)
            except Exception:  # the loop must outlive whatever it meets
                log.exception("nodes: a look failed")

    def _tell(self, *, answers: bool, reason: str = "") -> None:
        """Log only a change: a cluster that is away for hours is one line."""
        if answers != self._answers:
            log.warning("nodes: the cluster answers again" if answers else "nodes: no answer", reason=reason)
        self._answers = answers
