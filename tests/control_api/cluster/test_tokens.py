"""Join tokens as K3s reads them."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from uuid import UUID

from control_api.cluster import tokens
from control_api.cluster.tokens import BootstrapToken

CA = b"-----BEGIN CERTIFICATE-----\nnot really\n-----END CERTIFICATE-----\n"


def test_new_tokens_have_the_shape_of_bootstrap_tokens_and_differ() -> None:
    made = {tokens.new_token() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", f"{token.id}.{token.secret}") for token in made)


def test_the_secure_form_names_the_authority_of_the_cluster() -> None:
    token = BootstrapToken("abcdef", "0123456789abcdef")
    expected = f"K10{hashlib.sha256(CA).hexdigest()}::abcdef.0123456789abcdef"
    assert tokens.secure_form(token, CA) == expected


def test_the_secret_lets_an_agent_in_for_ten_minutes() -> None:
    worker_id = UUID("7034f966-b7f4-4394-b22d-0c8180282204")
    now = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
    secret = tokens.secret(BootstrapToken("abcdef", "0123456789abcdef"), worker_id, now)
    assert (secret["kind"], secret["type"]) == ("Secret", "bootstrap.kubernetes.io/token")
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef"}
    assert secret["stringData"] == {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "description": "worker:7034f966-b7f4-4394-b22d-0c8180282204",
        "expiration": "2026-11-24T12:10:30Z",
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:k3s:default-node-token",
    }
    assert tokens.secret_name("abcdef") == "bootstrap-token-abcdef"
