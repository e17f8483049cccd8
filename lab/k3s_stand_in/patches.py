"""The patch formats of the Kubernetes API; pure."""

from __future__ import annotations

import copy
from typing import Any

from .errors import bad_request
from .kinds import Object

JSON, MERGE, STRATEGIC, APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
MERGED_BY_TYPE = {
    "conditions",
    "addresses",
}  # lists of a Node's status that a strategic patch merges by `type`


def apply(content_type: str, body: Object, patch: Any) -> Object:
    """A patched copy of `body`; raises ApiError 400 for a patch that does not fit."""
    if content_type == JSON and isinstance(patch, list):
        return _operations(copy.deepcopy(body), patch)
    if content_type in {MERGE, STRATEGIC, APPLY} and isinstance(patch, dict):
        merged: Object = merge(body, patch, by_type=content_type != MERGE)
        return merged
    raise bad_request(f"the body does not fit the content type {content_type}")


def merge(old: Any, patch: Any, *, by_type: bool = False, key: str = "") -> Any:
    """RFC 7386; with `by_type` the lists of MERGED_BY_TYPE keep the entries that the patch does not name."""
    if isinstance(patch, dict):
        result = copy.deepcopy(old) if isinstance(old, dict) else {}
        for name, value in patch.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = merge(result.get(name), value, by_type=by_type, key=name)
        return result
    if by_type and key in MERGED_BY_TYPE and isinstance(old, list) and isinstance(patch, list):
        entries = {entry.get("type"): entry for entry in old}
        for entry in patch:
            entries[entry.get("type")] = {**entries.get(entry.get("type"), {}), **entry}
        return list(entries.values())
    return copy.deepcopy(patch)


def _operations(body: Object, operations: list[Any]) -> Object:
    for operation in operations:
        try:
            _operate(body, operation)
        except (KeyError, IndexError, ValueError, TypeError) as exc:
            raise bad_request(f"the JSON patch does not fit: {operation}") from exc
    return body


def _operate(body: Object, operation: Object) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    holder: Any = body
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    verb = operation["op"]
    if verb not in {"add", "replace", "remove", "test"}:
        raise ValueError(verb)
    if isinstance(holder, list):
        _operate_on_list(holder, last, verb, operation)
    elif verb == "test":
        if holder.get(last) != operation["value"]:
            raise ValueError(last)
    elif verb == "remove":
        del holder[last]
    else:
        holder[last] = operation["value"]


def _operate_on_list(holder: list[Any], last: str, verb: str, operation: Object) -> None:
    index = len(holder) if last == "-" else int(last)
    if verb == "add":
        holder.insert(index, operation["value"])
    elif verb == "remove":
        del holder[index]
    elif verb == "replace":
        holder[index] = operation["value"]
    elif holder[index] != operation["value"]:
        raise ValueError(last)
