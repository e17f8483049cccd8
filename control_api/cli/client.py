"""The HTTP client of the command line."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any

import httpx2

from control_api.errors import ApiRefused

PAGE = 500


class Client:
    """Speaks to the control API as one user. Everything raises ApiRefused."""

    def __init__(
        self, url: str, *, ca_file: str | None, token: str | None, username: str, password: str | None
    ) -> None:
        """Prepare; it logs in with the first request unless a token is given."""
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._http = httpx2.Client(base_url=url, timeout=15, verify=verify)
        self._token = token
        self._login = (username, password)

    def __enter__(self) -> Client:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def workers(self) -> list[dict[str, Any]]:
        """Return every worker."""
        workers: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": PAGE}
        while True:
            data = self._ask("GET", "/api/workers", params=params, headers=self._authorization())
            workers += data["workers"]
            if data["nextCursor"] is None:
                return workers
            params["cursor"] = data["nextCursor"]

    def _authorization(self) -> dict[str, str]:
        if self._token is None:
            username, password = self._login
            if not password:
                msg = "Set MUSTER_TOKEN, or MUSTER_USERNAME and MUSTER_PASSWORD, so that the API knows you."
                raise ApiRefused(msg)
            login = {"username": username, "password": password}
            self._token = self._ask("POST", "/api/auth/login", json=login)["accessToken"]
        return {"Authorization": f"Bearer {self._token}"}

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
            body = answer.json()
        except httpx2.HTTPError as exc:
            msg = f"The control API at {self._http.base_url} does not answer: {exc}."
            raise ApiRefused(msg) from exc
        except ValueError:
            msg = (
                f"{self._http.base_url} answered {answer.status_code} without JSON; is that the control API?"
            )
            raise ApiRefused(msg) from None
        if not answer.is_success:
            raise ApiRefused(str(body.get("message", answer.status_code)))
        return body["data"]
