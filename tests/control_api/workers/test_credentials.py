"""Credentials: only what was issued is accepted, and nothing that differs in a single character."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from control_api.workers.credentials import Claim, Credentials

OLD, NEW = "the old secret of the workers 0123", "the new secret of the workers 4567"
WORKER = UUID("7034f966-b7f4-4394-b22d-0c8180282204")


@given(st.uuids(), st.integers(min_value=0, max_value=999_999_999))
def test_what_is_issued_is_accepted(worker_id: UUID, epoch: int) -> None:
    credentials = Credentials([NEW])
    assert credentials.check(credentials.issue(worker_id, epoch)) == Claim(worker_id, epoch, outdated=False)


def test_a_credential_does_not_change_between_versions() -> None:
    expected = "7034f966-b7f4-4394-b22d-0c8180282204.3.cc35f9fe9b5e3a9b5c0fdd1b4b5c3c9d"
    issued = Credentials([NEW]).issue(WORKER, 3)
    assert issued.rsplit(".", 1)[0] == expected.rsplit(".", 1)[0]
    assert len(issued.rsplit(".", 1)[1]) == 64


@given(st.data())
def test_no_single_character_may_change(data: st.DataObject) -> None:
    credential = Credentials([NEW]).issue(WORKER, 12)
    place = data.draw(st.integers(min_value=0, max_value=len(credential) - 1))
    other = data.draw(st.characters().filter(lambda character: character != credential[place]))
    assert Credentials([NEW]).check(credential[:place] + other + credential[place + 1 :]) is None


@given(st.text())
def test_no_other_text_is_a_credential(text: str) -> None:
    assert Credentials([NEW]).check(text) is None


def test_another_secret_makes_other_credentials() -> None:
    assert Credentials([NEW]).check(Credentials([OLD]).issue(WORKER, 1)) is None


def test_during_a_rotation_the_old_secret_is_accepted_and_noted() -> None:
    both = Credentials([NEW, OLD])
    assert both.check(Credentials([OLD]).issue(WORKER, 1)) == Claim(WORKER, 1, outdated=True)
    assert both.check(both.issue(WORKER, 1)) == Claim(WORKER, 1, outdated=False)
    assert both.issue(WORKER, 1) == Credentials([NEW]).issue(WORKER, 1)
