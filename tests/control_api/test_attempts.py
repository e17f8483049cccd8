"""Limits: counted here and in Redis, and still counted here when Redis is gone, frozen or back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from threading import Thread

import pytest
import redis

from control_api import redis_link
from control_api.attempts import SHARED, Attempts, Counters, LoginAttempts, source
from control_api.degraded import Degraded
from control_api.errors import BadSettings, TooManyAttempts
from tests.control_api.identity.world import add, log_in
from tests.control_api.processes import crowding
from tests.control_api.servers import RedisServer
from tests.control_api.world import PASSWORD, Clock, make_settings, registration, running_api

HERE = "192.0.2.1"


class Process:
    """What one API process has."""

    def __init__(self, url: str | None) -> None:
        self.clock = Clock()
        self.degraded = Degraded()
        self.client = redis_link.connect(url)
        self.counters = Counters(self.client, self.degraded, clock=self.clock.monotonic)
        self.attempts = Attempts("test", 3, self.counters)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()


@pytest.fixture
def pair(redis_server: RedisServer) -> Iterator[tuple[Process, Process]]:
    processes = Process(redis_server.url), Process(redis_server.url)
    yield processes
    for process in processes:
        process.close()


def fails(attempts: Attempts, times: int, address: str = HERE) -> None:
    for _ in range(times):
        attempts.failed(address)


def is_refused(attempts: Attempts, address: str = HERE) -> bool:
    try:
        attempts.check(address)
    except TooManyAttempts as exc:
        return 0 < exc.retry_after <= 60
    return False


def test_without_redis_a_process_counts_by_itself() -> None:
    alone = Process(None)
    fails(alone.attempts, 2)
    assert not is_refused(alone.attempts)
    fails(alone.attempts, 1)
    assert is_refused(alone.attempts)
    assert not is_refused(alone.attempts, "192.0.2.2")
    assert alone.degraded.names() == []


def test_processes_share_what_they_count_through_redis(pair: tuple[Process, Process]) -> None:
    one, other = pair
    fails(one.attempts, 2)
    fails(other.attempts, 1)
    assert is_refused(one.attempts)
    assert is_refused(other.attempts)
    assert one.degraded.names() == []


def test_when_redis_is_gone_a_process_goes_on_with_its_own_count(
    pair: tuple[Process, Process], redis_server: RedisServer
) -> None:
    one, other = pair
    fails(one.attempts, 3)
    redis_server.stop()
    assert is_refused(one.attempts)
    assert not is_refused(other.attempts)
    assert (one.degraded.names(), other.degraded.names()) == ([SHARED], [SHARED])


def test_when_redis_is_back_it_is_used_after_a_pause(
    pair: tuple[Process, Process], redis_server: RedisServer
) -> None:
    one, other = pair
    redis_server.stop()
    fails(one.attempts, 1)
    redis_server.start()
    fails(one.attempts, 1)
    assert one.degraded.names() == [SHARED]
    one.clock.advance(5)
    one.counters.probe()
    assert one.degraded.names() == []
    fails(one.attempts, 1)
    assert is_refused(one.attempts)  # three of its own
    assert not is_refused(other.attempts)  # Redis has seen one


def test_a_frozen_redis_delays_one_request_and_no_other(
    pair: tuple[Process, Process], redis_server: RedisServer
) -> None:
    one, _ = pair
    fails(one.attempts, 1)
    redis_server.freeze()
    begun = time.perf_counter()
    fails(one.attempts, 50)
    assert time.perf_counter() - begun < 3 * crowding()
    assert is_refused(one.attempts)


def test_redis_may_die_in_the_middle_of_a_storm(
    pair: tuple[Process, Process], redis_server: RedisServer
) -> None:
    one, _ = pair
    thread = Thread(target=redis_server.stop)
    for number in range(300):
        if number == 100:
            thread.start()
        one.attempts.failed(f"198.51.100.{number % 200}")
    thread.join()
    one.counters.probe()
    one.clock.advance(5)
    one.counters.probe()
    assert one.degraded.names() == [SHARED]


def test_a_url_of_redis_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(BadSettings, match="REDIS_URL") as refused:
        redis_link.connect("http://user:hunter2@host")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_customer_counts_as_one(address: str | None, key: str) -> None:
    assert source(address) == key


# ---- logins


def login_attempts() -> LoginAttempts:
    return LoginAttempts(Process(None).counters, attempts=8, failures=3, failures_of_a_name=5)


def may(limits: LoginAttempts, address: str, name: str, *, known: bool = False) -> bool:
    try:
        limits.begin(address, name, comes_from_there=lambda: known)
    except TooManyAttempts:
        return False
    return True


def test_a_botnet_cannot_guess_for_long_and_does_not_lock_the_user_out() -> None:
    limits = login_attempts()
    for number in range(5):
        assert may(limits, f"198.51.100.{number}", "ann")
        limits.failed(f"198.51.100.{number}", "ann")
    assert not may(limits, "198.51.100.99", "ann")
    assert may(limits, "198.51.100.99", "bob")
    assert may(limits, HERE, "ann", known=True)


def test_attempts_at_once_cannot_outrun_the_count() -> None:
    """Whoever sends all guesses before the first one has failed is stopped by the count of attempts."""
    limits = login_attempts()
    assert [may(limits, HERE, f"name-{number}") for number in range(10)] == [True] * 8 + [False] * 2


async def test_a_user_logs_in_from_the_usual_address_while_a_botnet_guesses(
    database_url: str, clock: Clock
) -> None:
    async with running_api(make_settings(database_url), clock, peer=HERE) as api:
        add(api, "ann")
        await log_in(api, "ann")
        for number in range(100):
            api.service.login_attempts.failed(f"198.51.100.{number}", "ann")
        await log_in(api, "ann")
    async with running_api(make_settings(database_url), clock, peer="203.0.113.9") as elsewhere:
        for number in range(100):
            elsewhere.service.login_attempts.failed(f"198.51.100.{number}", "ann")
        body = {"username": "ann", "password": PASSWORD}
        answer = await elsewhere.client.post("/api/auth/login", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "TOO_MANY_ATTEMPTS")
        assert int(answer.headers["retry-after"]) > 60


async def test_api_processes_share_the_limits_and_name_them_when_redis_is_gone(
    sqlite_url: str, clock: Clock, redis_server: RedisServer
) -> None:
    settings = make_settings(sqlite_url, REDIS_URL=redis_server.url)
    guess = {"username": "nobody", "password": "x"}
    async with running_api(settings, clock) as one, running_api(settings, clock) as other:
        answers = [await api.client.post("/api/auth/login", json=guess) for api in [one, other] * 6]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [401] * 10 + [429] * 2
        assert (await one.client.get("/readyz")).json()["degraded"] == []
        await asyncio.to_thread(redis_server.stop)
        assert (await other.client.get("/readyz")).json()["degraded"] == [SHARED]
        assert (await other.client.post("/api/auth/login", json=guess)).status_code == 401  # its own count: 6
        assert (await one.client.get("/api/workers", headers=one.admin())).status_code == 200


async def test_registrations_are_limited_through_redis_too(
    sqlite_url: str, clock: Clock, redis_server: RedisServer
) -> None:
    settings = make_settings(sqlite_url, REDIS_URL=redis_server.url)
    async with running_api(settings, clock) as one, running_api(settings, clock) as other:
        bad = registration(registrationToken="guess")
        for api in [one, other] * 15:
            assert (await api.client.post("/api/workers/register", json=bad)).status_code == 401
        blocked = await one.client.post("/api/workers/register", json=bad)
        assert blocked.status_code == 429
        assert 0 < int(blocked.headers["retry-after"]) <= 60


async def test_redis_holds_no_name_and_no_password(
    sqlite_url: str, clock: Clock, redis_server: RedisServer
) -> None:
    async with running_api(make_settings(sqlite_url, REDIS_URL=redis_server.url), clock) as api:
        await api.client.post("/api/auth/login", json={"username": "ann", "password": "hunter2-hunter2"})
        client = redis.Redis.from_url(redis_server.url)
        keys = " ".join(key.decode() for key in client.scan_iter())
        client.close()
        assert keys.count("muster:limits") >= 2
        assert "ann" not in keys
