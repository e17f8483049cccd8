"""The Kubernetes kinds that the stand-in keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import StandInError

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Kind:
    """One kind; `group` is empty for the core group."""

    plural: str
    name: str
    group: str = ""
    namespaced: bool = True
    short: str = ""
    has_status: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None, name: str = "") -> str:
        """URL path; no namespace means all of them."""
        base = f"/apis/{self.api_version}" if self.group else "/api/v1"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{base}{inside}/{self.plural}" + (f"/{name}" if name else "")


NODES = Kind("nodes", "Node", namespaced=False, short="no", has_status=True)
NAMESPACES = Kind("namespaces", "Namespace", namespaced=False, short="ns", has_status=True)
SECRETS = Kind("secrets", "Secret")
CONFIG_MAPS = Kind("configmaps", "ConfigMap", short="cm")
SERVICE_ACCOUNTS = Kind("serviceaccounts", "ServiceAccount", short="sa")
PODS = Kind("pods", "Pod", short="po", has_status=True)
LEASES = Kind("leases", "Lease", "coordination.k8s.io")
ROLES = Kind("roles", "Role", RBAC)
ROLE_BINDINGS = Kind("rolebindings", "RoleBinding", RBAC)
CLUSTER_ROLES = Kind("clusterroles", "ClusterRole", RBAC, namespaced=False)
CLUSTER_ROLE_BINDINGS = Kind("clusterrolebindings", "ClusterRoleBinding", RBAC, namespaced=False)
KINDS = (
    NODES, NAMESPACES, SECRETS, CONFIG_MAPS, SERVICE_ACCOUNTS, PODS, LEASES,
    ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS,
)  # fmt: skip


def by_plural(group: str, plural: str) -> Kind | None:
    return next((kind for kind in KINDS if (kind.group, kind.plural) == (group, plural)), None)


def by_word(word: str) -> Kind:
    """The kind that a person means by nodes, node, no or Node; raises StandInError."""
    lower = word.lower()
    for kind in KINDS:
        if lower in {kind.plural, kind.name.lower(), kind.resource} or (kind.short and lower == kind.short):
            return kind
    raise StandInError(f'the server doesn\'t have a resource type "{word}"')


def of_object(manifest: object) -> Kind:
    """The kind of a manifest; raises StandInError when it is none or one that the stand-in does not keep."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("metadata"), dict):
        raise StandInError("a manifest needs apiVersion, kind and metadata")
    for kind in KINDS:
        if (manifest.get("apiVersion"), manifest.get("kind")) == (kind.api_version, kind.name):
            return kind
    raise StandInError(
        f'no matches for kind "{manifest.get("kind")}" in version "{manifest.get("apiVersion")}": '
        "the stand-in does not keep it"
    )
