"""What the parts of a running control API share: one object, made once, handed around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import redis

from control_api.attempts import Attempts, Counters, LoginAttempts
from control_api.cluster.kubernetes import Cluster
from control_api.dashboard.live import Streams
from control_api.db import Database
from control_api.degraded import Degraded
from control_api.events.hub import Events
from control_api.events.keeping import Keeping
from control_api.events.refusals import Refusals
from control_api.identity.logins import Logins
from control_api.metrics.meters import Meters
from control_api.metrics.scrapers import Scrapers
from control_api.settings import Settings
from control_api.workers.monitor import Monitor
from control_api.workers.peers import PeerBook
from control_api.workers.registry import Doors
from control_api.workers.sums import Sums


@dataclass(frozen=True)
class Service:
    """The wired parts."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    degraded: Degraded
    redis: redis.Redis | None
    doors: Doors
    logins: Logins
    counters: Counters
    login_attempts: LoginAttempts
    refusals: Refusals
    enrolments: Attempts
    monitor: Monitor
    keeping: Keeping
    events: Events
    peers: PeerBook
    cluster: Cluster | None
    streams: Streams
    sums: Sums
    meters: Meters
    scrapers: Scrapers
