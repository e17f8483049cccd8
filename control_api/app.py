"""create_app: the only place that wires the parts together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from control_api import examples, http, middleware, redis_link
from control_api.attempts import Attempts, Counters, LoginAttempts
from control_api.cluster import watching
from control_api.cluster.kubernetes import Cluster, Kubernetes
from control_api.cluster.watching import NodeWatch
from control_api.dashboard import live_routes, login_routes
from control_api.dashboard import routes as dashboard
from control_api.dashboard.live import Streams
from control_api.db import Database, utc_now
from control_api.degraded import Degraded
from control_api.docs_routes import router as docs_router
from control_api.enrolment.admission import Bootstrap
from control_api.enrolment.routes import router as enrolment_router
from control_api.events.audit_routes import router as audit_router
from control_api.events.delivering import Delivering
from control_api.events.delivery_routes import router as delivery_router
from control_api.events.hub import Events
from control_api.events.keeping import Ages, Keeping
from control_api.events.refusals import Refusals
from control_api.events.routes import router as events_router
from control_api.events.webhook_routes import router as webhook_router
from control_api.identity import accounts
from control_api.identity.key_routes import router as key_router
from control_api.identity.logins import Logins
from control_api.identity.routes import router as identity_router
from control_api.identity.tokens import Tokens
from control_api.identity.user_routes import router as user_router
from control_api.metrics.meters import Meters
from control_api.metrics.routes import router as metrics_router
from control_api.metrics.scrapers import Scrapers
from control_api.probe_routes import router as probe_router
from control_api.service import Service
from control_api.settings import Settings
from control_api.workers import peer_store, peers, store
from control_api.workers.beat_store import beat_store
from control_api.workers.credentials import Credentials
from control_api.workers.entry_routes import router as entry_router
from control_api.workers.heartbeats import Heartbeats
from control_api.workers.monitor import Caution, Monitor, tell
from control_api.workers.operator_routes import router as operator_router
from control_api.workers.peer_routes import router as peer_router
from control_api.workers.peers import PeerBook, Peers
from control_api.workers.refused_beats import RefusedBeats
from control_api.workers.registry import Doors
from control_api.workers.routes import router as workers_router
from control_api.workers.sums import Sums

LOGINS = 30  # a minute and address
FAILED_LOGINS = 10  # a minute and address
FAILED_LOGINS_OF_A_NAME = 100  # an hour and username, from addresses that the user never came from
FAILED_ENROLMENTS = 30  # more: a whole site may sit behind one address


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    cluster: Cluster | None = None,
    alive: Callable[[], None] = lambda: None,
    prepared: bool = False,
) -> Heartbeats:
    """Return the service as an ASGI application; it begins to work with its lifespan.

    clock, cluster: for tests; else the machine's clock and the cluster of the settings.
    alive: called after every look of the monitor.
    prepared: whether to make here what FastAPI else makes when a first request looks for its route, or for a method:
    half a second, more under load, in which nobody is answered.
    """
    service = wire_up(settings, clock=clock, cluster=cluster, alive=alive)

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_begin, service)
        nodes = _node_watch(service)
        beats.start()
        service.events.start()
        deliveries = _deliveries(service)
        yield
        await deliveries.close()
        await service.events.close()
        await beats.close()
        await asyncio.to_thread(_end, service, nodes)

    api = FastAPI(
        title="Muster",
        summary="The roll-call of the workers",
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; see docs_routes
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    api.state.service = service
    described = api.openapi
    api.openapi = lambda: examples.complete(described())  # type: ignore[method-assign]
    api.add_middleware(middleware.Faults, answer=http.unexpected)
    api.add_middleware(middleware.BodyLimit)
    api.add_middleware(middleware.SecurityHeaders)
    api.add_middleware(middleware.Counted, count=service.meters.request)
    api.add_middleware(middleware.AccessLog)
    api.add_middleware(middleware.RequestId)
    api.add_middleware(ProxyHeadersMiddleware, trusted_hosts=middleware.PROXY)
    http.install(api)
    api.include_router(identity_router)
    api.include_router(user_router)
    api.include_router(key_router)
    api.include_router(audit_router)
    api.include_router(enrolment_router)
    api.include_router(entry_router)
    api.include_router(workers_router)
    api.include_router(operator_router)
    api.include_router(peer_router)
    api.include_router(events_router)
    api.include_router(webhook_router)
    api.include_router(delivery_router)
    api.include_router(login_routes.router)
    api.include_router(dashboard.router)
    api.include_router(live_routes.router)
    api.include_router(dashboard.assets)
    api.include_router(docs_router)
    api.include_router(probe_router)
    api.include_router(metrics_router)
    if prepared:
        api.openapi()
    beats = Heartbeats(
        api,
        store=beat_store(service.database, clock),
        record=_recorder(service),
        failure=http.failure,
        credentials=service.doors.credentials,
        interval_seconds=settings.heartbeat_seconds,
        stopping=service.events.end,
        durable=service.meters.batch,
        refused=service.meters.heartbeat_refused,
        notes=RefusedBeats(service.database, service.refusals, clock),
    )
    return beats


def wire_up(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    cluster: Cluster | None = None,
    alive: Callable[[], None] = lambda: None,
) -> Service:
    """Return the parts, wired and at rest. Raises BadSettings."""
    database = Database(settings.database_url.get_secret_value())
    degraded = Degraded()
    redis = redis_link.connect(settings.redis_url.get_secret_value() if settings.redis_url else None)
    counters = Counters(redis, degraded)
    secrets = [settings.worker_auth_secret, settings.worker_auth_secret_old]
    caution = Caution(
        tick=timedelta(seconds=settings.tick_seconds), interval=timedelta(seconds=settings.heartbeat_seconds)
    )
    events = Events(database)
    database.on_news = events.call
    monitor = Monitor(database, rules=settings.rules, caution=caution, clock=clock, alive=alive)
    return Service(
        events=events,
        settings=settings,
        database=database,
        clock=clock,
        degraded=degraded,
        redis=redis,
        doors=Doors(
            Bootstrap(settings.worker_registration_token.get_secret_value()),
            Credentials([secret.get_secret_value() for secret in secrets if secret]),
        ),
        logins=Logins(
            Tokens("access", settings.jwt_secret.get_secret_value(), settings.jwt_expires_in),
            Tokens(
                "refresh", settings.jwt_refresh_secret.get_secret_value(), settings.jwt_refresh_expires_in
            ),
        ),
        counters=counters,
        login_attempts=LoginAttempts(
            counters, attempts=LOGINS, failures=FAILED_LOGINS, failures_of_a_name=FAILED_LOGINS_OF_A_NAME
        ),
        refusals=Refusals(database, Counters(None, degraded)),
        enrolments=Attempts("enrolment", FAILED_ENROLMENTS, counters),
        monitor=monitor,
        keeping=Keeping(
            database,
            Ages(settings.audit_retention, settings.history),
            leads=lambda: monitor.leads,
            clock=clock,
        ),
        peers=PeerBook(_reader_of_peers(database)),
        cluster=cluster or (Kubernetes(settings.kubeconfig) if settings.kubeconfig else None),
        streams=Streams(),
        sums=Sums(),
        meters=Meters(),
        scrapers=Scrapers(),
    )


def _begin(service: Service) -> None:
    settings = service.settings
    with service.database.transaction() as session:
        accounts.ensure_first_admin(
            session, settings.admin_username, settings.admin_password.get_secret_value(), service.clock()
        )
    service.monitor.start()
    service.keeping.start()


def _end(service: Service, nodes: NodeWatch | None) -> None:
    if nodes is not None:
        nodes.stop()
    service.keeping.stop()
    service.monitor.stop()
    if service.cluster is not None:
        service.cluster.close()
    if service.redis is not None:
        service.redis.close()
    service.database.close()


def _deliveries(service: Service) -> Delivering:
    deliveries = Delivering(
        service.database,
        service.events,
        leads=lambda: service.monitor.leads,
        clock=service.clock,
        local=service.settings.webhook_local,
    )
    deliveries.start()
    return deliveries


def _node_watch(service: Service) -> NodeWatch | None:
    if service.cluster is None:
        return None
    watch = NodeWatch(
        service.cluster,
        service.database,
        rules=service.settings.rules,
        leads=lambda: service.monitor.leads,
        clock=service.clock,
        seconds=service.settings.tick_seconds,
        degraded=lambda is_degraded: service.degraded.set(watching.FEATURE, is_degraded),
    )
    watch.start()
    return watch


def _reader_of_peers(database: Database) -> Callable[[], Peers]:
    def read() -> Peers:
        with database.reading() as session:
            return peers.of_rows(peer_store.rows(session))

    return read


def _recorder(service: Service) -> Callable[[Sequence[UUID]], Awaitable[Sequence[None]]]:
    def write(worker_ids: Sequence[UUID]) -> Sequence[None]:
        with service.database.transaction() as session:
            at = store.moment(session, service.clock(), service.settings.rules)
            changes = store.record_changes(session, at, actor="worker", only=worker_ids)
        tell(changes)
        return [None] * len(worker_ids)

    async def record(worker_ids: Sequence[UUID]) -> Sequence[None]:
        return await asyncio.to_thread(write, worker_ids)

    return record
