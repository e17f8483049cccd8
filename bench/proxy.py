"""nginx with TLS as the role `nginx` installs it: its templates and defaults, in a directory and on a port of ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import free_port, process, wait_for_port
from bench.roles import render

OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=127.0.0.1 "
    "-addext subjectAltName=IP:127.0.0.1 -addext keyUsage=critical,digitalSignature,keyCertSign"
)


@dataclass(frozen=True)
class Proxy:
    """An nginx that serves; `certificate` is what its clients trust."""

    pid: int
    port: int
    certificate: Path


@contextmanager
def proxy(upstream: int, directory: Path, *, processes: int) -> Iterator[Proxy]:
    """Run nginx in front of the port `upstream` with this many processes."""
    port, home = free_port(), directory / "nginx"
    home.mkdir()
    directory.chmod(0o755)
    certificate, key = home / "api.crt", home / "api.key"
    subprocess.run([*OPENSSL.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    variables = {
        "nginx_worker_processes": processes,
        "nginx_upstream_port": upstream,
        "nginx_certificate_file": certificate,
        "nginx_certificate_key_file": key,
        "nginx_challenge_dir": home,
        "__nginx_ipv6": False,
    }
    _write(home, port, variables)
    command: list[str | Path] = ["/usr/sbin/nginx", "-c", home / "nginx.conf", "-g", "daemon off;"]
    with process(command, log=home / "log") as running:
        wait_for_port(port, running, home / "log")
        yield Proxy(running.pid, port, certificate)


def available() -> bool:
    """Say whether this machine has nginx."""
    return shutil.which("/usr/sbin/nginx") is not None


def _write(home: Path, port: int, variables: dict[str, object]) -> None:
    """Render the role's templates; only ports of loopback and directories are exchanged."""
    site = render("nginx", "muster.conf.j2", **variables)
    site = site.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    (home / "muster.conf").write_text(site.replace("listen 80 ", f"listen 127.0.0.1:{free_port()} "))
    main = render("nginx", "nginx.conf.j2", **variables)
    for installed, ours in (
        ("/etc/nginx/conf.d/*.conf", home / "muster.conf"),
        ("include /etc/nginx/sites-enabled/*;", ""),
        ("include /etc/nginx/modules-enabled/*.conf;", ""),
        ("/var/log/nginx", home),
        ("/run/nginx.pid", home / "pid"),
    ):
        if installed not in main:
            raise SystemExit(f"The role's nginx.conf has no {installed}.")
        main = main.replace(installed, str(ours))
    (home / "nginx.conf").write_text(main)
