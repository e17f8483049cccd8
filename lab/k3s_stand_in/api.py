"""The Kubernetes REST API over the cluster's objects: paths, verbs, authorization, answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from . import errors, patches, rbac, selectors
from .cluster import Cluster
from .identity import User
from .kinds import PODS, Kind, Object, by_plural
from .version import VERSION

POD_COLUMNS = (
    "Name",
    "Ready",
    "Status",
    "Restarts",
    "Age",
    "IP",
    "Node",
    "Nominated Node",
    "Readiness Gates",
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True)
class Call:
    """One request; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is sent back: JSON for an object, else the bytes as they are."""

    body: Object | bytes
    status: int = 200


@dataclass(frozen=True)
class Target:
    """What a path names; `namespace` is empty for all namespaces and for what lies in none."""

    kind: Kind
    namespace: str
    name: str
    part: str


def handle(cluster: Cluster, user: User, call: Call) -> Answer:
    """Answer an authenticated request; raises ApiError."""
    if not call.path.startswith(("/api/", "/apis/")):
        return _outside_resources(cluster, user, call)
    target = locate(call.path)
    verb = _verb(call, target)
    request = rbac.Request(
        verb, target.kind.group, target.kind.plural, target.part, target.namespace, target.name
    )
    _authorize(cluster, user, request)
    if "dryRun" in call.query or verb == "watch":
        raise errors.bad_request(
            f"The stand-in for K3s does not do {'a watch' if verb == 'watch' else 'dry runs'}."
        )
    return ACTIONS[verb](cluster, target, call)


def locate(path: str) -> Target:
    """Take a path such as /api/v1/namespaces/default/secrets/x apart; raises ApiError 404."""
    parts = [part for part in path.split("/") if part]
    group = "" if parts[0] == "api" else "".join(parts[1:2])
    version, rest = (parts[1:2], parts[2:]) if parts[0] == "api" else (parts[2:3], parts[3:])
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and by_plural(group, rest[2]):
        namespace, rest = rest[1], rest[2:]
    kind = by_plural(group, rest[0]) if rest else None
    name, part = "".join(rest[1:2]), "".join(rest[2:3])
    if kind is None or version != ["v1"] or len(rest) > 3 or part not in {"", "status"}:
        raise errors.no_such_path()
    if kind.namespaced and name and not namespace:
        raise errors.no_such_path()
    return Target(kind, namespace, name, part)


def _verb(call: Call, target: Target) -> str:
    if call.method == "GET":
        if call.query.get("watch") in {"1", "true"}:
            return "watch"
        return "get" if target.name else "list"
    if call.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    verb = VERBS.get(call.method, "")
    needs_name = verb != "create"
    if (
        not verb
        or needs_name != bool(target.name)
        or (not needs_name and target.kind.namespaced and not target.namespace)
    ):
        raise errors.ApiError(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )
    return verb


def _authorize(cluster: Cluster, user: User, request: rbac.Request) -> None:
    if not rbac.allowed(user, request, cluster.store.list):
        raise errors.forbidden(rbac.refusal(user, request))


def _outside_resources(cluster: Cluster, user: User, call: Call) -> Answer:
    _authorize(cluster, user, rbac.Request(call.method.lower(), path=call.path))
    if call.path in {"/readyz", "/livez", "/healthz"}:
        cluster.store.revision()  # the database answers
        return Answer(b"ok")
    if call.path == "/version":
        return Answer(
            {"major": "0", "minor": "0", "gitVersion": VERSION, "platform": "stand-in, runs no containers"}
        )
    raise errors.no_such_path()


def _get(cluster: Cluster, target: Target, _call: Call) -> Answer:
    return Answer(cluster.get(target.kind, target.namespace, target.name))


def _create(cluster: Cluster, target: Target, call: Call) -> Answer:
    return Answer(cluster.create(target.kind, target.namespace, _object(call)), 201)


def _update(cluster: Cluster, target: Target, call: Call) -> Answer:
    body = _object(call)
    changed = cluster.change(target.kind, target.namespace, target.name, lambda _: body, part=target.part)
    return Answer(changed)


def _delete(cluster: Cluster, target: Target, call: Call) -> Answer:
    wanted = (_object(call) if call.body else {}).get("preconditions") or {}
    meta = cluster.delete(target.kind, target.namespace, target.name, wanted)["metadata"]
    details = {"name": meta["name"], "kind": target.kind.resource, "uid": meta["uid"]}
    success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return Answer(success)


def _delete_collection(cluster: Cluster, target: Target, call: Call) -> Answer:
    chosen = _list(cluster, target, call)
    for body in chosen["items"]:
        cluster.delete(target.kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])
    return Answer(chosen)


def _list(cluster: Cluster, target: Target, call: Call) -> Object:
    if "as=Table" in call.headers.get("accept", ""):
        return _table(cluster, target)
    labels, fields = call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")
    found = cluster.store.list(target.kind, target.namespace or None)
    items = [
        {key: value for key, value in body.items() if key not in {"apiVersion", "kind"}}
        for body in found
        if selectors.matches(body, labels, fields)
    ]
    return {
        "kind": f"{target.kind.name}List",
        "apiVersion": target.kind.api_version,
        "metadata": {"resourceVersion": str(cluster.store.revision())},
        "items": items,
    }


def _table(cluster: Cluster, target: Target) -> Object:
    """The table of pods that kubectl prints: its columns, and no rows, since there are no containers."""
    if target.kind is not PODS:
        raise errors.ApiError(406, "NotAcceptable", "The stand-in for K3s prints no tables but that of pods.")
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": str(cluster.store.revision())},
        "columnDefinitions": [{"name": name, "type": "string"} for name in POD_COLUMNS],
        "rows": [],
    }


def _patch(cluster: Cluster, target: Target, call: Call) -> Answer:
    kind, namespace, name = target.kind, target.namespace, target.name
    content_type = call.headers.get("content-type", "").partition(";")[0].strip()
    given = _parsed(call, as_yaml=content_type == patches.APPLY)
    if content_type == patches.APPLY and not target.part and isinstance(given, dict):
        given.setdefault("metadata", {})["name"] = name
        body, is_new = cluster.apply(
            kind, namespace, given, lambda old: patches.apply(content_type, old, given)
        )
        return Answer(body, 201 if is_new else 200)
    changed = cluster.change(
        kind, namespace, name, lambda old: patches.apply(content_type, old, given), part=target.part
    )
    return Answer(changed)


def _object(call: Call) -> Object:
    body = _parsed(call)
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be a JSON object")
    return body


def _parsed(call: Call, *, as_yaml: bool = False) -> Any:
    try:
        return yaml.safe_load(call.body) if as_yaml else json.loads(call.body)
    except (ValueError, yaml.YAMLError) as exc:
        raise errors.bad_request("the body cannot be read: JSON is needed") from exc


ACTIONS: dict[str, Callable[[Cluster, Target, Call], Answer]] = {
    "get": _get,
    "list": lambda cluster, target, call: Answer(_list(cluster, target, call)),
    "create": _create,
    "update": _update,
    "patch": _patch,
    "delete": _delete,
    "deletecollection": _delete_collection,
}
