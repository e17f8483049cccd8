"""What happens, counted in this process since its start."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from control_api import errors

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Shown as zero before the first one, so that a rate sees it too.
HEARTBEATS_REFUSED_FOR: tuple[type[errors.MusterError], ...] = (
    errors.BodyTooLarge,
    errors.DatabaseUnavailable,
    errors.HeartbeatOutOfOrder,
    errors.InternalError,
    errors.InvalidCredential,
    errors.InvalidRequest,
    errors.Overloaded,
    errors.WorkerNotFound,
    errors.WorkerRemoved,
)
LOGINS_REFUSED_FOR: tuple[type[errors.MusterError], ...] = (errors.InvalidLogin, errors.TooManyAttempts)
# They double the series, and say nothing that the start of the process does not.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Meters:
    """Counters that every thread may move. No label holds what a client chose, so that their number is bounded."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = registry = CollectorRegistry()
        self._accepted = Counter(
            "muster_heartbeats_accepted", "Heartbeats that are stored.", registry=registry
        )
        self._refused = Counter(
            "muster_heartbeats_refused", "Heartbeats that are not stored.", ["reason"], registry=registry
        )
        self._lag = Histogram(
            "muster_heartbeat_lag_seconds",
            "From the arrival of the first heartbeat of a batch until the batch is durable.",
            buckets=SECONDS,
            registry=registry,
        )
        self._sizes = Histogram(
            "muster_heartbeat_batch_size",
            "Heartbeats written in one transaction.",
            buckets=SIZES,
            registry=registry,
        )
        self._logins = Counter("muster_logins_refused", "Logins refused.", ["reason"], registry=registry)
        self._requests = Counter(
            "muster_http_requests",
            "Requests answered, without heartbeats.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "muster_http_request_duration_seconds",
            "From the arrival of a request until its answer begins, without heartbeats.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        for counter, kinds in ((self._refused, HEARTBEATS_REFUSED_FOR), (self._logins, LOGINS_REFUSED_FOR)):
            for kind in kinds:
                counter.labels(errors.code(kind))

    def batch(self, outcomes: Sequence[object], seconds: float) -> None:
        """Count a batch of heartbeats that is durable; an outcome that is a class is a refusal."""
        refused = sum(isinstance(outcome, type) for outcome in outcomes)
        self._accepted.inc(len(outcomes) - refused)
        self._sizes.observe(len(outcomes))
        self._lag.observe(seconds)

    def heartbeat_refused(self, reason: errors.MusterError) -> None:
        """Count a heartbeat that is answered with this error."""
        self._refused.labels(errors.code(type(reason))).inc()

    def login_refused(self, reason: errors.MusterError) -> None:
        """Count a login that is answered with this error."""
        self._logins.labels(errors.code(type(reason))).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. route: the template of its path."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)
