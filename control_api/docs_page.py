"""The page `/api/docs`: every operation of OpenAPI in plain HTML, without a script and without a foreign asset."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
details { border: 1px solid #d0d7de; border-radius: 6px; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; } code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; }
b { display: inline-block; min-width: 4.5rem; } table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; }
"""
POLICY = (
    "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"
    f"{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)


def page(schema: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    operations = "\n".join(_operations(schema))
    schemas = "\n".join(_schemas(schema))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Muster API</title><style>{STYLE}</style>'
        '<h1>Muster API</h1><p>The same for programs: <a href="/api/openapi.json">openapi.json</a>. '
        "Authenticate with <code>Authorization: Bearer</code> and an access token or an API key.</p>"
        f"<h2>Operations</h2>{operations}<h2>Schemas</h2>{schemas}</html>"
    )


def _operations(schema: dict[str, Any]) -> Iterator[str]:
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                yield _operation(method.upper(), path, item[method])


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"]
    if rows := [_parameter(parameter) for parameter in operation.get("parameters", [])]:
        parts.append(f"<h4>Parameters</h4><table>{''.join(rows)}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<h4>Body</h4>{_content(body)}")
    for status, answer in operation.get("responses", {}).items():
        parts.append(f"<h4>{escape(status)} {escape(answer.get('description', ''))}</h4>{_content(answer)}")
    return (
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code></summary>{''.join(parts)}</details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    needed = "required" if parameter.get("required") else ""
    shown = escape(json.dumps(parameter.get("schema", {})))
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{needed}</td><td><code>{shown}</code></td></tr>"
    )


def _content(holder: dict[str, Any]) -> str:
    return "".join(
        f"<p>{escape(kind)}</p><pre>{_json(content.get('schema', {}))}</pre>{''.join(_examples(content))}"
        for kind, content in holder.get("content", {}).items()
    )


def _examples(content: dict[str, Any]) -> Iterator[str]:
    named = {name: shown["value"] for name, shown in content.get("examples", {}).items()}
    unnamed = {"for example": content["example"]} if "example" in content else {}
    for name, value in {**unnamed, **named}.items():
        yield f"<p>{escape(name)}</p><pre>{escape(value) if isinstance(value, str) else _json(value)}</pre>"


def _schemas(schema: dict[str, Any]) -> Iterator[str]:
    for name, content in schema.get("components", {}).get("schemas", {}).items():
        yield f"<details><summary><code>{escape(name)}</code></summary><pre>{_json(content)}</pre></details>"


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2))
