"""The cluster room against a real Kubernetes, with the rights that the role gives. Built by tests/kubernetes/build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from control_api.cluster import tokens
from control_api.cluster.kubernetes import AS_TABLE, PODS, RUNNING, SECRETS, Kubernetes
from control_api.db import utc_now
from control_api.errors import ClusterUnavailable
from control_api.workers.lifecycle import NODES_FRESH, Node
from tests.control_api.cluster.fakes import watching
from tests.control_api.world import Api, Clock, make_settings, running_api
from tests.k3s_stand_in.machines import wait_until
from tests.kubernetes.cache import binaries
from tests.kubernetes.control_plane import PATIENCE, ControlPlane

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(binaries() is None, reason="no Kubernetes was built here (tests/kubernetes/build)"),
]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    found = binaries()
    assert found is not None
    plane = ControlPlane(found, tmp_path_factory.mktemp("kubernetes"))
    try:
        plane.start()
        yield plane
    finally:
        plane.destroy()


@pytest.fixture(scope="module")
def account(plane: ControlPlane) -> Path:
    """The kubeconfig of the control API's own account."""
    return plane.apply_role()


@pytest.fixture
def kubernetes(account: Path) -> Iterator[Kubernetes]:
    kubernetes = Kubernetes(account)
    yield kubernetes
    kubernetes.close()


