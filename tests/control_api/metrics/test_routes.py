"""The metrics as Prometheus reads them: who may, what is counted, what is told while parts are away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_api.events import webhook_store
from control_api.identity.roles import Role
from control_api.metrics.gauges import Process
from tests.control_api.identity.test_keys import make
from tests.control_api.servers import RedisServer
from tests.control_api.world import START, Api, Clock, bearer, make_settings, running_api

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def read(api: Api, headers: dict[str, str] | None = None) -> Samples:
    """Return what a scrape finds: value by name and labels."""
    answer = await api.client.get("/metrics", headers=headers or api.as_role(Role.VIEWER))
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def of(samples: Samples, name: str) -> dict[str, float]:
    """Return the samples of a metric with one label, by the label's value."""
    return {next(iter(labels))[1]: found for (known, labels), found in samples.items() if known == name}


# ---- who may read


@pytest.mark.parametrize("scope", ["metrics", "viewer"])
async def test_a_key_with_the_scope_reads_them_as_text(sqlite_api: Api, scope: str) -> None:
    key = (await make(sqlite_api, scope))["key"]
    answer = await sqlite_api.client.get("/metrics", headers=bearer(key))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_nobody_else_reads_them(sqlite_api: Api) -> None:
    key = (await make(sqlite_api, "inventory"))["key"]
    for headers, status in (({}, 401), (bearer("guess"), 401), (bearer(key), 403)):
        answer = await sqlite_api.client.get("/metrics", headers=headers)
        assert (answer.status_code, answer.json()["success"]) == (status, False)


# ---- what they tell


async def test_workers_are_counted_by_the_status_that_they_have_now(api: Api) -> None:
    workers = [await api.register(hostname=f"w{number}", machineId=str(number) * 32) for number in range(3)]
    for worker in workers[:2]:
        await api.beat(worker)
    counts = {"PENDING": 1, "ACTIVE": 2, "INACTIVE": 0, "MAINTENANCE": 0, "NOT_READY": 0}
    assert of(await read(api), "muster_workers") == counts
    api.clock.advance(100)  # and no monitor has looked
    async with asyncio.timeout(60):  # on a machine under load counting is dear, and is shared for a while
        while of(await read(api), "muster_workers") != {**counts, "ACTIVE": 0, "INACTIVE": 2}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_webhooks_are_counted_by_how_their_receivers_do(api: Api) -> None:
    states = [{}, {"failing_since": START}, {"enabled": False}, {"enabled": False, "disabled_reason": "dead"}]
    with api.service.database.transaction() as session:
        for state in states:
            common = {
                "url": "https://a.example.org/",
                "kinds": [],
                "statuses": [],
                "enabled": True,
                "cursor": 0,
            }
            times = {"created_at": START, "updated_at": START}
            webhook_store.add(session, id=uuid4(), secret="x", **{**common, **times, **state})
    expected = {"well": 1, "failing": 1, "off": 1, "disabled": 1}
    assert of(await read(api), "muster_webhooks") == expected


async def test_heartbeats_are_counted_with_their_batches_their_lag_and_the_reasons_of_refusals(
    api: Api,
) -> None:
    workers = [await api.register(hostname=f"w{number}", machineId=str(number) * 32) for number in range(9)]
    await asyncio.gather(*(api.beat(worker, seq=7, bootId="1" * 32) for worker in workers))
    replayed = await api.beat(workers[0], seq=7, bootId="1" * 32)
    assert replayed.status_code == 409
    assert (await api.beat({**workers[0], "credential": "guess"})).status_code == 401
    assert (await api.beat(workers[0], cpuUsage="much")).status_code == 422
    samples = await read(api)
    assert value(samples, "muster_heartbeats_accepted_total") == 9
    refused = of(samples, "muster_heartbeats_refused_total")
    assert {reason: count for reason, count in refused.items() if count} == {
        "HEARTBEAT_OUT_OF_ORDER": 1,
        "INVALID_CREDENTIAL": 1,
        "INVALID_REQUEST": 1,
    }
    assert refused["OVERLOADED"] == 0
    batches = value(samples, "muster_heartbeat_batch_size_count")
    assert (
        value(samples, "muster_heartbeat_batch_size_sum") == 10
    )  # with the one that was refused in its batch
    assert value(samples, "muster_heartbeat_lag_seconds_count") == batches
    assert 0 < (value(samples, "muster_heartbeat_lag_seconds_sum") or 0) < 60


async def test_the_monitor_tells_whether_it_leads_and_when_it_looked(api: Api) -> None:
    samples = await read(api)
    assert value(samples, "muster_monitor_leader") == 0
    assert value(samples, "muster_monitor_last_tick_timestamp_seconds") is None
    api.service.monitor.tick()
    samples = await read(api)
    assert value(samples, "muster_monitor_leader") == 1
    assert value(samples, "muster_monitor_last_tick_timestamp_seconds") == api.clock().timestamp()


