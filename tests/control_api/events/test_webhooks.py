"""Webhooks on a real receiver: signed, at least once, in order, and one that fails delays no other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control_api.db import Database, utc_now
from control_api.events import delivering, event_store, outbox, sending
from control_api.events.delivering import Delivering
from control_api.identity.roles import Role
from tests.control_api.events.receiver import Receiver
from tests.control_api.events.test_tail import write
from tests.control_api.world import Api, Clock, make_settings, running_api

PATIENCE = 15
DAY = 24 * 3600
Told = list[tuple[int, str, int, str | None]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def other() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "LOOK", 0.02)


@pytest.fixture
async def told(database_url: str, clock: Clock) -> AsyncIterator[Api]:
    """The API as its leader, with receivers on this machine allowed."""
    async with telling(database_url, clock) as api:
        yield api


@asynccontextmanager
async def telling(url: str, clock: Clock, *, leads: bool = True) -> AsyncIterator[Api]:
    async with running_api(make_settings(url, MUSTER_WEBHOOK_LOCAL="true"), clock) as api:
        sender = Delivering(
            api.service.database, api.service.events, leads=lambda: leads, clock=clock, local=True
        )
        sender.start()
        await until(lambda: api.service.events.settled is not None)
        yield api
        await sender.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.01)


async def send(
    api: Api, method: str, path: str, body: Any = None, role: Role = Role.ADMIN
) -> httpx2.Response:
    given = {} if body is None else {"json": body}
    return await api.client.request(method, f"/api/webhooks{path}", headers=api.as_role(role), **given)


async def ask(api: Api, method: str, path: str, body: Any = None, role: Role = Role.ADMIN) -> dict[str, Any]:
    answer = await send(api, method, path, body, role)
    assert answer.is_success, answer.text
    return dict(answer.json()["data"])


async def hook(api: Api, receiver: Receiver, **body: Any) -> dict[str, Any]:
    return await ask(api, "POST", "", {"url": receiver.url, **body})


async def seen(api: Api, made: dict[str, Any]) -> dict[str, Any]:
    return await ask(api, "GET", f"/{made['id']}")


async def deliveries(api: Api, made: dict[str, Any]) -> Told:
    rows = (await ask(api, "GET", f"/{made['id']}/deliveries"))["deliveries"]
    return [(row["eventId"], row["state"], row["attempts"], row["answer"]) for row in rows]


async def settle(api: Api, made: dict[str, Any], wanted: Told) -> None:
    """Wait until the deliveries are those."""
    found: Told = []
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := await deliveries(api, made)) != wanted:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.02)
    except TimeoutError:
        assert found == wanted


def fill(api: Api, count: int) -> None:
    for number in range(count):
        write(api.service.database, str(number))


def is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Check as docs/webhooks.md tells receivers to."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(mac, given) for given in headers["webhook-signature"].split(" "))


# ---- delivering


async def test_a_receiver_is_told_with_a_signature_that_anyone_can_check(
    told: Api, receiver: Receiver
) -> None:
    made = await hook(told, receiver)
    worker = await told.register()
    await until(lambda: receiver.got)
    headers, body = receiver.got[0]
    assert is_signed(made["secret"], headers, body)
    assert not is_signed(made["secret"], headers, body.replace(b"PENDING", b"ACTIVE"))
    assert not is_signed(made["secret"], {**headers, "webhook-timestamp": "1"}, body)
    assert headers["webhook-timestamp"] == str(int(told.clock().timestamp()))
    assert (headers["webhook-id"], headers["content-type"]) == ("event_1", "application/json")
    said = json.loads(body)
    assert (said["type"], said["timestamp"]) == ("worker.registered", told.clock().isoformat())
    assert (said["data"]["workerId"], said["data"]["to"]) == (worker["workerId"], "PENDING")
    await settle(told, made, [(1, "delivered", 1, "HTTP 204")])


async def test_the_snippet_of_the_manual_tells_true_from_false(sqlite_url: str, receiver: Receiver) -> None:
    page = (Path(__file__).parents[3] / "docs/webhooks.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    manual: dict[str, Any] = {}
    exec(snippet, manual)
    verify = manual["verify"]
    clock = Clock()
    clock.now = utc_now()
    async with telling(sqlite_url, clock) as api:
        made = await hook(api, receiver)
        write(api.service.database, "one")
        await until(lambda: receiver.got)
    headers, body = receiver.got[0]
    assert verify(made["secret"], headers, body)
    assert not verify(made["secret"], headers, body + b" ")
    assert not verify("whsec_" + base64.b64encode(b"another").decode(), headers, body)
    assert not verify(made["secret"], headers, body, tolerance=-1)


async def test_a_receiver_that_is_away_and_comes_back_gets_everything_in_order(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    made = await hook(told, receiver)
    receiver.status = 503
    fill(told, 3)
    waiting = [(3, "pending", 0, None), (2, "pending", 0, None)]
    await settle(told, made, [*waiting, (1, "pending", 1, "HTTP 503")])
    await asyncio.sleep(0.2)
    assert receiver.events() == [1]  # it is not tried again before its time
    assert (await seen(told, made))["failingSince"] is not None
    clock.advance(2)
    await settle(told, made, [*waiting, (1, "pending", 2, "HTTP 503")])
    receiver.status = 200
    clock.advance(4)
    await settle(told, made, [(n, "delivered", 3 if n == 1 else 1, "HTTP 200") for n in (3, 2, 1)])
    assert receiver.events() == [1, 1, 1, 2, 3]
    assert {headers["webhook-id"] for headers, _ in receiver.got[:3]} == {"event_1"}
    assert (await seen(told, made))["failingSince"] is None


async def test_many_events_go_over_one_connection(told: Api, receiver: Receiver) -> None:
    receiver.status = 200
    made = await hook(told, receiver, enabled=False)
    fill(told, 20)
    await ask(told, "PATCH", f"/{made['id']}", {"enabled": True})
    await until(lambda: receiver.events() == list(range(1, 21)))
    assert receiver.connections == 1


async def test_an_event_that_the_receiver_refuses_holds_up_no_other(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    made = await hook(told, receiver)
    receiver.refused = {2}
    fill(told, 4)
    fine = [(4, "delivered", 1, "HTTP 204"), (3, "delivered", 1, "HTTP 204")]
    await settle(told, made, [*fine, (2, "pending", 1, "HTTP 400"), (1, "delivered", 1, "HTTP 204")])
    receiver.refused = set()
    clock.advance(2)
    await settle(told, made, [*fine, (2, "delivered", 2, "HTTP 204"), (1, "delivered", 1, "HTTP 204")])


async def test_a_receiver_that_hangs_delays_no_other(
    told: Api, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 60.0)
    slow, fast = await hook(told, receiver), await hook(told, other)
    receiver.open.clear()
    fill(told, 5)
    await settle(told, fast, [(n, "delivered", 1, "HTTP 204") for n in (5, 4, 3, 2, 1)])
    assert (await deliveries(told, slow))[-1] == (1, "pending", 0, None)
    assert other.events() == [1, 2, 3, 4, 5]
    receiver.open.set()
    await settle(told, slow, [(n, "delivered", 1, "HTTP 204") for n in (5, 4, 3, 2, 1)])


async def test_a_receiver_that_does_not_answer_in_time_is_away(
    told: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 0.3)
    receiver.open.clear()
    made = await hook(told, receiver)
    fill(told, 2)
    await settle(told, made, [(2, "pending", 0, None), (1, "pending", 1, "no answer within 0.3 s")])


async def test_a_dead_receiver_costs_a_bounded_number_of_rows(
    told: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WINDOW", 3)
    made = await hook(told, receiver)
    receiver.status = 500
    fill(told, 8)
    await settle(told, made, [(n, "pending", 1, "HTTP 500") for n in (3, 2, 1)])
    assert (await seen(told, made))["cursor"] == 3
    receiver.status = 204
    told.clock.advance(2)
    await until(lambda: sorted(set(receiver.events())) == list(range(1, 9)))


async def test_a_restart_in_between_loses_nothing(
    database_url: str, clock: Clock, receiver: Receiver
) -> None:
    receiver.status = 503
    async with telling(database_url, clock) as api:
        made = await hook(api, receiver)
        write(api.service.database, "one")
        await settle(api, made, [(1, "pending", 1, "HTTP 503")])
        write(api.service.database, "two")
    database = Database(database_url)
    write(database, "three, while nobody served")
    database.close()
    receiver.status = 204
    clock.advance(2)
    async with telling(database_url, clock) as api:
        await settle(api, made, [(n, "delivered", 2 if n == 1 else 1, "HTTP 204") for n in (3, 2, 1)])
    assert receiver.events() == [1, 1, 2, 3]


async def test_a_stop_lets_an_attempt_end_and_the_next_leader_does_not_repeat_it(
    database_url: str, clock: Clock, receiver: Receiver
) -> None:
    receiver.open.clear()
    async with telling(database_url, clock) as api:
        made = await hook(api, receiver)
        write(api.service.database, "one")
        await until(lambda: receiver.got)
        threading.Timer(0.3, receiver.open.set).start()
    async with telling(database_url, clock) as api:
        await settle(api, made, [(1, "delivered", 1, "HTTP 204")])
    assert receiver.events() == [1]


async def test_a_stop_waits_for_a_receiver_that_hangs_a_bounded_time_only(
    database_url: str, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "LAST_WORDS", 0.2)
    receiver.open.clear()
    async with telling(database_url, clock) as api:
        made = await hook(api, receiver)
        write(api.service.database, "one")
        await until(lambda: receiver.got)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 3
    receiver.open.set()
    async with telling(database_url, clock) as api:
        await settle(api, made, [(1, "delivered", 1, "HTTP 204")])
    assert receiver.events() == [1, 1]


async def test_only_the_leader_delivers(database_url: str, clock: Clock, receiver: Receiver) -> None:
    async with telling(database_url, clock, leads=False) as api:
        made = await hook(api, receiver)
        write(api.service.database, "one")
        await asyncio.sleep(0.3)
        assert (await deliveries(api, made), receiver.got) == ([], [])


async def test_a_delivery_is_given_up_after_a_day_and_the_next_has_its_chance(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    made = await hook(told, receiver)
    receiver.status = 404
    write(told.service.database, "one")
    await settle(told, made, [(1, "pending", 1, "HTTP 404")])
    clock.advance(DAY)
    await settle(told, made, [(1, "failed", 2, "HTTP 404")])
    receiver.status = 204
    write(told.service.database, "two")
    await settle(told, made, [(2, "delivered", 1, "HTTP 204"), (1, "failed", 2, "HTTP 404")])


async def test_a_receiver_that_takes_nothing_for_three_days_is_disabled_with_the_reason(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    made = await hook(told, receiver)
    receiver.status = 503
    fill(told, 2)
    await settle(told, made, [(2, "pending", 0, None), (1, "pending", 1, "HTTP 503")])
    began = clock()
    clock.advance(3 * DAY)
    await settle(told, made, [(2, "pending", 0, None), (1, "failed", 2, "HTTP 503")])
    now = await seen(told, made)
    since = f"{began:%Y-%m-%dT%H:%M:%SZ}"
    reason = f"It has taken nothing since {since}; the last attempt ended with: HTTP 503"
    assert (now["enabled"], now["disabledReason"]) == (False, reason)
    entry = (await told.get("/api/audit?action=webhook.disable"))["entries"][0]
    assert (entry["actor"], entry["subject"]) == ("webhooks", f"webhook:{made['id']}")

    receiver.status = 204
    fill(told, 1)
    clock.advance(DAY)
    await asyncio.sleep(0.2)
    assert receiver.events() == [1, 1]
    moved = await ask(told, "PATCH", f"/{made['id']}", {"kinds": ["monitor.note"]})
    assert (moved["enabled"], moved["disabledReason"]) == (False, reason)
    again = await ask(told, "PATCH", f"/{made['id']}", {"enabled": True})
    assert (again["enabled"], again["disabledReason"], again["failingSince"]) == (True, None, None)
    fine = [(3, "delivered", 1, "HTTP 204"), (2, "delivered", 1, "HTTP 204")]
    await settle(told, made, [*fine, (1, "failed", 2, "HTTP 503")])


async def test_a_receiver_that_says_it_is_gone_is_believed(told: Api, receiver: Receiver) -> None:
    made = await hook(told, receiver)
    receiver.status = 410
    write(told.service.database, "one")
    await settle(told, made, [(1, "pending", 1, "HTTP 410")])
    now = await seen(told, made)
    assert (now["enabled"], now["disabledReason"]) == (
        False,
        "The receiver answered 410 Gone: it wants no more.",
    )


async def test_redirects_are_not_followed(told: Api, receiver: Receiver) -> None:
    made = await hook(told, receiver)
    receiver.status = 307
    write(told.service.database, "one")
    await settle(told, made, [(1, "pending", 1, "HTTP 307")])
    assert len(receiver.got) == 1


async def test_only_what_was_asked_for_is_sent(told: Api, receiver: Receiver, other: Receiver) -> None:
    await hook(told, receiver, kinds=["worker.transition"], statuses=["ACTIVE"])
    await hook(told, other, kinds=["monitor.note", "worker.removed"])
    worker = await told.register()
    await told.beat(worker)
    write(told.service.database, "a note")
    await told.client.delete(f"/api/workers/{worker['workerId']}", headers=told.admin())
    await until(lambda: other.events() == [3, 4])
    await until(lambda: receiver.events() == [2])


async def test_an_operator_has_one_delivery_sent_again(told: Api, receiver: Receiver) -> None:
    made = await hook(told, receiver)
    fill(told, 3)
    await settle(told, made, [(n, "delivered", 1, "HTTP 204") for n in (3, 2, 1)])
    rows = (await ask(told, "GET", f"/{made['id']}/deliveries", role=Role.OPERATOR))["deliveries"]
    path = f"/{made['id']}/deliveries/{rows[1]['id']}/replay"
    assert (await ask(told, "POST", path, role=Role.OPERATOR))["state"] == "pending"
    await until(lambda: receiver.events() == [1, 2, 3, 2])
    assert receiver.got[1][0]["webhook-id"] == receiver.got[3][0]["webhook-id"]
    await settle(told, made, [(n, "delivered", 1, "HTTP 204") for n in (3, 2, 1)])


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [({"after": 1, "upto": 3}, [2, 3]), ({"after": 2}, [3, 4]), ({"after": 2**63 - 1}, [])],
)
async def test_an_operator_has_a_range_of_events_sent_again(
    told: Api, receiver: Receiver, wanted: dict[str, int], sent: list[int]
) -> None:
    made = await hook(told, receiver)
    fill(told, 4)
    await until(lambda: receiver.events() == [1, 2, 3, 4])
    await ask(told, "POST", f"/{made['id']}/replay", wanted, role=Role.OPERATOR)
    write(told.service.database, "and what is new is sent too")
    await until(lambda: sorted(receiver.events()[4:]) == sorted([*sent, 5]))
    assert [event for event in receiver.events()[4:] if event != 5] == sent
    assert (await seen(told, made))["replay"] is None


async def test_what_is_no_longer_kept_is_given_up_and_the_rest_goes_on(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    made = await hook(told, receiver)
    receiver.status = 503
    fill(told, 1)
    await settle(told, made, [(1, "pending", 1, "HTTP 503")])
    write(told.service.database, "two")
    with told.service.database.transaction() as session:
        event_store.forget(session, 0, clock() + timedelta(days=30))
    receiver.status = 204
    clock.advance(60)
    await settle(
        told,
        made,
        [(2, "delivered", 1, "HTTP 204"), (1, "failed", 2, "not sent: the event is no longer kept")],
    )


async def test_a_webhook_that_is_switched_off_catches_up_later(told: Api, receiver: Receiver) -> None:
    made = await hook(told, receiver, enabled=False)
    fill(told, 1)
    await asyncio.sleep(0.2)
    assert receiver.got == []
    await ask(told, "PATCH", f"/{made['id']}", {"enabled": True})
    await until(lambda: receiver.events() == [1])


async def test_a_change_lets_what_waits_be_tried_at_once(
    told: Api, receiver: Receiver, other: Receiver
) -> None:
    made = await hook(told, receiver)
    receiver.status = 503
    fill(told, 2)
    await settle(told, made, [(2, "pending", 0, None), (1, "pending", 1, "HTTP 503")])
    await ask(told, "PATCH", f"/{made['id']}", {"url": other.url})
    await until(lambda: other.events() == [1, 2])


async def test_after_a_rotation_both_secrets_sign_for_a_day(
    told: Api, receiver: Receiver, clock: Clock
) -> None:
    old = await hook(told, receiver)
    new = await ask(told, "POST", f"/{old['id']}/rotate")
    assert new["secret"] != old["secret"]
    fill(told, 1)
    await until(lambda: len(receiver.got) == 1)
    clock.advance(DAY + 1)
    fill(told, 1)
    await until(lambda: len(receiver.got) == 2)
    assert [[is_signed(one["secret"], *got) for one in (old, new)] for got in receiver.got] == [
        [True, True],
        [False, True],
    ]


async def test_two_leaders_at_once_begin_no_delivery_twice(
    database_url: str, clock: Clock, receiver: Receiver
) -> None:
    """For a moment there may be two; then an event may be sent twice, and is noted once."""
    async with telling(database_url, clock) as api, telling(database_url, clock):
        made = await hook(api, receiver)
        fill(api, 20)
        await until(lambda: set(receiver.events()) == set(range(1, 21)))
        await settle(api, made, [(n, "delivered", 1, "HTTP 204") for n in range(20, 0, -1)])


# ---- keeping them


async def test_a_secret_is_shown_once(sqlite_api: Api) -> None:
    made = await ask(sqlite_api, "POST", "", {"url": "https://hooks.example.org/"})
    assert made["secret"].startswith("whsec_")
    for path in ("", f"/{made['id']}"):
        shown = await send(sqlite_api, "GET", path)
        assert made["url"] in shown.text
        assert made["secret"] not in shown.text
    audit = await sqlite_api.client.get("/api/audit", headers=sqlite_api.admin())
    assert "webhook.create" in audit.text
    assert made["secret"] not in audit.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://hooks.example.org/"}, "url"),
        ({"url": "https://hooks.example.org/\u0000"}, "url"),
        ({"url": "https://ann:secret@hooks.example.org/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://hooks.example.org/", "kinds": ["x"]}, "kinds.0"),
        ({"url": "https://hooks.example.org/", "statuses": ["x"]}, "statuses.0"),
        ({"url": "https://hooks.example.org/", "enabled": "yes"}, "enabled"),
        ({"url": "https://hooks.example.org/", "more": 1}, "more"),
    ],
)
async def test_nonsense_is_refused_by_the_field(sqlite_api: Api, body: dict[str, Any], field: str) -> None:
    answer = await send(sqlite_api, "POST", "", body)
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (422, field)
    assert (await ask(sqlite_api, "GET", ""))["webhooks"] == []


async def test_webhooks_are_changed_and_removed_with_a_trail(api: Api) -> None:
    made = await ask(api, "POST", "", {"url": "https://a.example.org/"})
    path = f"/{made['id']}"
    assert (await ask(api, "PATCH", path, {"url": "https://b.example.org/"}))[
        "url"
    ] == "https://b.example.org/"
    await ask(api, "POST", f"{path}/rotate")
    await ask(api, "POST", f"{path}/replay", {"after": 0})
    await ask(api, "DELETE", path)
    entries = (await api.get(f"/api/audit?subject=webhook:{made['id']}"))["entries"]
    verbs = ["remove", "replay", "rotate", "update", "create"]
    assert [entry["action"] for entry in entries] == [f"webhook.{verb}" for verb in verbs]
    assert {entry["actor"] for entry in entries} == {"user:some-admin"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("POST", "/rotate", None),
        ("GET", "/deliveries", None),
        ("POST", "/deliveries/1/replay", None),
        ("POST", "/replay", {"after": 0}),
    ],
)
async def test_a_webhook_that_is_not_there_is_404(sqlite_api: Api, method: str, path: str, body: Any) -> None:
    answer = await send(sqlite_api, method, f"/00000000-0000-4000-8000-000000000000{path}", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "WEBHOOK_NOT_FOUND")


async def test_operators_see_and_replay_and_only_administrators_change(sqlite_api: Api) -> None:
    path = f"/{(await ask(sqlite_api, 'POST', '', {'url': 'https://a.example.org/'}))['id']}"
    changes = [("POST", "", {"url": "https://b.example.org/"}), ("PATCH", path, {}), ("DELETE", path, None)]
    for method, where, body in [*changes, ("POST", f"{path}/rotate", None)]:
        assert (await send(sqlite_api, method, where, body, Role.OPERATOR)).status_code == 403
    for method, where, body in [("GET", "", None), ("GET", path, None), ("GET", f"{path}/deliveries", None)]:
        assert (await send(sqlite_api, method, where, body, Role.OPERATOR)).status_code == 200
        assert (await send(sqlite_api, method, where, body, Role.VIEWER)).status_code == 403
    assert (await send(sqlite_api, "POST", f"{path}/replay", {"after": 0}, Role.VIEWER)).status_code == 403
    missing = await send(sqlite_api, "POST", f"{path}/deliveries/7/replay", None, Role.OPERATOR)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "DELIVERY_NOT_FOUND")


async def test_there_is_a_limit_to_webhooks(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_api.events.webhooks.MOST", 1)
    assert (await send(sqlite_api, "POST", "", {"url": "https://a.example.org/"})).status_code == 201
    answer = await send(sqlite_api, "POST", "", {"url": "https://a.example.org/"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "TOO_MANY_WEBHOOKS")


async def test_deliveries_are_listed_in_pages_and_by_state(told: Api, receiver: Receiver) -> None:
    made = await hook(told, receiver)
    receiver.refused = {2}
    fill(told, 5)
    await until(lambda: len(receiver.got) == 5)
    path = f"/{made['id']}/deliveries"
    await until(lambda: receiver.events() == [1, 2, 3, 4, 5])
    found, cursor = [], ""
    while cursor is not None:
        page = await ask(told, "GET", f"{path}?limit=2{cursor and f'&cursor={cursor}'}")
        found += [row["eventId"] for row in page["deliveries"]]
        cursor = page["nextCursor"]
    assert found == [5, 4, 3, 2, 1]
    (waits,) = (await ask(told, "GET", f"{path}?state=pending"))["deliveries"]
    assert (waits["eventId"], waits["nextAt"] > waits["triedAt"]) == (2, True)
