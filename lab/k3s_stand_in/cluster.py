"""Creates, changes and deletes objects by Kubernetes' rules, and does what follows from it."""

from __future__ import annotations

import base64
import binascii
import copy
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from . import errors, identity, node_password, tokens
from .kinds import (
    CLUSTER_ROLES,
    KINDS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    RBAC,
    SECRETS,
    SERVICE_ACCOUNTS,
    Kind,
    Object,
)
from .store import Store

NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")
STAMPED = ("name", "namespace", "uid", "creationTimestamp", "generateName")
FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
ACCOUNT_OF = "kubernetes.io/service-account.name"


class Cluster:
    """All objects of the cluster; errors are ApiErrors as Kubernetes answers them."""

    def __init__(self, store: Store, ca: bytes, signing_key: bytes) -> None:
        self.store = store
        self._ca = ca
        self._signing_key = signing_key

    def begin(self) -> None:
        """Make what every cluster has."""
        with self.store.transaction():
            for name in FIRST_NAMESPACES:
                if self.store.get(NAMESPACES, "", name) is None:
                    self.create(NAMESPACES, "", _named("v1", "Namespace", name))
            if self.store.get(CLUSTER_ROLES, "", "cluster-admin") is None:
                everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
                role = _named(f"{RBAC}/v1", "ClusterRole", "cluster-admin")
                self.create(CLUSTER_ROLES, "", role | {"rules": [everything]})

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise errors.not_found(kind.resource, name)
        return found

    def create(self, kind: Kind, namespace: str, given: Object) -> Object:
        if kind is PODS:
            raise errors.ApiError(405, "MethodNotAllowed", "The stand-in for K3s runs no containers.")
        body = _fresh(kind, namespace, given)
        name = body["metadata"]["name"]
        with self.store.transaction():
            if kind.namespaced and self.store.get(NAMESPACES, "", namespace) is None:
                raise errors.not_found("namespaces", namespace)
            if self.store.get(kind, namespace, name) is not None:
                raise errors.already_exists(kind.resource, name)
            _check(kind, body)
            self.store.put(kind, body)
            self._after_write(kind, namespace, name)
            return self.get(kind, namespace, name)

    def change(
        self, kind: Kind, namespace: str, name: str, make: Callable[[Object], Object], *, part: str = ""
    ) -> Object:
        """Replace an object by make(object); `part` is "" or "status", the other half stays as it is."""
        with self.store.transaction():
            old = self.get(kind, namespace, name)
            body = _changed(kind, old, make(copy.deepcopy(old)), part)
            if body == old:
                return old
            _check(kind, body)
            self.store.put(kind, body)
            self._after_write(kind, namespace, name)
            return self.get(kind, namespace, name)

    def apply(
        self, kind: Kind, namespace: str, manifest: Object, make: Callable[[Object], Object]
    ) -> tuple[Object, bool]:
        """Create the object or change it by `make`; returns it and whether it is new."""
        name = manifest.get("metadata", {}).get("name", "")
        with self.store.transaction():
            if self.store.get(kind, namespace, name) is None:
                return self.create(kind, namespace, manifest), True
            return self.change(kind, namespace, name, make), False

    def delete(
        self, kind: Kind, namespace: str, name: str, preconditions: Mapping[str, str] | None = None
    ) -> Object:
        """Delete and return the object, with all that goes with it.

        preconditions: uid and resourceVersion that it must have, else 409.
        """
        with self.store.transaction():
            body = self.get(kind, namespace, name)
            wanted = preconditions or {}
            if any(body["metadata"].get(field) != value for field, value in wanted.items()):
                raise errors.conflict(kind.resource, name)
            self.store.delete(kind, namespace, name)
            self._after_delete(kind, namespace, name)
        return body

    def _after_write(self, kind: Kind, namespace: str, name: str) -> None:
        if kind is NAMESPACES and self.store.get(SERVICE_ACCOUNTS, name, "default") is None:
            self.create(SERVICE_ACCOUNTS, name, _named("v1", "ServiceAccount", "default"))
        if kind in {SECRETS, SERVICE_ACCOUNTS}:
            self._fill_account_tokens(namespace)

    def _after_delete(self, kind: Kind, namespace: str, name: str) -> None:
        if kind is NODES:
            # K3s' node controller removes the password, so that a new machine may take the name.
            self.store.delete(SECRETS, "kube-system", node_password.secret_name(name))
            self.store.delete(LEASES, "kube-node-lease", name)
        if kind is SERVICE_ACCOUNTS:
            for secret in self._account_secrets(namespace):
                if _account_of(secret) == name:
                    self.store.delete(SECRETS, namespace, secret["metadata"]["name"])
        if kind is NAMESPACES:
            for inner in (inner for inner in KINDS if inner.namespaced):
                for body in self.store.list(inner, name):
                    self.store.delete(inner, name, body["metadata"]["name"])

    def _account_secrets(self, namespace: str) -> list[Object]:
        found = self.store.list(SECRETS, namespace)
        return [secret for secret in found if secret.get("type") == identity.ACCOUNT_TOKEN]

    def _fill_account_tokens(self, namespace: str) -> None:
        for secret in self._account_secrets(namespace):
            account = self.store.get(SERVICE_ACCOUNTS, namespace, _account_of(secret))
            if account is None or "token" in (secret.get("data") or {}):
                continue
            token = identity.account_token(account, secret["metadata"]["name"], self._signing_key)
            values = {"token": token.encode(), "ca.crt": self._ca, "namespace": namespace.encode()}
            encoded = {key: base64.b64encode(value).decode() for key, value in values.items()}
            secret["data"] = (secret.get("data") or {}) | encoded
            self.store.put(SECRETS, secret)


