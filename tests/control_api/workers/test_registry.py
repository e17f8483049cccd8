"""Who is let in as which worker: every row of the table, on both databases, and simultaneous registrations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from control_api.db import Database
from control_api.enrolment.bootstrap import Bootstrap
from control_api.errors import HostnameTaken
from control_api.workers import registry
from control_api.workers.credentials import Credentials
from control_api.workers.lifecycle import Intent, Moment, Rules, Status
from control_api.workers.models import Heartbeat, Transition, Worker
from control_api.workers.registry import Doors, Entry
from control_api.workers.wire import Registration
from tests.control_api.world import (
    SETTINGS,
    START,
    TOKEN,
    Api,
    Clock,
    bearer,
    make_settings,
    registration,
    running_api,
)

MACHINE = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
DOORS = Doors(Bootstrap(TOKEN), Credentials([SETTINGS["WORKER_AUTH_SECRET"]]))


async def post(api: Api, token: str | None = None, **facts: Any) -> tuple[int, dict[str, Any]]:
    """Register, with the token in the header when one is given; return status and body."""
    headers = bearer(token) if token else {}
    body = registration(**{**({"registrationToken": None} if token else {}), **facts})
    answer = await api.client.post("/api/workers/register", json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_a_new_machine_is_a_new_worker(api: Api) -> None:
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["success"], body["message"][:30]) == (201, True, "Worker registered successfully")
    data = body["data"]
    assert (data["isRestart"], data["worker"]["status"]) == (False, "PENDING")
    assert data["workerId"] == data["worker"]["id"]
    assert data["heartbeat"] == {"url": f"/api/workers/{data['workerId']}/heartbeat", "intervalSeconds": 30}
    changes = (await api.get(f"/api/workers/{data['workerId']}/transitions"))["transitions"]
    assert [(c["from"], c["to"], c["reason"], c["actor"]) for c in changes] == [
        (None, "PENDING", "registered", "worker")
    ]


async def test_a_known_machine_with_the_token_is_the_same_worker_with_a_new_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN, machineId=MACHINE, hostname="renamed", cpuCores=16)
    again = body["data"]
    assert (status, again["isRestart"], again["workerId"]) == (200, True, first["workerId"])
    assert (again["worker"]["hostname"], again["worker"]["cpuCores"]) == ("renamed", 16)
    assert (await api.beat(first)).status_code == 401  # the old credential is dead
    assert (await api.beat(again)).status_code == 200


async def test_a_valid_credential_is_the_same_worker_and_keeps_its_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.beat(first)
    status, body = await post(api, first["credential"], machineId=MACHINE, ipAddress="192.0.2.99")
    again = body["data"]
    assert (status, again["isRestart"], again["credential"]) == (200, True, first["credential"])
    assert (again["worker"]["status"], again["worker"]["ipAddress"]) == ("PENDING", "192.0.2.99")
    changes = (await api.get(f"/api/workers/{first['workerId']}/transitions"))["transitions"]
    assert [(c["to"], c["reason"]) for c in changes] == [
        ("PENDING", "registered again, not ready yet"),
        ("ACTIVE", "heard, its node is ready"),
        ("PENDING", "registered"),
    ]


async def test_a_restart_keeps_the_operators_intent_and_labels(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        wanted = {"intent": Intent.MAINTENANCE, "status": Status.MAINTENANCE, "labels": {"zone": "a"}}
        session.execute(update(Worker).values(**wanted))
    for token in (first["credential"], TOKEN):
        worker = (await post(api, token, machineId=MACHINE))[1]["data"]["worker"]
        assert (worker["status"], worker["intent"], worker["labels"]) == (
            "MAINTENANCE",
            "maintenance",
            {"zone": "a"},
        )


async def test_the_hostname_of_a_different_machine_is_refused(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN, machineId=OTHER)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")
    assert (await api.beat(first)).status_code == 200  # the first one is untouched


async def test_the_hostname_of_a_removed_worker_is_free(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=START))
    status, body = await post(api, TOKEN, machineId=OTHER)
    assert status == 201
    assert body["data"]["workerId"] != first["workerId"]
    assert (await api.beat(first)).status_code == 410


async def test_a_removed_machine_may_come_back_as_a_new_worker(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    with api.service.database.transaction() as session:
        session.execute(update(Worker).values(removed_at=START))
    assert (await post(api, first["credential"], machineId=MACHINE))[0] == 401
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["data"]["isRestart"]) == (201, False)


async def test_without_a_machine_id_the_hostname_is_the_key(api: Api) -> None:
    first = await api.register()
    status, body = await post(api, TOKEN, cpuCores=4)
    assert (status, body["data"]["workerId"]) == (200, first["workerId"])
    assert body["data"]["worker"]["cpuCores"] == 4


async def test_without_a_machine_id_a_worker_that_has_one_is_refused(api: Api) -> None:
    await api.register(machineId=MACHINE)
    status, body = await post(api, TOKEN)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_a_machine_does_not_take_over_a_worker_that_has_no_machine_id(api: Api) -> None:
    await api.register()
    status, body = await post(api, TOKEN, machineId=MACHINE)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_the_address_is_never_an_identity(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    second = await api.register(hostname="two", machineId=OTHER)
    assert first["workerId"] != second["workerId"]


async def test_a_renamed_worker_cannot_take_another_ones_hostname(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    await api.register(hostname="two", machineId=OTHER)
    status, body = await post(api, first["credential"], hostname="two", machineId=MACHINE)
    assert (status, body["error"]["code"]) == (409, "HOSTNAME_TAKEN")


async def test_a_credential_does_not_bring_another_ones_machine_id(api: Api) -> None:
    first = await api.register(hostname="one", machineId=MACHINE)
    await api.register(hostname="two", machineId=OTHER)
    status, body = await post(api, first["credential"], hostname="one", machineId=OTHER)
    assert (status, body["error"]["code"]) == (409, "MACHINE_ID_TAKEN")


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "", None])
@pytest.mark.parametrize("place", ["body", "header"])
async def test_every_wrong_token_gets_the_same_answer_and_stores_nothing(
    api: Api, token: str | None, place: str
) -> None:
    body = registration(registrationToken=token if place == "body" else None)
    headers = bearer(token) if place == "header" and token is not None else {}
    answer = await api.client.post("/api/workers/register", json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {
        "success": False,
        "message": "The registration token is not valid.",
        "error": {"code": "INVALID_REGISTRATION_TOKEN", "details": []},
    }
    with api.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 0


async def test_a_dead_credential_alone_is_refused(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.register(machineId=MACHINE)
    status, body = await post(api, first["credential"], machineId=MACHINE)
    assert (status, body["error"]["code"]) == (401, "INVALID_CREDENTIAL")


async def test_a_dead_credential_beside_a_good_token_does_no_harm(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    await api.register(machineId=MACHINE)
    status, _ = await post(api, first["credential"], machineId=MACHINE, registrationToken=TOKEN)
    assert status == 200


async def test_a_credential_with_a_forged_mac_is_no_credential(api: Api) -> None:
    first = await api.register(machineId=MACHINE)
    forged = Credentials(["another secret of thirty-two characters"]).issue(uuid4(), 1)
    assert (await post(api, forged, machineId=MACHINE))[0] == 401
    tampered = first["credential"][:-1] + ("0" if first["credential"][-1] != "0" else "1")
    assert (await post(api, tampered, machineId=MACHINE))[0] == 401


async def test_too_many_wrong_tokens_have_to_wait(api: Api) -> None:
    statuses = [(await post(api, "wrong"))[0] for _ in range(31)]
    assert statuses == [401] * 30 + [429]


async def test_the_peers_address_is_noted_beside_the_claimed_one(api: Api) -> None:
    await api.register(ipAddress="198.51.100.7")
    with api.service.database.reading() as session:
        worker = session.scalars(select(Worker)).one()
    assert (worker.ip_address, worker.observed_address) == ("198.51.100.7", "127.0.0.1")


async def test_a_made_up_address_of_a_proxy_is_no_address(database_url: str, clock: Clock) -> None:
    async with running_api(make_settings(database_url), clock, peer="x" * 100) as api:
        await api.register()
        with api.service.database.reading() as session:
            assert session.scalars(select(Worker.observed_address)).all() == [None]


# ---- simultaneous registrations


def register(database: Database, barrier: threading.Barrier, **facts: Any) -> Entry | type[Exception]:
    request = Registration.model_validate(registration(**facts))
    barrier.wait()
    try:
        with database.transaction() as session:
            at = Moment(START, Rules())
            return registry.register(session, DOORS, request, bearer=None, peer=None, at=at)
    except HostnameTaken:
        return HostnameTaken


def at_once(database: Database, count: int, facts: Callable[[int], dict[str, Any]]) -> list[Any]:
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(register, database, barrier, **facts(number)) for number in range(count)]
        return [future.result() for future in futures]


@pytest.mark.parametrize("machine_id", [MACHINE, None], ids=["machine id", "hostname only"])
def test_fifty_simultaneous_registrations_of_one_machine_give_one_worker(
    database: Database, machine_id: str | None
) -> None:
    entries = at_once(database, 50, lambda _: {"machineId": machine_id})
    assert len({entry.worker.id for entry in entries}) == 1
    assert [entry.is_restart for entry in entries].count(False) == 1
    with database.reading() as session:
        worker = session.scalars(select(Worker)).one()
        assert worker.epoch == 50
        assert session.scalar(select(func.count()).select_from(Heartbeat)) == 1
        assert session.scalar(select(func.count()).select_from(Transition)) == 1
    # only the credential that was handed out last works
    assert [DOORS.credentials.issue(worker.id, 50) == entry.credential for entry in entries].count(True) == 1


def test_simultaneous_registrations_of_one_machine_never_call_each_other_strangers(
    postgresql_url: str,
) -> None:
    """The machine id and the hostname are two indexes, and another registration may come in between them."""
    database = Database(postgresql_url)
    outcomes = []
    for number in range(150):
        facts = {"machineId": f"{number:032x}", "hostname": f"w{number}"}
        outcomes += at_once(database, 6, dict(enumerate([facts] * 6)).__getitem__)
    database.close()
    assert outcomes.count(HostnameTaken) == 0
    assert [entry.is_restart for entry in outcomes].count(False) == 150


def test_of_ten_machines_with_one_hostname_one_gets_it(database: Database) -> None:
    outcomes = at_once(database, 10, lambda number: {"machineId": f"{number:032x}"})
    assert outcomes.count(HostnameTaken) == 9
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 1


def test_different_machines_do_not_disturb_each_other(database: Database) -> None:
    entries = at_once(database, 20, lambda n: {"machineId": f"{n:032x}", "hostname": f"w{n}"})
    assert [entry.is_restart for entry in entries] == [False] * 20
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Worker)) == 20


def test_a_restart_counts_its_grace_from_the_registration(database: Database) -> None:
    at_once(database, 1, lambda _: {"machineId": MACHINE})
    with database.transaction() as session:
        late = Moment(START + timedelta(hours=2), Rules())
        request = Registration.model_validate(registration(machineId=MACHINE))
        entry = registry.register(session, DOORS, request, bearer=None, peer=None, at=late)
    assert (entry.worker.status, entry.worker.registered_at) == (Status.PENDING, late.now)
    assert entry.worker.created_at == START
