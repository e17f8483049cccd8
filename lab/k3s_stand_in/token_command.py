"""`k3s token`: bootstrap tokens, kept as the Secrets that Kubernetes defines for them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from . import identity, kubeconfig, paths, tables, tokens
from .client import Client
from .cluster import timestamp
from .errors import Refused, StandInError, UsageError
from .kinds import SECRETS, Object

NAMESPACE = "kube-system"
FIELDS = {"fieldSelector": f"type={identity.BOOTSTRAP_TOKEN}"}


def run(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO) -> int:
    """Run one subcommand; raises StandInError."""
    given = _parser().parse_args(list(arguments))
    if given.command == "generate":
        out.write(tokens.generate() + "\n")
        return 0
    chosen = given.kubeconfig or environ.get("KUBECONFIG") or str(paths.find(environ).kubeconfig)
    client, ca = kubeconfig.client_of(Path(chosen))
    actions: dict[str, Callable[[], None]] = {
        "create": lambda: _create(client, ca, given, out),
        "list": lambda: _list(client, given, out),
        "delete": lambda: _delete(client, given, out),
    }
    actions[given.command]()
    return 0


def secret(
    token: str, description: str, groups: Sequence[str], usages: Sequence[str], expires: datetime | None
) -> Object:
    """The Secret of a bootstrap token, as kubeadm writes it."""
    identifier, _, value = token.partition(".")
    data = {"token-id": identifier, "token-secret": value, "auth-extra-groups": ",".join(groups)}
    data |= {f"usage-bootstrap-{usage}": "true" for usage in usages}
    if description:
        data["description"] = description
    if expires:
        data["expiration"] = timestamp(expires)
    meta = {"name": f"bootstrap-token-{identifier}", "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": identity.BOOTSTRAP_TOKEN,
        "metadata": meta,
        "data": {key: kubeconfig.encode(text.encode()) for key, text in data.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="k3s token", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("create", "list", "delete", "generate"):
        command = commands.add_parser(name, allow_abbrev=False)
        command.add_argument("--kubeconfig", default="")
        command.add_argument("-d", "--data-dir", default="")
        if name == "create":
            command.add_argument("token", nargs="?", default="")
            command.add_argument("--description", default="")
            command.add_argument("--ttl", default="24h")
            command.add_argument("--groups", action="append", default=[])
            command.add_argument("--usages", action="append", default=[])
        if name == "list":
            command.add_argument("-o", "--output", default="text", choices=["text", "json"])
        if name == "delete":
            command.add_argument("tokens", nargs="+")
    return parser


def _create(client: Client, ca: bytes, given: argparse.Namespace, out: TextIO) -> None:
    token = given.token or tokens.generate()
    if not tokens.BOOTSTRAP.fullmatch(token):
        raise UsageError(f'the bootstrap token "{token}" was not of the form "{tokens.BOOTSTRAP.pattern}"')
    lifetime = tokens.seconds(given.ttl)
    expires = datetime.now(UTC) + timedelta(seconds=lifetime) if lifetime else None
    groups, usages = given.groups or [tokens.DEFAULT_GROUP], given.usages or ["signing", "authentication"]
    try:
        client.api("POST", SECRETS.path(NAMESPACE), secret(token, given.description, groups, usages, expires))
    except Refused as exc:
        if exc.status == 409:
            raise StandInError(f'a token with id "{token.partition(".")[0]}" already exists') from exc
        raise
    out.write(tokens.secure(token, ca) + "\n")


def _list(client: Client, given: argparse.Namespace, out: TextIO) -> None:
    found = [_entry(item) for item in client.api("GET", SECRETS.path(NAMESPACE), query=FIELDS)["items"]]
    if given.output == "json":
        out.write(json.dumps(found) + "\n")
        return
    rows = [["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"]]
    rows += [_row(entry, datetime.now(UTC)) for entry in found]
    out.write(tables.render(rows))


def _entry(item: Object) -> Object:
    data = identity.texts(item)
    used = sorted(key.removeprefix("usage-bootstrap-") for key in data if key.startswith("usage-bootstrap-"))
    entry: Object = {"token": f"{data['token-id']}.{data['token-secret']}"}
    entry |= {
        key: data[other]
        for key, other in {"description": "description", "expires": "expiration"}.items()
        if other in data
    }
    return entry | {
        "usages": used,
        "groups": [group for group in data.get("auth-extra-groups", "").split(",") if group],
    }


def _row(entry: Object, now: datetime) -> list[str]:
    expires = entry.get("expires", "")
    lasts = (
        tables.duration((datetime.fromisoformat(expires) - now).total_seconds()) if expires else "<forever>"
    )
    texts = [",".join(entry["usages"]), entry.get("description", ""), ",".join(entry["groups"])]
    return [
        entry["token"].partition(".")[0],
        lasts,
        expires or "<never>",
        *(text or "<none>" for text in texts),
    ]


def _delete(client: Client, given: argparse.Namespace, out: TextIO) -> None:
    for word in given.tokens:
        identifier = word.rpartition("::")[2].partition(".")[0]
        if not re.fullmatch("[a-z0-9]{6}", identifier):
            raise UsageError(f"given token \"{word}\" didn't match the pattern of a token or of a token's id")
        client.api("DELETE", SECRETS.path(NAMESPACE, f"bootstrap-token-{identifier}"))
        out.write(f'bootstrap token "{identifier}" deleted\n')