def timestamp(now: datetime | None = None) -> str:
    return (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(api_version: str, kind: str, name: str) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


def _account_of(secret: Object) -> str:
    annotations = secret["metadata"].get("annotations") or {}
    return str(annotations.get(ACCOUNT_OF, ""))


def _fresh(kind: Kind, namespace: str, given: Object) -> Object:
    meta = dict(given.get("metadata") or {})
    name = meta.get("name") or (
        meta.get("generateName", "") + tokens.generate()[:5] if "generateName" in meta else ""
    )
    if not isinstance(name, str) or len(name) > 253 or not NAME.fullmatch(name):
        raise errors.invalid(kind.name, str(name), "metadata.name: a lowercase RFC 1123 subdomain is needed")
    if kind.namespaced and meta.get("namespace", namespace) != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace of the request"
        )
    meta |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
    if kind.namespaced:
        meta["namespace"] = namespace
    return given | {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta}


def _changed(kind: Kind, old: Object, new: Object, part: str) -> Object:
    meta = dict(new.get("metadata") or {})
    asked = meta.get("resourceVersion")
    if asked not in {None, "", old["metadata"]["resourceVersion"]}:
        raise errors.conflict(kind.resource, old["metadata"]["name"])
    if part == "status":
        return old | {"status": new.get("status", {})}
    kept = {key: old["metadata"][key] for key in (*STAMPED, "resourceVersion") if key in old["metadata"]}
    body = new | {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta | kept}
    if kind.has_status and "status" in old:
        body["status"] = old["status"]
    if kind is SECRETS and old.get("immutable") and _content(body) != _content(old):
        raise errors.invalid(
            "Secret", meta.get("name", ""), "data: field is immutable when `immutable` is set"
        )
    return body


def _content(secret: Object) -> tuple[object, object]:
    return secret.get("data"), secret.get("stringData")


def _check(kind: Kind, body: Object) -> None:
    """Complete and check what only one kind has."""
    if kind is not SECRETS:
        return
    body.setdefault("type", "Opaque")
    data = dict(body.get("data") or {})
    for key, text in (body.pop("stringData", None) or {}).items():
        data[key] = base64.b64encode(str(text).encode()).decode()
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as exc:
            raise errors.bad_request(
                f'Secret in version "v1" cannot be handled: data.{key} is not base64'
            ) from exc
    if data:
        body["data"] = data
