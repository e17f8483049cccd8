"""The documentation of the API, for people with a browser."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from control_api import docs_page

router = APIRouter(include_in_schema=False)


@router.get("/api/docs")
def docs(request: Request) -> HTMLResponse:
    """Show every operation; the page needs no script and nothing from elsewhere."""
    shown = docs_page.page(request.app.openapi())
    return HTMLResponse(shown, headers={"Content-Security-Policy": docs_page.POLICY})
