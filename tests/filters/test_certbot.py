"""What certbot prints becomes one sentence."""

from __future__ import annotations

import pytest

from filter_plugins.certbot import certbot_failure

SERVER = "https://acme.example.org/dir"
REFUSED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Account registered.
Requesting a certificate for paas.example.org

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: paas.example.org
  Type:   {kind}
  Detail: {detail}

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""
UNEXPECTED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
An unexpected error occurred:
{detail}
Ask for help or search for solutions at https://community.letsencrypt.org.
"""
POOL = "HTTPSConnectionPool(host='acme.example.org', port=443): Max retries exceeded with url: /dir"
UNTRUSTED = (
    f"requests.exceptions.SSLError: {POOL} (Caused by SSLError(SSLCertVerificationError(1, "
    "'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:992)')))"
)
UNREACHABLE = (
    f"requests.exceptions.ConnectionError: {POOL} (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection>: "
    "Failed to establish a new connection: [Errno 111] Connection refused'))"
)


@pytest.mark.parametrize(
    ("printed", "kind", "detail", "reason"),
    [
        (REFUSED, "dns", "NXDOMAIN looking up A", "paas.example.org does not lead to an address"),
        (REFUSED, "connection", "Connection refused", "port 80 of paas.example.org does not answer"),
        (REFUSED, "unauthorized", "Invalid response: 404", "another machine answers for paas.example.org"),
        (REFUSED, "caa", "CAA record forbids", "a CAA record of paas.example.org forbids"),
        (REFUSED, "serverInternal", "oops", "the ACME server does not accept paas.example.org"),
        (UNEXPECTED, "", UNTRUSTED, f"the certificate of {SERVER} is not trusted: set certbot_ca_bundle"),
        (UNEXPECTED, "", UNREACHABLE, f"{SERVER} does not answer the master"),
        (
            UNEXPECTED,
            "",
            "Error creating new order :: too many certificates already issued for: example.org",
            "too many certificates were asked for",
        ),
        (UNEXPECTED, "", "Something new.", "certbot failed"),
    ],
)
def test_a_failure_is_one_sentence_with_the_server_s_own_words(
    printed: str, kind: str, detail: str, reason: str
) -> None:
    said = certbot_failure({"stderr": printed.format(kind=kind, detail=detail)}, ["paas.example.org"], SERVER)
    assert said.startswith(f"There is no new certificate, because {reason}")
    assert "What was served before still is." in said
    assert detail[:250] in said
    assert "\n" not in said


def test_a_certbot_that_could_not_even_start_is_quoted() -> None:
    said = certbot_failure({"msg": "[Errno 2] No such file or directory: b'certbot'"}, [], SERVER)
    assert said.endswith("([Errno 2] No such file or directory: b'certbot')")
