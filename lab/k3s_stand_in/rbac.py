"""Who may do what: Kubernetes' RBAC rules, and what its node authorizer allows a kubelet; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .identity import MASTERS, User
from .kinds import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Kind, Object

List = Callable[[Kind, str | None], list[Object]]
OPEN_PATHS = {"/version", "/readyz", "/livez", "/healthz"}  # system:public-info-viewer


@dataclass(frozen=True)
class Request:
    """What is asked for; `path` is set instead of a resource for the URLs outside the resources."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


def allowed(user: User, request: Request, read: List) -> bool:
    """Whether the user may; `read` lists the objects of a kind."""
    if MASTERS in user.groups or request.path in OPEN_PATHS:
        return True
    if user.node:
        return _node_may(user.node, request)
    return any(_covers(rule, request) for rule in _rules(user, request.namespace, read))


def refusal(user: User, request: Request) -> str:
    """The sentence of Kubernetes' 403."""
    if request.path:
        return f'User "{user.name}" cannot {request.verb} path "{request.path}"'
    what = request.resource + (f"/{request.subresource}" if request.subresource else "")
    full = f"{request.resource}.{request.group}" if request.group else request.resource
    named = f'{full} "{request.name}"' if request.name else full
    where = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    asks = f'cannot {request.verb} resource "{what}" in API group "{request.group}" {where}'
    return f'{named} is forbidden: User "{user.name}" {asks}'


def _node_may(node: str, request: Request) -> bool:
    reads = request.verb in {"get", "list", "watch"}
    if (request.group, request.resource) == ("", "nodes"):
        return (
            reads
            or request.verb == "create"
            or (request.name == node and request.verb in {"patch", "update"})
        )
    if request.resource == "leases":
        return request.namespace == "kube-node-lease" and (request.verb == "create" or request.name == node)
    return request.resource == "pods" and reads


def _rules(user: User, namespace: str, read: List) -> Iterator[Object]:
    for binding in read(CLUSTER_ROLE_BINDINGS, None):
        if _binds(binding, user):
            yield from _role_rules(CLUSTER_ROLES, binding, None, read)
    if not namespace:
        return
    for binding in read(ROLE_BINDINGS, namespace):
        if _binds(binding, user):
            kind = CLUSTER_ROLES if binding.get("roleRef", {}).get("kind") == "ClusterRole" else ROLES
            yield from _role_rules(kind, binding, namespace if kind is ROLES else None, read)


def _role_rules(kind: Kind, binding: Object, namespace: str | None, read: List) -> Iterator[Object]:
    name = binding.get("roleRef", {}).get("name")
    for role in read(kind, namespace):
        if role["metadata"]["name"] == name:
            yield from role.get("rules") or []


def _binds(binding: Object, user: User) -> bool:
    return any(_is(subject, user) for subject in binding.get("subjects") or [])


def _is(subject: Object, user: User) -> bool:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
    return user.name == name if kind == "User" else kind == "Group" and name in user.groups


def _covers(rule: Object, request: Request) -> bool:
    if not _has(rule.get("verbs"), request.verb):
        return False
    if request.path:
        return _has(rule.get("nonResourceURLs"), request.path)
    resource = request.resource + (f"/{request.subresource}" if request.subresource else "")
    names = rule.get("resourceNames") or []
    return (
        _has(rule.get("apiGroups"), request.group)
        and _has(rule.get("resources"), resource)
        and (not names or request.name in names)
    )


def _has(values: list[str] | None, wanted: str) -> bool:
    return values is not None and (wanted in values or "*" in values)
