"""Handing out join tokens, and taking them back when the worker's node is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from control_api.cluster.kubernetes import Cluster
from control_api.db import Database
from control_api.errors import ClusterUnavailable, MusterError
from control_api.workers import watch_store

log = structlog.get_logger()


class Handout(NamedTuple):
    """A join token, or None with the reason why there is none."""

    token: str | None
    problem: str | None


def hand_out(
    cluster: Cluster | None, database: Database, worker_id: UUID, *, fallback: str | None, now: datetime
) -> Handout:
    """Mint a join token for the worker; without a cluster that answers, return the static agent token.

    A cluster that does not answer never breaks a registration: the problem is told instead.
    """
    if cluster is None:
        return Handout(fallback, None if fallback else "no cluster is configured, so there is no join token")
    try:
        minted = cluster.mint(worker_id, now)
    except ClusterUnavailable:
        log.warning(
            "no join token minted: the cluster does not answer",
            worker=str(worker_id),
            fallback=bool(fallback),
        )
        return Handout(
            fallback, None if fallback else "the cluster does not answer, so there is no join token yet"
        )
    with database.transaction() as session:
        watch_store.remember_join_token(session, worker_id, minted.id)
    log.info("join token minted", worker=str(worker_id), token_id=minted.id)
    return Handout(minted.value, None)


class NodeWatch:
    """The thread that asks K3s for its nodes, apart from the monitor, which must never wait for it."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        *,
        leads: Callable[[], bool],
        clock: Callable[[], datetime],
        seconds: float,
    ) -> None:
        """Ask every `seconds`, while `leads` says that this process is the one to ask."""
        self._cluster = cluster
        self._database = database
        self._leads = leads
        self._clock = clock
        self._seconds = seconds
        self._stop = threading.Event()
        self._answers = True
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join()

    def tick(self) -> None:
        """Ask once: store the nodes' states and delete the join tokens that have done their work."""
        ready = self._cluster.nodes()
        with self._database.transaction() as session:
            watch_store.save_node_states(session, ready, self._clock())
            spent = watch_store.spent_join_tokens(session)
        for worker_id, token_id in spent:
            self._cluster.delete(token_id)
            with self._database.transaction() as session:
                watch_store.forget_join_token(session, worker_id, token_id)
            log.info("join token deleted: its node is ready", worker=str(worker_id), token_id=token_id)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            if not self._leads():
                continue
            try:
                self.tick()
                self._tell(answers=True)
            except MusterError as exc:
                self._tell(answers=False, reason=type(exc).__name__)
            except Exception:  # the loop must outlive whatever it meets
                log.exception("nodes: a look failed")

    def _tell(self, *, answers: bool, reason: str = "") -> None:
        """Log only a change: a cluster that is away for hours is one line."""
        if answers != self._answers:
            log.warning("nodes: the cluster answers again" if answers else "nodes: no answer", reason=reason)
        self._answers = answers
