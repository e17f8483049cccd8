"""A real Kubernetes as processes on loopback: etcd, API server, controllers, and kubelets that run no containers."""

from __future__ import annotations

import base64
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jinja2
import yaml

from tests.k3s_stand_in.machines import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
ROLE = ROOT / "roles/k3s_server"
PATIENCE = 120.0  # seconds for a start; a busy machine takes its time
PATHS = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "Secret": "/api/v1/namespaces/kube-system/secrets",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings",
}


class ControlPlane:
    """Started by `start`, one process after the other; `directory` holds their files and their logs."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self.binaries, self.directory = binaries, directory
        self.port, self.etcd_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.token = secrets.token_hex(16)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._make_certificates()
        (directory / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self.kubeconfig("admin", self.token)
        self.admin = self.client(self.token)

    # ---- files

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def kubeconfig(self, name: str, token: str) -> Path:
        cluster = {"server": self.url, "certificate-authority": self.path("ca.crt")}
        file = self.directory / f"{name}.kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "it",
                    "clusters": [{"name": "it", "cluster": cluster}],
                    "users": [{"name": "it", "user": {"token": token}}],
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                }
            )
        )
        return file

    def _make_certificates(self) -> None:
        subject = ["-days", "2", "-nodes", "-newkey", "rsa:2048", "-x509"]
        self._openssl("req", *subject, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
        self._openssl(
            "req",
            "-nodes",
            "-newkey",
            "rsa:2048",
            "-subj",
            "/CN=api",
            "-keyout",
            "api.key",
            "-out",
            "api.csr",
        )
        (self.directory / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:kubernetes\n")
        signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
        self._openssl("x509", "-req", "-in", "api.csr", *signing, "-out", "api.crt")
        self._openssl("genrsa", "-out", "accounts.key", "2048")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    # ---- processes

    def start(self) -> None:
        self.start_etcd()
        self.start_api_server()
        self.start_controllers()

    def start_etcd(self) -> None:
        url, peers = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        self._spawn(
            "etcd",
            "etcd",
            f"--data-dir={self.path('etcd')}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )
        wait_until(lambda: _answers(lambda: httpx2.get(f"{url}/health")), PATIENCE)

    def start_api_server(self) -> None:
        self._spawn(
            "api",
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.43.0.0/24",
            "--authorization-mode=Node,RBAC",
            "--enable-bootstrap-token-auth",
            f"--token-auth-file={self.path('tokens.csv')}",
            f"--tls-cert-file={self.path('api.crt')}",
            f"--tls-private-key-file={self.path('api.key')}",
            "--service-account-issuer=https://kubernetes",
            f"--service-account-key-file={self.path('accounts.key')}",
            f"--service-account-signing-key-file={self.path('accounts.key')}",
        )
        wait_until(lambda: _answers(lambda: self.admin.get("/readyz")), PATIENCE)

    def start_controllers(self) -> None:
        self._spawn(
            "controllers",
            "kube-controller-manager",
            f"--kubeconfig={self.path('admin.kubeconfig')}",
            "--leader-elect=false",
            "--port=0",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.path('controllers')}",
            f"--service-account-private-key-file={self.path('accounts.key')}",
            f"--root-ca-file={self.path('ca.crt')}",
            "--controllers=nodelifecycle,serviceaccount,serviceaccount-token,tokencleaner",
            "--node-monitor-period=1s",
            "--node-monitor-grace-period=15s",
        )
        accounts = "/api/v1/namespaces/default/serviceaccounts/default"  # pods need it
        wait_until(lambda: _answers(lambda: self.admin.get(accounts)), PATIENCE)

    def start_kubelet(self, node: str) -> None:
        """A kubelet that registers the node and renews its lease, and takes pods for running."""
        self._spawn(
            node,
            "kubemark",
            "--morph=kubelet",
            f"--name={node}",
            f"--kubeconfig={self.path('admin.kubeconfig')}",
            f"--kubelet-port={free_port()}",
            f"--kubelet-read-only-port={free_port()}",
        )
        process = self.processes[node]

        def registered() -> bool:
            assert process.poll() is None, f"the kubelet of {node} has ended:\n{self.log(node)}"
            return _answers(lambda: self.admin.get(f"/api/v1/nodes/{node}"))

        wait_until(registered, PATIENCE)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def destroy(self) -> None:
        self.admin.close()
        for name in list(self.processes):
            self.stop(name)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-4000:]

    def _spawn(self, name: str, command: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [self.binaries / command, *arguments], cwd=self.directory, stdout=log, stderr=log
            )

    # ---- the API

    def client(self, token: str) -> httpx2.Client:
        context = ssl.create_default_context(cafile=self.path("ca.crt"))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, verify=context, headers=headers, timeout=20, trust_env=False)

    def create(self, path: str, body: dict[str, Any]) -> None:
        self.admin.post(path, json=body).raise_for_status()

    def apply_role(self) -> Path:
        """Apply what the role k3s_server gives the control API, and return the account's kubeconfig."""
        name = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["k3s_server_client_name"]
        for document in self._rendered(name):
            self.create(PATHS[document["kind"]], document)
        secret = f"{PATHS['Secret']}/{name}-token"
        data = wait_until(lambda: (self.admin.get(secret).json().get("data") or {}).get("token"), PATIENCE)
        return self.kubeconfig("control-api", base64.b64decode(data).decode())

    def _rendered(self, name: str) -> Iterator[dict[str, Any]]:
        templates = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        templates.filters["comment"] = lambda text: f"# {text}"
        template = templates.from_string((ROLE / "templates/client.yaml.j2").read_text())
        yield from yaml.safe_load_all(template.render(ansible_managed="tests", k3s_server_client_name=name))

    def run_pods(self, node: str, count: int, prefix: str) -> None:
        """Bind pods to a node, as a scheduler would, and wait until its kubelet runs them."""
        for number in range(count):
            container = {"name": "c", "image": "example/nothing"}
            pod = {
                "metadata": {"name": f"{prefix}-{number}"},
                "spec": {"nodeName": node, "containers": [container]},
            }
            self.create("/api/v1/namespaces/default/pods", pod)

    def finish_pod(self, name: str) -> None:
        """Let a pod be done, which frees its place on the node."""
        status = {"status": {"phase": "Succeeded"}}
        kind = {"Content-Type": "application/merge-patch+json"}
        path = f"/api/v1/namespaces/default/pods/{name}/status"
        self.admin.patch(path, json=status, headers=kind).raise_for_status()


def _answers(ask: Callable[[], httpx2.Response]) -> bool:
    time.sleep(0.2)
    try:
        return ask().status_code == 200
    except httpx2.HTTPError:
        return False
