"""The part of kubectl that Muster uses, for the kinds that the stand-in keeps."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import yaml

from . import kubeconfig, patches, paths, tables, tokens
from .client import Client
from .errors import Refused, StandInError, UsageError
from .kinds import NODES, Kind, Object, by_word, of_object
from .node_object import taint
from .version import VERSION

POLL_SECONDS = 0.5
PATCHES = {"json": patches.JSON, "merge": patches.MERGE, "strategic": patches.STRATEGIC}


def run(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO) -> int:
    """Run one command; raises StandInError."""
    given = _parser().parse_intermixed_args(list(arguments))
    verb, words = (given.words[0], given.words[1:]) if given.words else ("", [])
    if verb not in VERBS:
        raise UsageError(
            f'unknown command "{verb}" for "kubectl": the stand-in knows {", ".join(sorted(VERBS))}'
        )
    chosen = given.kubeconfig or environ.get("KUBECONFIG") or str(paths.find(environ).kubeconfig)
    if verb == "version" and given.client:
        out.write(f"Client Version: {VERSION}\n")
        return 0
    client, _ = kubeconfig.client_of(Path(chosen))
    VERBS[verb](client, given, words, out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl", allow_abbrev=False, description="kubectl of the stand-in for K3s"
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-o", "--output", default="", choices=["", "json", "yaml", "name", "wide"])
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("--field-selector", default="")
    parser.add_argument("-f", "--filename", action="append", default=[])
    parser.add_argument("--raw", default="")
    parser.add_argument("--kubeconfig", default="")
    parser.add_argument("--for", dest="condition", default="")
    parser.add_argument("--type", default="strategic", choices=list(PATCHES))
    parser.add_argument("-p", "--patch", default="")
    parser.add_argument("--timeout", default="30s")
    for switch in ("--all", "--overwrite", "--ignore-not-found", "--no-headers", "--client"):
        parser.add_argument(switch, nargs="?", const=True, default=False, type=_switch)
    # Accepted for the drain of real clusters; there are no pods here for them to matter.
    for switch in (
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--disable-eviction",
        "--force",
        "--wait",
        "--now",
    ):
        parser.add_argument(switch, nargs="?", const=True, default=False, type=_switch)
    for option in ("--grace-period", "--request-timeout", "--skip-wait-for-delete-timeout"):
        parser.add_argument(option, default="")
    return parser


def _switch(text: str) -> bool:
    return text.lower() == "true"


def _get(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    if given.raw:
        out.write(client.text(given.raw).decode())
        return
    kind, names = _named(words)
    namespace = None if given.all_namespaces else given.namespace
    if names:
        items = [
            body for name in names if (body := _get_one(client, kind, namespace or "default", name, given))
        ]
    else:
        query = {"labelSelector": given.selector, "fieldSelector": given.field_selector}
        listed = client.api(
            "GET", kind.path(namespace), query={key: value for key, value in query.items() if value}
        )
        items = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in listed["items"]]
    single = len(names) == 1 and len(items) == 1
    if names and not items:
        return
    _print(kind, items, given, out, single=single)


def _get_one(
    client: Client, kind: Kind, namespace: str, name: str, given: argparse.Namespace
) -> Object | None:
    try:
        return client.api("GET", kind.path(namespace, name))
    except Refused as exc:
        if exc.status == 404 and given.ignore_not_found:
            return None
        raise


def _print(kind: Kind, items: list[Object], given: argparse.Namespace, out: TextIO, *, single: bool) -> None:
    whole = items[0] if single else {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}
    if given.output == "json":
        out.write(json.dumps(whole, indent=4) + "\n")
    elif given.output == "yaml":
        out.write(yaml.safe_dump(whole))
    elif given.output == "name":
        out.writelines(f"{_called(kind, item['metadata']['name'])}\n" for item in items)
    elif not items:
        where = f" in {given.namespace} namespace" if kind.namespaced and not given.all_namespaces else ""
        sys.stderr.write(f"No resources found{where}.\n" if where else "No resources found\n")
    else:
        now, wide = datetime.now(UTC), given.output == "wide"
        rows = tables.rows_of(kind, items, now, wide=wide, namespaces=given.all_namespaces)
        out.write(tables.render(rows[1:] if given.no_headers else rows))


def _delete(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    for kind, namespace, name in _targets(given, words):
        try:
            client.api("DELETE", kind.path(namespace, name))
        except Refused as exc:
            if exc.status != 404 or not given.ignore_not_found:
                raise
        else:
            label = f"{kind.name.lower()}.{kind.group}" if kind.group else kind.name.lower()
            out.write(f'{label} "{name}" deleted\n')


def _targets(given: argparse.Namespace, words: list[str]) -> list[tuple[Kind, str, str]]:
    if given.filename:
        found = [(of_object(manifest), manifest) for manifest in _manifests(given.filename)]
        return [(kind, _namespace(manifest, given), manifest["metadata"]["name"]) for kind, manifest in found]
    kind, names = _named(words)
    if not names:
        raise UsageError("resource(s) were provided, but no name was specified")
    return [(kind, given.namespace, name) for name in names]


def _apply(client: Client, given: argparse.Namespace, _words: list[str], out: TextIO) -> None:
    if not given.filename:
        raise UsageError("must specify -f with a file, or - for standard input")
    for manifest in _manifests(given.filename):
        kind, name = of_object(manifest), manifest["metadata"]["name"]
        path = kind.path(_namespace(manifest, given), name)
        before = _get_one(
            client, kind, _namespace(manifest, given), name, argparse.Namespace(ignore_not_found=True)
        )
        after = client.api("PATCH", path, manifest, {"fieldManager": "kubectl"}, patches.APPLY)
        unchanged = before and before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        done = "unchanged" if unchanged else "configured" if before else "created"
        out.write(f"{_called(kind, name)} {done}\n")


def _manifests(files: Sequence[str]) -> list[Object]:
    texts = [sys.stdin.read() if file == "-" else Path(file).read_text() for file in files]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def _namespace(manifest: Object, given: argparse.Namespace) -> str:
    return str(manifest["metadata"].get("namespace") or given.namespace)


def _label(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    pairs = [word for word in words[1:] if "=" in word or word.endswith("-")]
    kind, names = _named([word for word in words if word not in pairs])
    wanted = {pair.rstrip("-") if "=" not in pair else pair.partition("=")[0]: _value(pair) for pair in pairs}
    for name in names:
        path = kind.path(given.namespace, name)
        present = client.api("GET", path)["metadata"].get("labels") or {}
        clash = [
            key for key, value in wanted.items() if value is not None and present.get(key, value) != value
        ]
        if clash and not given.overwrite:
            raise UsageError(
                f"'{clash[0]}' already has a value ({present[clash[0]]}), and --overwrite is false"
            )
        client.api("PATCH", path, {"metadata": {"labels": wanted}}, patch=patches.MERGE)
        out.write(f"{_called(kind, name)} labeled\n")


def _patch(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    try:
        content = json.loads(given.patch)
    except ValueError as exc:
        raise UsageError(f'unable to parse "{given.patch}": {exc}') from exc
    kind, names = _named(words)
    for name in names:
        path = kind.path(given.namespace, name)
        before = client.api("GET", path)["metadata"]["resourceVersion"]
        body = client.api("PATCH", path, content, patch=PATCHES[given.type])
        if given.output:
            _print(kind, [body], given, out, single=True)
        else:
            unchanged = " (no change)" if body["metadata"]["resourceVersion"] == before else ""
            out.write(f"{_called(kind, name)} patched{unchanged}\n")


def _value(pair: str) -> str | None:
    return pair.partition("=")[2] if "=" in pair else None


def _taint(client: Client, _given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    changes = [word for word in words[1:] if ":" in word or word.endswith("-")]
    kind, names = _named([word for word in words if word not in changes])
    for name in names:
        path = kind.path(None, name)
        present = client.api("GET", path)["spec"].get("taints") or []
        for change in changes:
            present = _tainted(present, change)
        client.api("PATCH", path, {"spec": {"taints": present or None}}, patch=patches.MERGE)
        out.write(f"node/{name} tainted\n")


def _tainted(present: list[Object], change: str) -> list[Object]:
    if change.endswith("-"):
        key, _, effect = change[:-1].partition(":")
        key = key.partition("=")[0]
        return [entry for entry in present if entry["key"] != key or (effect and entry["effect"] != effect)]
    fresh = taint(change)
    others = [
        entry for entry in present if (entry["key"], entry["effect"]) != (fresh["key"], fresh["effect"])
    ]
    return [*others, fresh]


def _set_unschedulable(*, value: bool) -> Callable[[Client, argparse.Namespace, list[str], TextIO], None]:
    def act(client: Client, _given: argparse.Namespace, words: list[str], out: TextIO) -> None:
        for name in _node_names(words):
            path = NODES.path(None, name)
            already = bool(client.api("GET", path)["spec"].get("unschedulable")) == value
            client.api("PATCH", path, {"spec": {"unschedulable": value or None}}, patch=patches.MERGE)
            word = "cordoned" if value else "uncordoned"
            out.write(f"node/{name} {f'already {word}' if already else word}\n")

    return act


def _drain(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    _set_unschedulable(value=True)(client, given, words, out)
    out.writelines(f"node/{name} drained\n" for name in _node_names(words))


def _node_names(words: list[str]) -> list[str]:
    names = [
        word.removeprefix("node/").removeprefix("nodes/")
        for word in words
        if word not in {"node", "nodes", "no"}
    ]
    if not names:
        raise UsageError("the name of a node is needed")
    return names


def _wait(client: Client, given: argparse.Namespace, words: list[str], out: TextIO) -> None:
    kind, names = _named(words)
    end = time.monotonic() + tokens.seconds(given.timeout)
    if given.all:
        names = [item["metadata"]["name"] for item in client.api("GET", kind.path(given.namespace))["items"]]
    for name in names:
        while not _is_met(client, kind.path(given.namespace, name), given.condition):
            if time.monotonic() > end:
                raise StandInError(f"timed out waiting for the condition on {kind.plural}/{name}")
            time.sleep(POLL_SECONDS)
        out.write(f"{_called(kind, name)} condition met\n")


def _is_met(client: Client, path: str, condition: str) -> bool:
    subject, _, wanted = condition.partition("=")
    try:
        body = client.api("GET", path)
    except Refused as exc:
        if exc.status == 404 and subject == "delete":
            return True
        raise
    if subject == "delete":
        return False
    if subject != "condition":
        raise UsageError("--for must be condition=<type>[=<status>] or delete")
    name, _, value = wanted.partition("=")
    entries: list[dict[str, Any]] = body.get("status", {}).get("conditions", [])
    return any(
        entry["type"] == name and entry["status"].lower() == (value or "true").lower() for entry in entries
    )


def _version(client: Client, _given: argparse.Namespace, _words: list[str], out: TextIO) -> None:
    server = client.api("GET", "/version")["gitVersion"]
    out.write(f"Client Version: {VERSION}\nServer Version: {server}\n")


def _named(words: list[str]) -> tuple[Kind, list[str]]:
    """The kind and names in `nodes a b`, `node/a node/b` or `nodes`."""
    if not words:
        raise UsageError("You must specify the type of resource.")
    if "/" in words[0]:
        return by_word(words[0].partition("/")[0]), [word.partition("/")[2] for word in words]
    return by_word(words[0]), words[1:]


def _called(kind: Kind, name: str) -> str:
    return f"{kind.name.lower()}.{kind.group}/{name}" if kind.group else f"{kind.name.lower()}/{name}"


VERBS: dict[str, Callable[[Client, argparse.Namespace, list[str], TextIO], None]] = {
    "get": _get,
    "delete": _delete,
    "apply": _apply,
    "label": _label,
    "patch": _patch,
    "taint": _taint,
    "cordon": _set_unschedulable(value=True),
    "uncordon": _set_unschedulable(value=False),
    "drain": _drain,
    "wait": _wait,
    "version": _version,
}
