"""The documentation page: every operation, nothing from elsewhere, nothing that a schema could inject."""

from __future__ import annotations

import base64
import hashlib
import re

from control_api import docs_page
from tests.control_api.world import Api


async def test_the_page_shows_every_operation_without_foreign_assets(sqlite_api: Api) -> None:
    answer = await sqlite_api.client.get("/api/docs")
    schema = (await sqlite_api.client.get("/api/openapi.json")).json()
    assert answer.status_code == 200
    for path, operations in schema["paths"].items():
        for method in operations:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in answer.text
    assert "HOSTNAME_TAKEN" in answer.text
    assert "<script" not in answer.text
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", answer.text) == ["/api/openapi.json"]


async def test_the_policy_allows_the_page_its_own_style_and_nothing_else(sqlite_api: Api) -> None:
    answer = await sqlite_api.client.get("/api/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy == f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{digest}'"


def test_whatever_the_document_holds_is_text() -> None:
    evil = "<script>alert(1)</script>"
    operation = {
        "description": evil,
        "parameters": [{"name": evil, "in": evil, "required": True, "schema": {"title": evil}}],
        "requestBody": {"content": {evil: {"schema": {"title": evil}, "example": evil}}},
        "responses": {
            "200": {
                "description": evil,
                "content": {"application/json": {"examples": {evil: {"value": {evil: evil}}}}},
            }
        },
    }
    shown = docs_page.page(
        {"paths": {f"/{evil}": {"get": operation}}, "components": {"schemas": {evil: evil}}}
    )
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 14
