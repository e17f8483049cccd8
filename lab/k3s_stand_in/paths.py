"""Where K3s keeps its files, below one root that only tests change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """`root` is / but in tests; `data` is K3s' data-dir."""

    root: Path
    data: Path

    @property
    def config_file(self) -> Path:
        return self.root / "etc/rancher/k3s/config.yaml"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "etc/rancher/k3s/k3s.yaml"

    @property
    def node(self) -> Path:
        """Survives an uninstall of K3s, as K3s' own does."""
        return self.root / "etc/rancher/node"

    @property
    def server(self) -> Path:
        return self.data / "server"

    @property
    def tls(self) -> Path:
        return self.server / "tls"

    @property
    def manifests(self) -> Path:
        return self.server / "manifests"

    @property
    def database(self) -> Path:
        return self.server / "db" / "state.db"

    @property
    def external(self) -> Path:
        """What K3s would keep in the database that datastore-endpoint names."""
        return self.server / "external.db"

    @property
    def etcd(self) -> Path:
        """There when this server is a member of an etcd cluster."""
        return self.server / "db" / "etcd"

    @property
    def agent(self) -> Path:
        return self.data / "agent"


def find(environ: Mapping[str, str], data_dir: str = "") -> Paths:
    """The paths for this environment; `data_dir` as given to --data-dir, empty for the default."""
    root = Path(environ.get("K3S_STAND_IN_ROOT", "/"))
    return Paths(root, Path(data_dir) if data_dir else root / "var/lib/rancher/k3s")


def write(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Replace `path` atomically and durably; it never exists with a wider mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(mode)
    fresh.replace(path)
