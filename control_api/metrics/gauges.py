"""How things are at the moment of asking: the fleet, the monitor, what this process depends on, the process itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from control_api import attempts
from control_api.cluster import watching
from control_api.errors import DatabaseUnavailable
from control_api.events import webhook_store, webhooks
from control_api.events.models import Webhook
from control_api.service import Service
from control_api.workers import store, wire
from control_api.workers.models import Watch
from control_api.workers.wire import Stats

UP = "Whether the database answers."


class Process(ProcessCollector):
    """Memory, CPU and files of this process, also where /proc shows processes and nothing else (ProcSubset=pid)."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


process = Process(registry=None)


class Everything(Collector):
    """All metrics: what has happened in this process, and what is true now."""

    def __init__(self, service: Service, now: datetime) -> None:
        """Take the wired parts and the time."""
        self._service = service
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield them; without the database, all that do not need it."""
        yield from self._service.meters.registry.collect()
        yield from _read(self._service, self._now)


def _read(service: Service, now: datetime) -> Iterator[Metric]:
    versions = {"version": version("muster-paas"), "python": platform.python_version()}
    yield InfoMetricFamily("muster_build", "What runs here.", versions)
    yield from _stored(service, now)
    yield from _own(service)
    yield _degraded(service)
    yield from process.collect()


def _stored(service: Service, now: datetime) -> Iterator[Metric]:
    """Yield what only the database knows; it is the same whichever process is asked."""
    try:
        watch, sums, hooks = _look(service, now)
    except DatabaseUnavailable:
        yield _gauge("muster_database_up", UP, 0)
        return
    yield _gauge("muster_database_up", UP, 1)
    workers = GaugeMetricFamily("muster_workers", "Workers, by status.", labels=["status"])
    for status, count in sums.by_status.items():
        workers.add_metric([status.value], count)
    yield workers
    receivers = GaugeMetricFamily(
        "muster_webhooks", "Webhooks, by how their receivers do.", labels=["health"]
    )
    for health, count in webhooks.tally(hooks).items():
        receivers.add_metric([health.value], count)
    yield receivers
    ticked_at = watch.ticked_at.timestamp() if watch else None
    yield _gauge(
        "muster_monitor_last_tick_timestamp_seconds", "When the leader last judged the fleet.", ticked_at
    )


def _look(service: Service, now: datetime) -> tuple[Watch | None, Stats, Sequence[Webhook]]:
    with service.database.reading() as session:
        at = store.moment(session, now, service.settings.rules)
        has_cluster = service.cluster is not None
        sums = service.sums.get(lambda: wire.stats(store.tallies(session, at), at, has_cluster))
        return store.watch(session), sums, webhook_store.every(session)


def _own(service: Service) -> Iterator[Metric]:
    """Yield what this process knows of itself."""
    monitor, events = service.monitor, service.events
    yield _gauge("muster_monitor_leader", "Whether this process judges the fleet.", int(monitor.leads))
    yield _gauge(
        "muster_monitor_age_seconds",
        "Since the monitor's loop of this process last looked, as leader or in vain.",
        monitor.age_seconds,
    )
    yield _gauge("muster_event_streams", "Open streams of events, those of pages too.", events.readers)
    yield CounterMetricFamily(
        "muster_event_streams_dropped", "Streams that were ended because nobody read them.", events.dropped
    )


def _degraded(service: Service) -> Metric:
    service.counters.probe()
    names = service.degraded.names()
    there = {attempts.SHARED: service.redis, watching.FEATURE: service.cluster}
    family = GaugeMetricFamily(
        "muster_feature_degraded", "Whether a feature works less well.", labels=["feature"]
    )
    for name in [name for name, part in there.items() if part is not None]:
        family.add_metric([name], int(name in names))
    return family


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """Return a metric of one sample, of none when there is no value."""
    return GaugeMetricFamily(name, text, value)