class Today(Clock):
    """A clock that the test sets, in the time of the real processes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = utc_now()


@pytest.fixture
async def real_api(sqlite_url: str, account: Path) -> AsyncIterator[Api]:
    """The control API as it is configured in production: by MUSTER_KUBECONFIG."""
    settings = make_settings(sqlite_url, MUSTER_KUBECONFIG=account)
    async with running_api(settings, Today()) as api:
        api.service.monitor.tick()
        yield api
        api.service.monitor.stop()
        assert api.service.cluster is not None
        api.service.cluster.close()


def states(kubernetes: Kubernetes) -> dict[str, Node]:
    return {node.name: node.state for node in kubernetes.nodes()}


def look(api: Api) -> None:
    assert api.service.cluster is not None
    watching(api, api.service.cluster).look()


async def eventually(happens: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, happens, PATIENCE)


async def status(api: Api, worker: dict[str, Any]) -> str:
    return str((await api.beat(worker, nodeReady=True)).json()["data"]["status"])


def who(plane: ControlPlane, token: str) -> tuple[int, str]:
    """How the API server takes whoever shows this token: 403 knows them, 401 does not."""
    with plane.client(token) as client:
        answer = client.get("/api/v1/nodes")
        return answer.status_code, answer.json()["message"]


def test_a_minted_token_is_a_bootstrap_token_until_it_is_deleted(
    plane: ControlPlane, kubernetes: Kubernetes
) -> None:
    token, worker_id, now = tokens.new_token(), uuid4(), utc_now()
    value = kubernetes.mint(token, worker_id, now)
    assert value == tokens.secure_form(token, Path(plane.path("ca.crt")).read_bytes())
    secret = plane.admin.get(f"{SECRETS}/bootstrap-token-{token.id}").json()
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert set(secret["data"]) == set(tokens.secret(token, worker_id, now)["stringData"])
    shown = value.partition("::")[2]
    code, message = who(plane, shown)
    assert code == 403
    assert f'User "system:bootstrap:{token.id}" cannot list resource "nodes"' in message
    assert who(plane, f"{token.id}.{'0' * 16}")[0] == 401
    kubernetes.delete(token.id)
    wait_until(lambda: who(plane, shown)[0] == 401)
    assert plane.admin.get(f"{SECRETS}/bootstrap-token-{token.id}").status_code == 404
    kubernetes.delete(token.id)


def test_an_expired_token_lets_nobody_in(plane: ControlPlane, kubernetes: Kubernetes) -> None:
    token = tokens.new_token()
    kubernetes.mint(token, uuid4(), utc_now() - tokens.LIFETIME - timedelta(seconds=1))
    assert who(plane, f"{token.id}.{token.secret}")[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SECRETS),
        ("GET", f"{SECRETS}/muster-control-api-token"),
        ("POST", "/api/v1/namespaces/default/secrets"),
        ("POST", "/api/v1/nodes"),
        ("PATCH", "/api/v1/nodes/w1"),
        ("DELETE", "/api/v1/nodes"),
        ("DELETE", "/api/v1/namespaces/default/pods/p"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ],
)
def test_the_account_may_do_nothing_but_its_work(kubernetes: Kubernetes, method: str, path: str) -> None:
    body = None if method in {"GET", "DELETE"} else {"metadata": {"name": "x"}}
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else None
    answer = kubernetes._client.request(method, path, json=body, headers=headers)
    assert answer.status_code == 403


@pytest.fixture(scope="module")
def running(plane: ControlPlane, account: Path) -> None:
    """Two nodes, twelve pods on one of them, three on the other."""
    for node in ("r1", "r2"):
        plane.start_kubelet(node)
    plane.run_pods("r1", 12, "on-r1")
    plane.run_pods("r2", 3, "on-r2")


@pytest.mark.usefixtures("running")
def test_nodes_and_their_pods_are_read(plane: ControlPlane, kubernetes: Kubernetes) -> None:
    wait_until(lambda: [states(kubernetes).get(name) for name in ("r1", "r2")] == [Node.READY] * 2, PATIENCE)
    pending = {"metadata": {"name": "nowhere"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    plane.create("/api/v1/namespaces/default/pods", pending)
    wait_until(lambda: kubernetes.pods() == {"r1": 12, "r2": 3})
    capacities = {node.name: node.pod_capacity for node in kubernetes.nodes()}
    assert capacities["r1"] == capacities["r2"]
    assert (capacities["r1"] or 0) >= 12
    plane.finish_pod("on-r1-0")
    wait_until(lambda: kubernetes.pods() == {"r1": 11, "r2": 3})


@pytest.mark.usefixtures("running")
def test_a_page_of_pods_costs_little(kubernetes: Kubernetes) -> None:
    """Fewer than 400 bytes a pod, so that 10,000 of them are less than 4 MB."""
    answer = kubernetes._client.get(
        PODS,
        params=RUNNING,
        headers=AS_TABLE,
    )
    rows, columns = answer.json()["rows"], len(str(answer.json()["columnDefinitions"]))
    assert len(rows) >= 14
    assert (len(answer.content) - columns) / len(rows) < 400


async def test_a_kubelet_that_dies_makes_its_worker_not_ready_and_back(
    plane: ControlPlane, real_api: Api, kubernetes: Kubernetes
) -> None:
    plane.start_kubelet("r3")
    await eventually(lambda: states(kubernetes).get("r3") is Node.READY)
    worker = await real_api.register(hostname="r3", machineId="c" * 32)
    await real_api.beat(worker, nodeReady=True)
    look(real_api)
    assert await status(real_api, worker) == "ACTIVE"
    shown = await real_api.get(f"/api/workers/{worker['workerId']}")
    assert (shown["nodeState"], shown["currentPods"]) == ("Ready", 0)

    plane.stop("r3")
    await eventually(lambda: states(kubernetes)["r3"] is Node.NOT_READY)
    real_api.clock.advance(5)
    look(real_api)
    assert await status(real_api, worker) == "NOT_READY"

    plane.start_kubelet("r3")
    await eventually(lambda: states(kubernetes)["r3"] is Node.READY)
    real_api.clock.advance(5)
    look(real_api)
    assert await status(real_api, worker) == "ACTIVE"
    found = (await real_api.get(f"/api/workers/{worker['workerId']}/transitions"))["transitions"]
    assert [row["reason"] for row in reversed(found)][1:] == [
        "heard, its node is ready",
        "heard, but K3s says that its node is not ready",
        "heard, its node is ready, as K3s says too",
    ]


async def test_the_node_of_a_dead_machine_makes_way_and_a_living_one_stays(
    plane: ControlPlane, real_api: Api, kubernetes: Kubernetes
) -> None:
    plane.start_kubelet("r4")
    await eventually(lambda: states(kubernetes).get("r4") is Node.READY)
    old = kubernetes.node("r4")
    assert old is not None
    real_api.clock.now = utc_now() + timedelta(seconds=2)
    await real_api.register(hostname="r4", machineId="d" * 32)  # another machine of that name, says its token
    look(real_api)
    assert kubernetes.node("r4") is not None  # its kubelet is alive

    plane.stop("r4")
    await eventually(lambda: states(kubernetes)["r4"] is Node.NOT_READY)
    real_api.clock.advance(5)
    look(real_api)
    assert kubernetes.node("r4") is None

    plane.start_kubelet("r4")  # the new machine joins under the name
    await eventually(lambda: states(kubernetes).get("r4") is Node.READY)
    new = kubernetes.node("r4")
    assert new is not None
    assert new.uid != old.uid
    assert kubernetes.remove_node(old) is False  # by what was seen of the old one, the new one is not deleted
    real_api.clock.advance(5)
    look(real_api)
    assert kubernetes.node("r4") is not None


async def test_an_api_server_that_stops_leaves_the_workers_own_word_until_it_is_back(
    plane: ControlPlane, real_api: Api, kubernetes: Kubernetes
) -> None:
    worker = await real_api.register(hostname="no-such-node")
    await real_api.beat(worker, nodeReady=True)
    look(real_api)
    assert await status(real_api, worker) == "NOT_READY"
    plane.stop("api")
    with pytest.raises(ClusterUnavailable):
        kubernetes.nodes()
    look(real_api)
    assert await status(real_api, worker) == "NOT_READY"  # news of a minute ago still count
    real_api.clock.advance(NODES_FRESH.total_seconds() + 1)
    look(real_api)
    assert await status(real_api, worker) == "ACTIVE"
    assert (await real_api.get("/api/workers/stats"))["cluster"]["answers"] is False
    assert "cluster" in (await real_api.client.get("/readyz")).json()["degraded"]

    await asyncio.to_thread(plane.start_api_server)
    look(real_api)
    assert await status(real_api, worker) == "NOT_READY"
    assert (await real_api.get("/api/workers/stats"))["cluster"]["answers"] is True
    assert "cluster" not in (await real_api.client.get("/readyz")).json()["degraded"]
