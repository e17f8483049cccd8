"""What is accepted as a registration, and what is named when it is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from control_api.workers.wire import HeartbeatReport, Registration, quantity
from tests.control_api.world import Api, registration

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNxN0i5b3p1cXJzdHV2d3h5ejAxMjM0NTY3ODkw"

MISSION = {
    "hostname": "worker-1",
    "ipAddress": "192.168.1.101",
    "cpuCores": 16,
    "cpuArchitecture": "AMD Ryzen 9 6900HS with Radeon Graphics",
    "totalMemory": "31Gi",
    "totalStorage": "468G",
    "architecture": "amd64",
    "operatingSystem": "Ubuntu 22.04.4 LTS",
    "kernelVersion": "5.15.0-101-generic",
    "osImage": "Ubuntu 22.04.4 LTS",
    "registrationToken": "your-worker-registration-token",
}


def test_everything_that_the_mission_sends_is_understood() -> None:
    assert Registration.model_validate(MISSION).facts() == {
        "hostname": "worker-1",
        "ip_address": "192.168.1.101",
        "cpu_cores": 16,
        "cpu_model": "AMD Ryzen 9 6900HS with Radeon Graphics",
        "architecture": "amd64",
        "total_memory_bytes": 31 * 2**30,
        "total_storage_bytes": 468 * 10**9,
        "operating_system": "Ubuntu 22.04.4 LTS",
        "kernel_version": "5.15.0-101-generic",
        "agent_version": None,
        "ssh_host_keys": [],
        "join_error": None,
    }


def test_the_agents_own_fields_win_over_the_missions() -> None:
    both = {**MISSION, "cpuModel": "Model", "totalMemoryBytes": 5, "totalStorageBytes": 0}
    facts = Registration.model_validate(both).facts()
    assert (facts["cpu_model"], facts["total_memory_bytes"], facts["total_storage_bytes"]) == ("Model", 5, 0)


def test_the_token_is_not_among_the_facts_and_not_in_any_text() -> None:
    request = Registration.model_validate(MISSION)
    assert "registration_token" not in request.facts()
    assert "your-worker" not in f"{request!r} {request} {request.model_dump_json()}"


# fmt: off
BAD = [
    ({"hostname": ""},                              "hostname"),
    ({"hostname": None},                            "hostname"),
    ({"hostname": 7},                               "hostname"),
    ({"hostname": "Worker-1"},                      "hostname"),
    ({"hostname": "-w"},                            "hostname"),
    ({"hostname": "w-"},                            "hostname"),
    ({"hostname": "w..x"},                          "hostname"),
    ({"hostname": "w_1"},                           "hostname"),
    ({"hostname": "w 1"},                           "hostname"),
    ({"hostname": "w1\n"},                          "hostname"),
    ({"hostname": "wörker"},                        "hostname"),
    ({"hostname": "a" * 64},                        "hostname"),
    ({"hostname": ".".join(["a" * 60] * 5)},        "hostname"),
    ({"hostname": "-oProxyCommand=id"},             "hostname"),
    ({"hostname": "{{ lookup('pipe', 'id') }}"},    "hostname"),
    ({"ipAddress": ""},                             "ipAddress"),
    ({"ipAddress": "192.168.1"},                    "ipAddress"),
    ({"ipAddress": "192.168.1.256"},                "ipAddress"),
    ({"ipAddress": "192.168.1.1/24"},               "ipAddress"),
    ({"ipAddress": "192.168.1.1\n"},                "ipAddress"),
    ({"ipAddress": "127.0.0.1"},                    "ipAddress"),
    ({"ipAddress": "0.0.0.0"},                      "ipAddress"),
    ({"ipAddress": "224.0.0.1"},                    "ipAddress"),
    ({"ipAddress": "::1"},                          "ipAddress"),
    ({"ipAddress": "fe80::1%eth0"},                 "ipAddress"),
    ({"ipAddress": 3232235777},                     "ipAddress"),
    ({"cpuCores": 0},                               "cpuCores"),
    ({"cpuCores": -1},                              "cpuCores"),
    ({"cpuCores": 8.5},                             "cpuCores"),
    ({"cpuCores": "8"},                             "cpuCores"),
    ({"cpuCores": True},                            "cpuCores"),
    ({"cpuCores": 10**6},                           "cpuCores"),
    ({"totalMemory": "23Gii"},                      "totalMemory"),
    ({"totalMemory": "Gi"},                         "totalMemory"),
    ({"totalMemory": "-1Gi"},                       "totalMemory"),
    ({"totalMemory": "1e3"},                        "totalMemory"),
    ({"totalMemory": "31 Gi"},                      "totalMemory"),
    ({"totalMemory": "31Gi\n"},                     "totalMemory"),
    ({"totalMemory": True},                         "totalMemory"),
    ({"totalMemory": 1.5},                          "totalMemory"),
    ({"totalMemory": -1},                           "totalMemory"),
    ({"totalMemory": "9Ei"},                        "totalMemory"),
    ({"totalStorage": "lots"},                      "totalStorage"),
    ({"totalStorage": ["468G"]},                    "totalStorage"),
    ({"totalMemoryBytes": "1"},                     "totalMemoryBytes"),
    ({"totalMemoryBytes": -1},                      "totalMemoryBytes"),
    ({"totalStorageBytes": 2**63},                  "totalStorageBytes"),
    ({"machineId": "short"},                        "machineId"),
    ({"machineId": "G" * 32},                       "machineId"),
    ({"machineId": "a" * 32 + "\n"},                "machineId"),
    ({"bootId": "no"},                              "bootId"),
    ({"operatingSystem": "x\x00"},                  "operatingSystem"),
    ({"operatingSystem": "x\ny"},                   "operatingSystem"),
    ({"operatingSystem": "x" * 201},                "operatingSystem"),
    ({"kernelVersion": "\x1b[31m"},                 "kernelVersion"),
    ({"cpuModel": "\ud800"},                        "cpuModel"),
    ({"architecture": "x" * 33},                    "architecture"),
    ({"sshHostKeys": "ssh-ed25519 AAAA"},           "sshHostKeys"),
    ({"sshHostKeys": ["ssh-dss " + "A" * 40]},      "sshHostKeys.0"),
    ({"sshHostKeys": [KEY, KEY + " root@w1"]},      "sshHostKeys.1"),
    ({"sshHostKeys": [KEY + "\n* evil"]},           "sshHostKeys.0"),
    ({"sshHostKeys": [KEY] * 11},                   "sshHostKeys"),
    ({"registrationToken": "x" * 513},              "registrationToken"),
    ({"registrationToken": 7},                      "registrationToken"),
    ({"status": "ACTIVE"},                          "status"),
    ({"isSchedulable": True},                       "isSchedulable"),
    ({"id": "7034f966-b7f4-4394-b22d-0c8180282204"}, "id"),
    ({"labels": {"role": "master"}},                "labels"),
    ({"ansibleHost": "-oProxyCommand=id"},          "ansibleHost"),
    ({"ip_addres": "192.0.2.1"},                    "ip_addres"),
]
# fmt: on


def fields(body: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Registration.model_validate(body)
    return [".".join(str(part) for part in error["loc"]) for error in caught.value.errors()]


@pytest.mark.parametrize(("change", "field"), BAD, ids=[repr(change)[:60] for change, _ in BAD])
def test_a_bad_registration_names_its_field(change: dict[str, Any], field: str) -> None:
    assert fields({**MISSION, **change}) == [field]


@pytest.mark.parametrize("missing", ["hostname", "ipAddress", "cpuCores"])
def test_what_is_missing_is_named(missing: str) -> None:
    assert fields({name: value for name, value in MISSION.items() if name != missing}) == [missing]


@pytest.mark.parametrize("change", [{"hostname": "Worker 1", "cpuCores": "8"}, {"totalMemory": "23Gii"}])
async def test_a_bad_registration_is_a_422_and_stores_nothing(
    sqlite_api: Api, change: dict[str, Any]
) -> None:
    answer = await sqlite_api.client.post("/api/workers/register", json=registration(**change))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == list(change)
    assert (await sqlite_api.get("/api/workers"))["workers"] == []


async def test_a_refusal_never_repeats_the_token(sqlite_api: Api) -> None:
    secret = "a-secret-that-must-not-be-repeated"
    for change in ({"registrationToken": secret * 20}, {"registrationToken": secret, "cpuCores": "x"}):
        answer = await sqlite_api.client.post("/api/workers/register", json=registration(**change))
        assert answer.status_code == 422
        assert secret not in answer.text


# fmt: off
QUANTITIES = [
    ("0", 0), ("512", 512), (512, 512), ("31Gi", 31 * 2**30), ("1.5Gi", 3 * 2**29), ("468G", 468 * 10**9),
    ("1.8T", 1_800_000_000_000), ("16384Mi", 2**34), ("1Ki", 1024), ("1k", 1000), ("1K", 1000), ("2M", 2 * 10**6),
    ("1Ti", 2**40), ("1Pi", 2**50), ("7Ei", 7 * 2**60), ("0.1Gi", 107374182), ("9223372036854775807", 2**63 - 1),
]
# fmt: on


@pytest.mark.parametrize(("text", "size"), QUANTITIES)
def test_quantities_are_read_as_kubernetes_reads_them(text: str | int, size: int) -> None:
    assert quantity(text) == size


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_number_of_bytes_is_itself(size: int) -> None:
    assert quantity(size) == quantity(str(size)) == size


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        assert 0 <= quantity(text) < 2**63
    except ValueError as exc:
        assert "quantity" in str(exc) or "larger" in str(exc)  # noqa: PT017


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*MISSION, "seq", "bootId", "cpuUsage", "nodeReady", "x"]), JSON))
def test_whatever_comes_is_accepted_or_refused_and_never_crashes(body: dict[str, Any]) -> None:
    for kind in (Registration, HeartbeatReport):
        try:
            kind.model_validate(body)
        except ValidationError:
            continue
