"""The own certificate and the public one, on the lab of all e2e tests; the tests that follow find it with both."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.acme import Acme
from tests.e2e.conftest import wait_until

if TYPE_CHECKING:
    from tests.e2e.conftest import Lab

pytestmark = pytest.mark.lab

DOMAIN = "paas.example.org"
SITE = ["playbooks/site.yml", "--tags=nginx,k3s,certbot"]  # what has the site's name in it


@pytest.fixture(scope="module")
def acme(lab: Lab) -> Iterator[Acme]:
    """The server, and an inventory that asks it for a certificate; runs after this module find one, and no server."""
    acme = Acme(lab.gateway, lab.state)
    try:
        acme.start()
        wanted = {
            "cluster_domain": DOMAIN,
            "certbot_email": "admin@example.org",
            "certbot_acme_server": acme.url,
            "certbot_ca_bundle": str(acme.bundle),
        }
        (lab.state / "inventory/group_vars/all/certificate.yml").write_text(json.dumps(wanted))
        yield acme
    finally:
        acme.stop()


def serial(lab: Lab, name: str, authority: str) -> str:
    """The serial number of the certificate that is served under a name; fails when it is not of this authority."""
    context = ssl.create_default_context(cadata=authority)
    with (
        socket.create_connection((lab.addresses["master"], 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return str(connection.getpeercert()["serialNumber"])


def own(lab: Lab) -> str:
    return lab.on("master", "cat /etc/muster/tls/ca.crt")


def answer(lab: Lab, url: str, *options: str) -> str:
    """The head of an answer, whatever certificate it comes with."""
    command = ["curl", "--silent", "--insecure", "--dump-header", "-", "--output", "/dev/null"]
    for port in (80, 443):
        command += ["--resolve", f"{DOMAIN}:{port}:{lab.addresses['master']}"]
    command += [*options, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.lower()


def test_a_refused_certificate_says_why_and_leaves_the_own_one_in_service(lab: Lab, acme: Acme) -> None:
    acme.let_lead(DOMAIN, lab.gateway)  # this machine, which has no web server
    said = " ".join(lab.playbook(*SITE, check=False).split())
    assert f"There is no new certificate, because port 80 of {DOMAIN} does not answer the ACME server" in said
    assert "failed=1" in said
    assert serial(lab, DOMAIN, own(lab)) == serial(lab, lab.addresses["master"], own(lab))


def test_a_certificate_is_got_over_http_and_no_worker_is_lost(lab: Lab, acme: Acme) -> None:
    acme.let_lead(DOMAIN, lab.addresses["master"])
    before = serial(lab, lab.addresses["master"], own(lab))
    lab.playbook(*SITE)
    assert serial(lab, DOMAIN, acme.roots) != before
    assert serial(lab, lab.addresses["master"], own(lab)) == before
    for worker in ("worker1", "worker2"):
        lab.wait_for_status(worker, "ACTIVE", seconds=5)
        assert lab.on(worker, "systemctl show --property=NRestarts muster-agent").strip() == "NRestarts=0"


def test_the_timer_s_service_renews_what_is_due_and_nginx_serves_it(lab: Lab, acme: Acme) -> None:
    before = serial(lab, DOMAIN, acme.roots)
    main_pid = lab.on("master", "systemctl show --property=MainPID nginx")
    make_due(lab)
    lab.on("master", "systemctl start certbot.service")
    # nginx says that it has reloaded before the last of its old processes has stopped accepting.
    wait_until(lambda: serial(lab, DOMAIN, acme.roots) != before, 10, "the old certificate is still served")
    assert lab.on("master", "systemctl show --property=MainPID nginx") == main_pid
    assert lab.on("master", "systemctl is-active certbot.timer").strip() == "active"


def test_a_refused_renewal_leaves_the_old_certificate_in_service(lab: Lab, acme: Acme) -> None:
    before = serial(lab, DOMAIN, acme.roots)
    acme.let_lead(DOMAIN, lab.gateway)
    make_due(lab)
    assert "failed" in lab.on(
        "master", "systemctl start certbot.service || systemctl is-failed certbot.service"
    )
    assert serial(lab, DOMAIN, acme.roots) == before
    lab.on("master", "systemctl reset-failed certbot.service")


def make_due(lab: Lab) -> None:
    """pebble's certificates are valid for years: say that decades before the end is late."""
    conf = "/etc/letsencrypt/renewal/muster.conf"
    lab.on("master", f"sed --in-place 's/^.*renew_before_expiry.*/renew_before_expiry = 9000 days/' {conf}")


@pytest.mark.parametrize("name", [DOMAIN, "master.invalid"])
def test_what_is_older_than_tls_1_2_is_refused(lab: Lab, acme: Acme, name: str) -> None:
    def shake_hands(version: str) -> bool:
        command = ["openssl", "s_client", "-connect", f"{lab.addresses['master']}:443", "-servername", name]
        command += [f"-{version}", "-cipher", "ALL@SECLEVEL=0"]
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
            == 0
        )

    assert [version for version in ("tls1", "tls1_1", "tls1_2") if shake_hands(version)] == ["tls1_2"]


def test_http_leads_to_https_but_for_challenges(lab: Lab, acme: Acme) -> None:
    redirect = answer(lab, f"http://{DOMAIN}/fleet?status=ACTIVE")
    assert "http/1.1 308" in redirect
    assert f"location: https://{DOMAIN}/fleet?status=active" in redirect
    assert "http/1.1 404" in answer(lab, f"http://{DOMAIN}/.well-known/acme-challenge/none")


def test_browsers_are_told_to_stay_with_https_where_the_certificate_is_public(lab: Lab, acme: Acme) -> None:
    assert "strict-transport-security" in answer(lab, f"https://{DOMAIN}/")
    assert "strict-transport-security" not in answer(lab, lab.url + "/")


def test_a_body_that_is_too_large_goes_no_further(lab: Lab, acme: Acme) -> None:
    large = lab.state / "large"
    large.write_bytes(b" " * (1024 * 1024 + 1))
    assert "413" in answer(lab, lab.url + "/api/auth/login", "--data-binary", f"@{large}").splitlines()[0]


def test_an_event_passes_as_soon_as_it_happens(lab: Lab, acme: Acme) -> None:
    url = lab.url + "/api/events"
    command = ["curl", "--silent", "--no-buffer", "--insecure", "--header", "@-", "--max-time", "30", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        reader.stdin.write(f"Authorization: Bearer {lab.access_token}\n")
        reader.stdin.close()
        visitor = lab.register(hostname="passer-by", ipAddress=lab.gateway, cpuCores=1)
        try:
            assert any(visitor in line for line in reader.stdout)
        finally:
            lab.remove(visitor)
            reader.kill()


def test_the_access_log_holds_no_secret(lab: Lab, acme: Acme) -> None:
    secret = "do-not-write-this-down"
    options = ["--header", f"Authorization: Bearer {secret}", "--referer", f"https://example.org/?{secret}"]
    answer(lab, f"https://{DOMAIN}/api/workers?token={secret}", *options, "--user", f"{secret}:{secret}")
    answer(lab, f"http://{DOMAIN}/api/workers?token={secret}")
    log = lab.on("master", "cat /var/log/nginx/access.log")
    assert '"GET /api/workers HTTP/1.1" 401' in log
    assert '"GET /api/workers HTTP/1.1" 308' in log
    assert secret not in log
