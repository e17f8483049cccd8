"""The HTTP client of the command line."""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Any

import httpx2

from control_api.errors import ApiRefused

PAGE = 500
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
        self._logged_in = False

    def __enter__(self) -> Client:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Log out, if this client logged in, and close the connections."""
        if self._logged_in:
            with suppress(ApiRefused):
                self._call("POST", "/api/auth/logout")
        self._http.close()

    def workers(self, **query: Any) -> list[dict[str, Any]]:
        """Return every worker that the query asks for, with the parameters of GET /api/workers."""
        workers: list[dict[str, Any]] = []
        params: dict[str, Any] = {name: value for name, value in query.items() if value} | {"limit": PAGE}
        while True:
            data = self._call("GET", "/api/workers", params=params)
            workers += data["workers"]
            if data["nextCursor"] is None:
                return workers
            params["cursor"] = data["nextCursor"]

    def worker(self, name: str) -> dict[str, Any]:
        """Return the worker of this name, hostname or id."""
        if UUID.fullmatch(name):
            return dict(self._call("GET", f"/api/workers/{name}"))
        for worker in self.workers(search=name):
            if name in {worker["name"], worker["hostname"]}:
                return worker
        msg = f"There is no worker {name}."
        raise ApiRefused(msg)

    def transitions(self, worker_id: str, limit: int) -> list[dict[str, Any]]:
        """Return the worker's last changes of status, the newest first."""
        path = f"/api/workers/{worker_id}/transitions"
        return list(self._call("GET", path, params={"limit": limit})["transitions"])

    def change(self, worker_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Change what operators decide of a worker and return it."""
        return dict(self._call("PATCH", f"/api/workers/{worker_id}", json=wanted))

    def remove(self, worker_id: str) -> dict[str, Any]:
        """Take a worker off the roll-call and return what it was."""
        return dict(self._call("DELETE", f"/api/workers/{worker_id}"))

    def maintain(self, worker_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Put a worker into maintenance and return it."""
        return dict(self._call("POST", f"/api/workers/{worker_id}/maintenance", json=wanted))

    def resume(self, worker_id: str) -> dict[str, Any]:
        """End a worker's maintenance and return it."""
        return dict(self._call("DELETE", f"/api/workers/{worker_id}/maintenance"))

    def approve(self, worker_id: str) -> dict[str, Any]:
        """Approve a worker and return it."""
        return dict(self._call("POST", f"/api/workers/{worker_id}/approve"))

    def enrolment_tokens(self) -> list[dict[str, Any]]:
        """Return every enrolment token, the newest first."""
        found: list[dict[str, Any]] = []
        while True:
            params = {"limit": PAGE, "offset": len(found)}
            data = self._call("GET", "/api/enrolment-tokens", params=params)
            found += data["enrolmentTokens"]
            if not data["enrolmentTokens"] or len(found) >= data["total"]:
                return found

    def create_enrolment_token(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make an enrolment token and return it, with its secret as `token`."""
        return dict(self._call("POST", "/api/enrolment-tokens", json=wanted))

    def revoke_enrolment_token(self, token_id: str) -> dict[str, Any]:
        """Revoke an enrolment token and return it."""
        return dict(self._call("DELETE", f"/api/enrolment-tokens/{token_id}"))

    def users(self) -> list[dict[str, Any]]:
        """Return every user, by name."""
        return list(self._call("GET", "/api/users")["users"])

    def create_user(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add a user and return it."""
        return dict(self._call("POST", "/api/users", json=wanted))

    def change_user(self, user_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Change a user and return it."""
        return dict(self._call("PATCH", f"/api/users/{user_id}", json=wanted))

    def remove_user(self, user_id: str) -> dict[str, Any]:
        """Remove a user and return what it was."""
        return dict(self._call("DELETE", f"/api/users/{user_id}"))

    def change_password(self, current: str, new: str) -> None:
        """Change the password of whoever is logged in; this login goes on."""
        change = {"currentPassword": current, "newPassword": new}
        self._token = self._call("POST", "/api/auth/password", json=change)["accessToken"]

    def api_keys(self) -> list[dict[str, Any]]:
        """Return every API key, the newest first."""
        return list(self._call("GET", "/api/api-keys")["apiKeys"])

    def create_api_key(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make an API key and return it, with what authenticates as `key`."""
        return dict(self._call("POST", "/api/api-keys", json=wanted))

    def revoke_api_key(self, key_id: str) -> dict[str, Any]:
        """Revoke an API key and return it."""
        return dict(self._call("DELETE", f"/api/api-keys/{key_id}"))

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._ask(method, path, headers=self._authorization(), **options)

    def _authorization(self) -> dict[str, str]:
        if self._token is None:
            username, password = self._login
            if not password:
                msg = "Set MUSTER_TOKEN, or MUSTER_USERNAME and MUSTER_PASSWORD, so that the API knows you."
                raise ApiRefused(msg)
            login = {"username": username, "password": password}
            self._token = self._ask("POST", "/api/auth/login", json=login)["accessToken"]
            self._logged_in = True
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
            raise ApiRefused(sentence(body))
        return body["data"]


def sentence(failure: dict[str, Any]) -> str:
    """Return what a failure says, and of which fields."""
    details = failure.get("error", {}).get("details", [])
    fields = "; ".join(f"{detail['field']} {detail['message']}" for detail in details)
    message = str(failure.get("message", "The control API refused the request."))
    return f"{message.rstrip('.')}: {fields}." if fields else message
