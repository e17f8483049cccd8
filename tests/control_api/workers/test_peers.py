"""The addresses of the cluster's machines: who is among them, who may ask, and what is remembered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_api.errors import InvalidCredential, NotApproved
from control_api.workers.credentials import Claim
from control_api.workers.peer_store import Row
from control_api.workers.peers import PeerBook, Peers, of_rows
from tests.control_api.world import INVENTORY_KEY, START, Api, Clock, bearer

ONE, TWO = UUID(int=1), UUID(int=2)


def row(worker_id: UUID = ONE, address: str = "10.0.0.1", seen: str | None = None, **changes: Any) -> Row:
    return Row(worker_id, 1, True, address, seen)._replace(**changes)


@pytest.mark.parametrize(
    ("rows", "addresses"),
    [
        ([], ()),
        ([row(address="10.0.0.10"), row(TWO, "10.0.0.9")], ("10.0.0.9", "10.0.0.10")),
        ([row(seen="203.0.113.7")], ("10.0.0.1", "203.0.113.7")),
        ([row(seen="10.0.0.1")], ("10.0.0.1",)),
        ([row(approved=False)], ()),
        ([row(address="fd00::1", seen="::1")], ()),
        ([row(address="0.0.0.0", seen="127.0.0.1"), row(TWO, "224.0.0.1", "255.255.255.255")], ()),
    ],
)
def test_the_peers_are_the_addresses_of_approved_workers(rows: list[Row], addresses: tuple[str, ...]) -> None:
    assert of_rows(rows).addresses == addresses


def test_the_tag_changes_with_the_addresses_alone() -> None:
    tag = of_rows([row(), row(TWO, "10.0.0.2")]).tag
    assert tag == of_rows([row(TWO, "10.0.0.2", epoch=7), row()]).tag
    assert tag != of_rows([row(), row(TWO, "10.0.0.3")]).tag


@pytest.mark.parametrize(
    ("rows", "epoch", "refusal"),
    [
        ([row()], 1, None),
        ([row(epoch=2)], 1, InvalidCredential),
        ([row(TWO)], 1, InvalidCredential),
        ([row(approved=False)], 1, NotApproved),
    ],
)
def test_only_a_standing_approved_worker_may_ask(
    rows: list[Row], epoch: int, refusal: type[Exception] | None
) -> None:
    claim = Claim(ONE, epoch, outdated=False)
    if refusal is None:
        of_rows(rows).check(claim)
        return
    with pytest.raises(refusal):
        of_rows(rows).check(claim)


def test_what_was_read_is_good_for_a_second() -> None:
    tables = iter([of_rows([row()]), of_rows([row(TWO, "10.0.0.2")]), of_rows([])])
    book = PeerBook(lambda: next(tables))
    at = [book.get(START + timedelta(seconds=seconds)).addresses for seconds in (0, 0.9, 1, 1.9)]
    assert at == [("10.0.0.1",), ("10.0.0.1",), ("10.0.0.2",), ("10.0.0.2",)]
    assert book.get(START - timedelta(hours=1)).addresses == ()  # the clock was set back


def test_a_worker_that_came_a_moment_ago_is_looked_for_again() -> None:
    tables: list[Peers] = [of_rows([]), of_rows([row()])]
    book = PeerBook(lambda: tables.pop(0))
    book.get(START)
    assert book.get_for(Claim(ONE, 1, outdated=False), START).addresses == ("10.0.0.1",)


# ---- over HTTP


async def test_a_worker_and_an_inventory_key_see_the_addresses(api: Api) -> None:
    worker = await api.register(ipAddress="192.0.2.20")
    for token in (worker["credential"], INVENTORY_KEY):
        answer = await api.client.get("/api/peers", headers=bearer(token))
        assert answer.status_code == 200
        assert answer.json() == {
            "success": True,
            "message": "1 addresses",
            "data": {"addresses": ["192.0.2.20"]},
        }


async def test_who_has_the_list_is_told_so(api: Api) -> None:
    worker = await api.register(ipAddress="192.0.2.20")
    first = await api.client.get("/api/peers", headers=bearer(worker["credential"]))
    known = {**bearer(worker["credential"]), "If-None-Match": first.headers["ETag"]}
    second = await api.client.get("/api/peers", headers=known)
    assert (second.status_code, second.content) == (304, b"")


async def test_a_removed_worker_is_out_of_the_list_and_may_not_ask(api: Api, clock: Clock) -> None:
    stays = await api.register(hostname="stays", ipAddress="192.0.2.20")
    goes = await api.register(hostname="goes", ipAddress="192.0.2.21")
    await api.client.delete(f"/api/workers/{goes['workerId']}", headers=api.admin())
    clock.advance(1)
    answer = await api.client.get("/api/peers", headers=bearer(stays["credential"]))
    assert answer.json()["data"]["addresses"] == ["192.0.2.20"]
    refused = await api.client.get("/api/peers", headers=bearer(goes["credential"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "INVALID_CREDENTIAL")


async def test_a_worker_that_waits_for_approval_is_not_in_the_list_and_may_not_ask(
    api: Api, clock: Clock
) -> None:
    token = (await api.token(approvalRequired=True))["token"]
    waits = await api.register(registrationToken=token, ipAddress="192.0.2.22")
    refused = await api.client.get("/api/peers", headers=bearer(waits["credential"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "NOT_APPROVED")
    seen = await api.client.get("/api/peers", headers=bearer(INVENTORY_KEY))
    assert seen.json()["data"]["addresses"] == []
    await api.client.post(f"/api/workers/{waits['workerId']}/approve", headers=api.admin())
    answer = await api.client.get("/api/peers", headers=bearer(waits["credential"]))
    assert answer.json()["data"]["addresses"] == ["192.0.2.22"]


@pytest.mark.parametrize("token", [None, "nonsense", f"{uuid4()}.1.{'0' * 64}"])
async def test_nobody_else_sees_the_addresses(sqlite_api: Api, token: str | None) -> None:
    headers = bearer(token) if token else {}
    assert (await sqlite_api.client.get("/api/peers", headers=headers)).status_code == 401