async def test_requests_are_counted_by_the_template_of_their_route(sqlite_api: Api) -> None:
    worker = await sqlite_api.register()
    for path in (worker["workerId"], "7034f966-b7f4-4394-b22d-0c8180282204"):
        await sqlite_api.client.get(f"/api/workers/{path}", headers=sqlite_api.admin())
    await sqlite_api.client.get("/no/such/path")
    await sqlite_api.client.request("BREW", "/api/workers")
    samples = await read(sqlite_api)
    name, route = "muster_http_requests_total", "/api/workers/{worker_id}"
    assert value(samples, name, method="GET", route=route, status="200") == 1
    assert value(samples, name, method="GET", route=route, status="404") == 1
    assert value(samples, name, method="GET", route="none", status="404") == 1
    assert value(samples, name, method="other", route="/api/workers", status="405") == 1
    assert value(samples, name, method="POST", route="/api/workers/register", status="201") == 1
    assert value(samples, "muster_http_request_duration_seconds_count", method="GET", route=route) == 2


async def test_a_fault_of_ours_is_counted_as_500(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("control_api.identity.store.everyone", broken)
    await sqlite_api.client.get("/api/users", headers=sqlite_api.admin())
    samples = await read(sqlite_api)
    assert value(samples, "muster_http_requests_total", method="GET", route="/api/users", status="500") == 1


async def test_nothing_that_clients_choose_makes_a_series(sqlite_api: Api) -> None:
    """Otherwise anybody could fill the memory of Prometheus, and ours."""
    headers = sqlite_api.as_role(Role.VIEWER)
    await read(sqlite_api, headers)
    before = set(await read(sqlite_api, headers))
    for number in range(20):
        await sqlite_api.client.request(f"M{number}", f"/x{number}", headers=bearer(f"t{number}"))
        await sqlite_api.client.get(f"/api/workers?search=s{number}", headers=headers)
        await sqlite_api.client.get(f"/api/workers/{number}", headers=headers)
        await sqlite_api.beat(
            {"credential": f"c{number}", "heartbeat": {"url": f"/api/workers/{number}/heartbeat"}}
        )
        await sqlite_api.client.post("/api/auth/login", json={"username": f"u{number}", "password": "x"})
    assert len(set(await read(sqlite_api, headers)) - before) < 100
    said = (await sqlite_api.client.get("/metrics", headers=headers)).text
    assert "M7" not in said
    assert "u7" not in said


async def test_refused_logins_are_counted_by_reason(sqlite_api: Api) -> None:
    for _ in range(12):
        await sqlite_api.client.post("/api/auth/login", json={"username": "ann", "password": "guess"})
    refused = of(await read(sqlite_api), "muster_logins_refused_total")
    assert refused == {"INVALID_LOGIN": 10, "TOO_MANY_ATTEMPTS": 2}


async def test_a_redis_that_is_gone_is_a_degraded_feature(
    sqlite_url: str, clock: Clock, redis_server: RedisServer
) -> None:
    async with running_api(make_settings(sqlite_url, REDIS_URL=redis_server.url), clock) as api:
        assert of(await read(api), "muster_feature_degraded") == {"rateLimits": 0}
        await asyncio.to_thread(redis_server.stop)
        assert of(await read(api), "muster_feature_degraded") == {"rateLimits": 1}


async def test_what_is_not_configured_is_no_feature(sqlite_api: Api) -> None:
    samples = await read(sqlite_api)
    assert of(samples, "muster_feature_degraded") == {}
    assert value(samples, "muster_database_up") == 1
    assert value(samples, "process_resident_memory_bytes")
    assert [labels for (name, labels) in samples if name == "muster_build_info"] != []


async def test_open_streams_are_counted(sqlite_api: Api) -> None:
    events = sqlite_api.service.events
    with events.place(), events.place(), events.place(own=True):  # the last one is no client
        assert value(await read(sqlite_api), "muster_event_streams") == 2
    sqlite_api.service.events.dropped = 3
    samples = await read(sqlite_api)
    assert value(samples, "muster_event_streams") == 0
    assert value(samples, "muster_event_streams_dropped_total") == 3


def test_the_process_is_measured_where_proc_shows_nothing_but_processes(tmp_path: Path) -> None:
    """As under systemd's ProcSubset=pid: no /proc/stat, which tells when the machine booted."""
    (tmp_path / "self").symlink_to("/proc/self")
    names = {metric.name for metric in Process(registry=None, proc=str(tmp_path)).collect()}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_start_time_seconds"} <= names
