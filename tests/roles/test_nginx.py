"""The authority and the certificates that the role `nginx` makes, by the real ansible-playbook, in a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAME, ADDRESS = "paas.example.org", "192.0.2.10"
# Ansible gives the files to root: whoever is not root is it in a namespace of the test's own.
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


class Certificates:
    """A directory as /etc/muster/tls is on a master."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca, self.own, self.public = home / "ca.crt", home / "api.crt", home / "public.crt"

    def make(self, *names: str, check: bool = True, **given: Any) -> str:
        """Run the role's tasks; what was said."""
        defaults = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
        paths = {
            "nginx_ca_file": self.ca,
            "nginx_ca_key_file": self.home / "ca.key",
            "nginx_certificate_file": self.own,
            "nginx_certificate_key_file": self.home / "api.key",
            "nginx_public_certificate_file": self.public,
            "nginx_public_certificate_key_file": self.home / "public.key",
        }
        variables = {
            **defaults,
            **{key: str(path) for key, path in paths.items()},
            "nginx_names": names,
            "nginx_addresses": [ADDRESS],
            "ansible_python_interpreter": sys.executable,
            **given,
        }
        play = {
            "name": "Test",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": variables,
            "tasks": [
                {
                    "ansible.builtin.import_role": {
                        "name": "nginx",
                        "tasks_from": file,
                        "rolespec_validate": False,
                    }
                }
                for file in ("authority", "certificate")
            ],
        }
        (self.home / "play.json").write_text(json.dumps([play]))
        done = subprocess.run(
            [*AS_ROOT, Path(sys.executable).parent / "ansible-playbook", self.home / "play.json"],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode == 0) is check, done.stdout
        return " ".join(done.stdout.split())

    def is_trusted(self, certificate: Path, **asked: str) -> bool:
        """Whether a client that pins the authority accepts it for what it asked for, as strictly as Python 3.13."""
        options = [option for kind, value in asked.items() for option in (f"-verify_{kind}", value)]
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", self.ca]
        return (
            subprocess.run([*command, *options, certificate], capture_output=True, check=False).returncode
            == 0
        )

    def lasts(self, certificate: Path, days: int) -> bool:
        command = ["openssl", "x509", "-noout", "-in", certificate, "-checkend", str(days * 86400)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_the_own_authority_vouches_for_names_and_addresses_and_stays(certificates: Certificates) -> None:
    certificates.make()
    authority = certificates.ca.read_bytes()
    assert (certificates.home / "ca.key").stat().st_mode & 0o777 == 0o600
    assert not certificates.is_trusted(certificates.own, hostname=NAME)
    assert not certificates.public.exists()
    assert "changed=0" not in certificates.make(NAME)
    assert certificates.is_trusted(certificates.own, hostname=NAME)
    assert certificates.is_trusted(certificates.own, ip=ADDRESS)
    assert certificates.public.readlink() == certificates.own
    assert certificates.ca.read_bytes() == authority
    assert "changed=0" in certificates.make(NAME)


def test_what_is_in_its_last_third_is_signed_anew_with_the_same_key(certificates: Certificates) -> None:
    certificates.make(nginx_ca_days=900, nginx_certificate_days=100)
    key, before = (certificates.home / "ca.key").read_bytes(), certificates.own.read_bytes()
    assert "changed=0" in certificates.make(nginx_ca_days=900, nginx_certificate_days=290)
    certificates.make(nginx_ca_days=3650, nginx_certificate_days=825)
    assert certificates.lasts(certificates.ca, 3600)
    assert certificates.lasts(certificates.own, 800)
    assert (certificates.home / "ca.key").read_bytes() == key
    (certificates.home / "old.crt").write_bytes(before)
    assert certificates.is_trusted(certificates.home / "old.crt", ip=ADDRESS)


def test_a_damaged_key_of_the_authority_is_never_replaced(certificates: Certificates) -> None:
    (certificates.home / "ca.key").write_text("damaged")
    certificates.make(check=False)
    assert (certificates.home / "ca.key").read_text() == "damaged"


def test_a_public_certificate_stays_for_as_long_as_it_is_for_all_names(certificates: Certificates) -> None:
    issued = certificates.home / "fullchain.pem"
    options = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -subj /CN=x"
    )
    command = ["openssl", *options.split(), "-addext", f"subjectAltName=DNS:{NAME}", "-out", str(issued)]
    subprocess.run(command, capture_output=True, check=True)
    certificates.public.symlink_to(issued)
    certificates.make(NAME)
    assert certificates.public.readlink() == issued
    certificates.make("new.example.org")
    assert certificates.public.readlink() == certificates.own
