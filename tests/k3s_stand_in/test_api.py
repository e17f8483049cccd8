"""The Kubernetes API, as lightkube sees it."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, Node, Pod, Secret, ServiceAccount
from lightkube.types import PatchType

from tests.k3s_stand_in.machines import Server, wait_until

LIMITED = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: limited, namespace: kube-system}
---
apiVersion: v1
kind: Secret
metadata:
  name: limited-token
  namespace: kube-system
  annotations: {kubernetes.io/service-account.name: limited}
type: kubernetes.io/service-account-token
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules: [{apiGroups: [""], resources: [nodes, pods], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: limited}
subjects: [{kind: ServiceAccount, name: limited, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: limited, namespace: kube-system}
rules: [{apiGroups: [""], resources: [secrets], verbs: [create, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: limited, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}
subjects: [{kind: ServiceAccount, name: limited, namespace: kube-system}]
"""


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(server.kubeconfig)) as client:
        yield client


@pytest.fixture(scope="module")
def limited(server: Server, admin: Client) -> Iterator[Client]:
    """The client of an account made by a manifest, as the control API's is."""
    (server.state / "server/manifests/limited.yaml").write_text(LIMITED)
    secret = wait_until(lambda: token_of(admin))
    user = {"token": secret["token"]}
    cluster = {"server": server.url, "certificate-authority-data": secret["ca.crt"]}
    config = KubeConfig.from_dict(
        {
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": cluster}],
            "users": [{"name": "x", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
    )
    with Client(config=config) as client:
        yield client


def token_of(admin: Client) -> dict[str, str]:
    try:
        data = admin.get(Secret, "limited-token", namespace="kube-system").data or {}
        admin.get(ServiceAccount, "limited", namespace="kube-system")
    except ApiError:
        return {}
    return data | {"token": base64.b64decode(data["token"]).decode()} if "token" in data else {}


def refusal(call: Callable[[], object]) -> tuple[int | None, str | None]:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.status.code, caught.value.status.reason


def secret(name: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace="kube-system"), stringData={"key": "value"})


def test_the_server_is_a_node_itself(admin: Client) -> None:
    (node,) = admin.list(Node)

    assert node.metadata.name == "master"
    assert node.metadata.uid
    assert node.metadata.creationTimestamp
    assert node.metadata.labels["node-role.kubernetes.io/control-plane"] == "true"
    assert [(entry.type, entry.address) for entry in node.status.addresses] == [
        ("InternalIP", "127.0.0.1"),
        ("Hostname", "master"),
    ]
    assert node.status.nodeInfo.kubeletVersion == "v0.0.0-stand-in"
    assert {entry.type: entry.status for entry in node.status.conditions}["Ready"] == "True"


def test_it_runs_no_pods_and_says_so(admin: Client) -> None:
    assert list(admin.list(Pod, namespace="*")) == []
    pod = Pod(metadata=ObjectMeta(name="x", namespace="default"))
    with pytest.raises(ApiError, match="runs no containers"):
        admin.create(pod)


def raw(server: Server, method: str, path: str, accept: str, body: object = None) -> tuple[int, Any]:
    """The status and the JSON of a request that only a limited client makes by hand."""
    data = server.kubectl("-n", "kube-system", "get", "secret", "limited-token", "-o", "json")
    token = base64.b64decode(json.loads(data)["data"]["token"]).decode()
    headers = {"Authorization": f"Bearer {token}", "Accept": accept, "Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=sent, headers=headers, method=method)
    context = ssl.create_default_context(cafile=server.state / "server/tls/server-ca.crt")
    try:
        with urllib.request.urlopen(request, context=context, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read())


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def test_the_table_of_pods_has_kubectls_columns_and_is_empty(server: Server, limited: Client) -> None:
    query = "?includeObject=None&resourceVersion=0&fieldSelector=status.phase!=Failed,spec.nodeName!="
    status, table = raw(server, "GET", "/api/v1/pods" + query, TABLE)
    assert (status, table["kind"], table["rows"]) == (200, "Table", [])
    assert "Node" in [column["name"] for column in table["columnDefinitions"]]
    assert raw(server, "GET", "/api/v1/nodes", TABLE)[0] == 406


def test_what_has_changed_is_not_deleted_under_a_precondition(server: Server, limited: Client) -> None:
    made = limited.create(secret("guarded"))
    path = "/api/v1/namespaces/kube-system/secrets/guarded"
    assert made.metadata
    for field, value in (("uid", "another"), ("resourceVersion", "1")):
        status, answer = raw(server, "DELETE", path, "application/json", {"preconditions": {field: value}})
        assert (status, answer["reason"]) == (409, "Conflict")
    same = {"uid": made.metadata.uid, "resourceVersion": made.metadata.resourceVersion}
    assert raw(server, "DELETE", path, "application/json", {"preconditions": same})[0] == 200
    assert raw(server, "DELETE", path, "application/json", {"preconditions": same})[0] == 404


def test_secrets_are_created_read_and_deleted(admin: Client) -> None:
    made = admin.create(secret("one"))
    assert made.data == {"key": "dmFsdWU="}
    assert refusal(lambda: admin.create(secret("one"))) == (409, "AlreadyExists")

    admin.delete(Secret, "one", namespace="kube-system")
    assert refusal(lambda: admin.get(Secret, "one", namespace="kube-system")) == (404, "NotFound")


def test_a_stale_change_conflicts(admin: Client) -> None:
    stale = admin.create(secret("stale"))
    admin.patch(Secret, "stale", {"metadata": {"labels": {"a": "b"}}}, namespace="kube-system")

    assert refusal(lambda: admin.replace(stale)) == (409, "Conflict")


def test_secrets_need_their_namespace(admin: Client) -> None:
    lost = Secret(metadata=ObjectMeta(name="lost", namespace="nowhere"))
    assert refusal(lambda: admin.create(lost)) == (404, "NotFound")


def test_lists_are_filtered_by_label_and_field(admin: Client) -> None:
    assert [node.metadata.name for node in admin.list(Node, labels={"kubernetes.io/os": "linux"})] == [
        "master"
    ]
    assert list(admin.list(Node, labels={"kubernetes.io/os": "plan9"})) == []
    chosen = admin.list(Namespace, fields={"metadata.name": "default"})
    assert [namespace.metadata.name for namespace in chosen] == ["default"]


@pytest.mark.parametrize("patch_type", [PatchType.MERGE, PatchType.STRATEGIC])
def test_a_node_is_cordoned_by_a_patch_that_leaves_its_status(admin: Client, patch_type: PatchType) -> None:
    patch = {"spec": {"unschedulable": True}, "status": {"conditions": []}}
    assert admin.patch(Node, "master", patch, patch_type=patch_type).spec.unschedulable
    node = admin.patch(Node, "master", {"spec": {"unschedulable": None}}, patch_type=patch_type)

    assert not node.spec.unschedulable
    assert node.status.conditions


def test_a_limited_account_may_do_what_its_roles_say_and_no_more(limited: Client, admin: Client) -> None:
    assert [node.metadata.name for node in limited.list(Node)] == ["master"]
    limited.create(secret("minted"))
    limited.delete(Secret, "minted", namespace="kube-system")

    assert refusal(lambda: list(limited.list(Secret, namespace="kube-system"))) == (403, "Forbidden")
    assert refusal(lambda: limited.get(Secret, "limited-token", namespace="kube-system")) == (
        403,
        "Forbidden",
    )
    other = Secret(metadata=ObjectMeta(name="x", namespace="default"))
    assert refusal(lambda: limited.create(other)) == (403, "Forbidden")
    assert refusal(lambda: limited.delete(Node, "master")) == (403, "Forbidden")
    with pytest.raises(
        ApiError, match='User "system:serviceaccount:kube-system:limited" cannot patch resource "nodes"'
    ):
        limited.patch(Node, "master", {"spec": {}})


def test_a_deleted_token_secret_ends_the_account(server: Server, limited: Client, admin: Client) -> None:
    copy = LIMITED.replace("limited", "short-lived")
    (server.state / "server/manifests/short-lived.yaml").write_text(copy)
    wait_until(lambda: "short-lived-token" in server.secrets())
    data = json.loads(
        server.kubectl("-n", "kube-system", "get", "secret", "short-lived-token", "-o", "json")
    )["data"]
    assert data["namespace"] == "a3ViZS1zeXN0ZW0="
    path = "/api/v1/nodes"
    assert status_of(server, path, bearer=data["token"]) == 200
    admin.delete(Secret, "short-lived-token", namespace="kube-system")
    assert status_of(server, path, bearer=data["token"]) == 401


def status_of(server: Server, path: str, *, bearer: str = "", headers: dict[str, str] | None = None) -> int:
    """The status of a plain GET; `bearer` in base64, as Secrets hold it."""
    ca = server.state / "server/tls/server-ca.crt"
    request = urllib.request.Request(server.url + path, headers=headers or {})
    if bearer:
        request.add_header("Authorization", "Bearer " + base64.b64decode(bearer).decode())
    try:
        with urllib.request.urlopen(
            request, context=ssl.create_default_context(cafile=ca), timeout=5
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def test_only_the_ca_and_ping_are_open_to_strangers(server: Server) -> None:
    answers = {
        path: status_of(server, path)
        for path in ("/ping", "/cacerts", "/readyz", "/version", "/api/v1/nodes")
    }

    assert answers == {"/ping": 200, "/cacerts": 200, "/readyz": 401, "/version": 401, "/api/v1/nodes": 401}


def test_a_client_that_says_nothing_holds_nobody_up(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert status_of(server, "/ping") == 200


def test_an_oversized_request_is_refused_unread(server: Server) -> None:
    assert status_of(server, "/ping", headers={"Content-Length": str(4 * 1024 * 1024)}) == 413


def test_of_many_creators_of_one_name_one_wins(admin: Client) -> None:
    def create(_: int) -> str | None:
        try:
            admin.create(secret("contested"))
        except ApiError as exc:
            return exc.status.reason
        return "created"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(create, range(16))) == {"created": 1, "AlreadyExists": 15}


def test_manifests_are_applied_again_when_they_change(server: Server, admin: Client) -> None:
    file: Path = server.state / "server/manifests/changing.yaml"
    manifest = "{apiVersion: v1, kind: Secret, metadata: {name: changing}, stringData: {a: %s}}"

    def has(value: str) -> bool:
        return value in server.kubectl("get", "secret", "changing", "-o", "json", "--ignore-not-found")

    file.write_text(manifest % "one")
    wait_until(lambda: has("b25l"))
    file.write_text("kind: Unknown\n---\n" + manifest % "two")
    wait_until(lambda: has("dHdv"))
    server.wait_for("a manifest needs apiVersion, kind and metadata")
