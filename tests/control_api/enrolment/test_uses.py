"""Whatever happens to tokens and machines, in any order, a token lets in what a simple model says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_api.db import Database
from control_api.enrolment import issuing, tokens
from control_api.enrolment.admission import Bootstrap
from control_api.enrolment.wire import NewEnrolmentToken
from control_api.errors import InvalidRegistrationToken
from control_api.workers import registry
from control_api.workers.credentials import Credentials
from control_api.workers.lifecycle import Moment, Rules
from control_api.workers.registry import Doors
from control_api.workers.wire import Registration
from tests.control_api.world import SETTINGS, START, TOKEN, registration

DOORS = Doors(Bootstrap(TOKEN), Credentials([SETTINGS["WORKER_AUTH_SECRET"]]))
runs = itertools.count()
few = st.integers(min_value=0, max_value=2)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), few, few),
        st.tuples(st.just("revoke"), few, st.just(0)),
        st.tuples(st.just("wait"), st.integers(min_value=1, max_value=100), st.just(0)),
    ),
    max_size=14,
)
LIMITS = st.tuples(
    st.none() | st.integers(min_value=1, max_value=2), st.none() | st.integers(min_value=60, max_value=150)
)


@dataclass
class Token:
    """The model: what a token is, and which machines came with it last."""

    max_uses: int | None
    ttl: int | None
    value: str = ""
    uses: int = 0
    revoked: bool = False
    last_with_it: set[int] = field(default_factory=set)

    def admits(self, machine: int, seconds: int) -> bool:
        alive = not self.revoked and (self.ttl is None or seconds < self.ttl)
        return alive and (self.max_uses is None or self.uses < self.max_uses or machine in self.last_with_it)


@pytest.mark.parametrize("with_id", [True, False], ids=["machine id", "hostname only"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(limits=st.tuples(LIMITS, LIMITS, LIMITS), actions=ACTIONS)
def test_a_token_lets_in_what_the_model_says(
    database: Database, with_id: bool, limits: Any, actions: list[tuple[str, int, int]]
) -> None:
    run = next(runs)
    model = [Token(max_uses, ttl) for max_uses, ttl in limits]
    with database.transaction() as session:
        for number, token in enumerate(model):
            wanted = {"name": f"t{run}.{number}", "maxUses": token.max_uses, "ttlSeconds": token.ttl}
            request = NewEnrolmentToken.model_validate(wanted)
            token.value = issuing.create(session, request, by="user:test", now=START)[1]
    seconds = 0
    for verb, first, second in actions:
        now = START + timedelta(seconds=seconds)
        if verb == "wait":
            seconds += first
        elif verb == "revoke":
            model[first].revoked = True
            with database.transaction() as session:
                issuing.revoke(session, tokens.id_of(model[first].value), now)
        else:
            facts = {"machineId": f"{run:031x}{second}" if with_id else None, "hostname": f"w{run}-{second}"}
            request = Registration.model_validate(registration(registrationToken=None, **facts))
            expected = model[first].admits(second, seconds)
            assert expected == let_in(database, request, model[first].value, Moment(now, Rules()))
            if expected and second not in model[first].last_with_it:
                model[first].uses += 1
                for token in model:
                    token.last_with_it.discard(second)
                model[first].last_with_it.add(second)
    with database.reading() as session:
        stored = [issuing.get(session, tokens.id_of(token.value)).uses for token in model]
    assert stored == [token.uses for token in model]


def let_in(database: Database, request: Registration, token: str, at: Moment) -> bool:
    try:
        with database.transaction() as session:
            registry.register(session, DOORS, request, bearer=token, peer=None, at=at)
    except InvalidRegistrationToken:
        return False
    return True
