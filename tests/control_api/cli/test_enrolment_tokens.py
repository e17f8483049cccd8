"""`muster enrolment-tokens` and `muster workers approve` against a running service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from control_api.cli import enrolment_tokens
from control_api.errors import ApiRefused
from tests.control_api.cli.test_serve import Service
from tests.control_api.world import registration


class Cli:
    """The command line of an administrator."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.environment = {
            "MUSTER_URL": service.url,
            "MUSTER_PASSWORD": service.secret("MUSTER_ADMIN_PASSWORD"),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.service.run(*arguments, **self.environment)

    def says(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def register(self, token: str, **facts: object) -> httpx2.Response:
        body = registration(registrationToken=token, **facts)
        return httpx2.post(f"{self.service.url}/api/workers/register", json=body)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    directory: Path = tmp_path_factory.mktemp("service")
    service = Service(directory).start()
    yield Cli(service)
    service.stop()


def test_a_token_is_made_used_listed_and_revoked(cli: Cli) -> None:
    token = cli.says("enrolment-tokens", "create", "rack-7", "--max-uses", "2", "--label", "zone=a")
    answer = cli.register(token, hostname="w1")
    assert (answer.status_code, answer.json()["data"]["worker"]["labels"]) == (201, {"zone": "a"})
    rows = json.loads(cli.says("enrolment-tokens", "list", "--json"))
    assert [(row["name"], row["uses"], row["status"]) for row in rows] == [("rack-7", 1, "ACTIVE")]
    assert cli.says("enrolment-tokens", "revoke", "rack-7") == (
        "The enrolment token rack-7 lets in nobody any more."
    )
    assert cli.register(token, hostname="w2").status_code == 401
    table = [line.split() for line in cli.says("enrolment-tokens", "list").splitlines()]
    assert table[0][:3] == ["TOKEN", "STATUS", "USES"]
    assert table[1][:3] == ["rack-7", "REVOKED", "1/2"]
    again = cli.run("enrolment-tokens", "revoke", "rack-7")
    assert (again.returncode, again.stderr.strip()) == (
        1,
        "There is no enrolment token rack-7 that could be revoked.",
    )


def test_every_condition_of_a_token_can_be_set(cli: Cli) -> None:
    options = ["--description", "the new rack", "--never-expires", "--approval-required", "--may-replace"]
    options += ["--cidr", "192.0.2.0/24", "--cidr", "2001:db8::/32", "--json"]
    made = json.loads(cli.says("enrolment-tokens", "create", "all", *options))
    assert made["token"].startswith("met_")
    wanted = ("description", "expiresAt", "approvalRequired", "mayReplace", "cidrs")
    assert [made[name] for name in wanted] == [
        "the new rack",
        None,
        True,
        True,
        ["192.0.2.0/24", "2001:db8::/32"],
    ]


def test_a_worker_is_approved(cli: Cli) -> None:
    token = cli.says("enrolment-tokens", "create", "wait", "--approval-required")
    worker = cli.register(token, hostname="w3").json()["data"]
    assert worker["worker"]["approved"] is False
    assert cli.says("workers", "approve", worker["workerId"]) == (
        "w3 is approved; it joins when it registers again."
    )
    rows = {row["hostname"]: row["approved"] for row in json.loads(cli.says("workers", "list", "--json"))}
    assert rows["w3"] is True


def test_a_bad_wish_is_one_sentence_that_names_the_field(cli: Cli) -> None:
    done = cli.run("enrolment-tokens", "create", "x", "--cidr", "192.0.2.7/24")
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "The request is not valid: cidrs.0 has bits set to the right of its prefix; write 192.0.2.0/24.",
    )


def test_a_label_needs_a_value() -> None:
    assert enrolment_tokens.labels(["a=b", "c="]) == {"a": "b", "c": ""}
    with pytest.raises(ApiRefused, match="--label zone must be like zone=a"):
        enrolment_tokens.labels(["zone"])
