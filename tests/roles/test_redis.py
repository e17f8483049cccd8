"""What the user of the role redis may do, on a server of the tests' own with the role's own rules."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import NoPermissionError

from tests.control_api.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.destroy()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url)
    yield client
    client.close()


def test_who_has_no_password_is_answered_noauth(server: RedisServer) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(server.socket))
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100) == b"-NOAUTH Authentication required.\r\n"


def test_limits_are_counted(client: redis.Redis) -> None:
    storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="muster:limits")
    limiter = MovingWindowRateLimiter(storage)
    once = RateLimitItemPerMinute(1)
    assert [limiter.hit(once, "someone"), limiter.hit(once, "someone")] == [True, False]


def test_foreign_keys_are_out_of_reach(client: redis.Redis) -> None:
    client.set("muster:mine", "1")
    with pytest.raises(NoPermissionError):
        client.set("other", "1")


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG GET dir",
        "FLUSHALL",
        "KEYS *",
        "ACL LIST",
        "SHUTDOWN",
        "REPLICAOF no one",
        "MODULE LIST",
        "MONITOR",
        "PUBLISH channel x",
    ],
)
def test_nothing_that_administers_the_server_is_allowed(client: redis.Redis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        client.execute_command(*command.split())
