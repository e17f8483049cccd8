"""Label and field selectors of list requests; pure."""

from __future__ import annotations

from .errors import bad_request
from .kinds import Object


def matches(body: Object, label_selector: str, field_selector: str) -> bool:
    """Whether the object passes both; an empty selector passes everything."""
    labels = body["metadata"].get("labels") or {}
    return all(_label(labels, term) for term in _terms(label_selector)) and all(
        _field(body, term) for term in _terms(field_selector)
    )


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in selector.split(",") if term.strip()]


def _label(labels: dict[str, str], term: str) -> bool:
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return labels.get(key.strip()) == value.strip()
    if " " in term or "(" in term:
        raise bad_request(f"the stand-in knows selectors of the forms k=v, k!=v, k and !k, not '{term}'")
    return term[1:] not in labels if term.startswith("!") else term in labels


def _field(body: Object, term: str) -> bool:
    differs = "!=" in term
    path, _, value = term.replace("!=", "=").replace("==", "=").partition("=")
    found: object = body
    for part in path.strip().split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return (str(found) == value.strip()) != differs
