"""Sending to a receiver: where it may be, one bounded request, no redirects, and what its answer means."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import NamedTuple

import httpx2

TIMEOUT = 10.0  # seconds for one attempt, all in all
CONNECT = 4.0  # seconds of it for one of the host's addresses
SKIP = 1.0  # seconds for what an answer says beyond its status
LONGEST_ANSWER = 64 * 1024  # bytes that are read of an answer, and thrown away
BUSY = {408, 429, 502, 503, 504}
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Verdict(Enum):
    """What the end of an attempt says."""

    TAKEN = "taken"
    REFUSED = "refused"  # this event; others may do better
    AWAY = "away"  # nothing gets through at the moment
    GONE = "gone"  # 410: the receiver wants nothing any more


class Answer(NamedTuple):
    """How an attempt ended."""

    verdict: Verdict
    text: str


def refuse_url(url: str, *, local: bool) -> str | None:
    """Return what is wrong with a receiver's URL; None when nothing is. local: http and this machine are allowed."""
    try:
        parsed = httpx2.URL(url)
        port = parsed.port
    except (httpx2.InvalidURL, ValueError):
        return "is not a URL"
    if parsed.scheme != "https" and not (local and parsed.scheme == "http"):
        return "must begin with https://"
    if not parsed.host or parsed.userinfo or parsed.fragment or not (port is None or 0 < port < 65536):
        return "needs a host and, if any, a port that exists, and has neither a user nor a fragment"
    return None


def refuse_address(address: str, *, local: bool) -> str | None:
    """Return why nothing is sent to this address; None when it may be.

    Private networks are fine, since receivers are the operator's own. This machine, link-local addresses (where
    clouds keep their metadata) and whatever is no single machine are not.
    """
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return None if local else "the receiver is this machine"
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return "the receiver's address is not one of a machine"
    return None


def client(trusted: ssl.SSLContext) -> httpx2.AsyncClient:
    """Return a client for one receiver: it follows no redirect and heeds no proxy of the environment."""
    timeout = httpx2.Timeout(TIMEOUT, connect=CONNECT)
    return httpx2.AsyncClient(verify=trusted, timeout=timeout, follow_redirects=False, trust_env=False)


async def post(
    client: httpx2.AsyncClient,
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    resolve: Resolve,
    local: bool,
) -> Answer:
    """Send the body and return how that ended; what the receiver says beyond its status is not kept.

    resolve: returns the addresses of a host and port.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _post(client, httpx2.URL(url), body, headers, resolve=resolve, local=local)
    except TimeoutError:
        return Answer(Verdict.AWAY, f"no answer within {TIMEOUT:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as exc:
        return Answer(Verdict.AWAY, _words(exc))


async def _post(
    client: httpx2.AsyncClient,
    url: httpx2.URL,
    body: bytes,
    headers: dict[str, str],
    *,
    resolve: Resolve,
    local: bool,
) -> Answer:
    last = Answer(Verdict.AWAY, "the receiver's name has no address")
    for address in await resolve(url.host, url.port or (443 if url.scheme == "https" else 80)):
        if (refused := refuse_address(address, local=local)) is not None:
            last = Answer(Verdict.AWAY, refused)
            continue
        # The address that was checked is the one that is spoken to; the certificate is still the host's.
        request = client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "host": url.netloc.decode()},
            extensions={"sni_hostname": url.host},
        )
        try:
            response = await client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
            last = Answer(Verdict.AWAY, _words(exc))
            continue
        await _skip(response)
        return Answer(verdict(response.status_code), f"HTTP {response.status_code}")
    return last


async def _skip(response: httpx2.Response) -> None:
    """Read what little a receiver says, so that its connection can be used again; who says more is cut off."""
    length = 0
    try:
        async with asyncio.timeout(SKIP):
            async for chunk in response.aiter_raw():
                length += len(chunk)
                if length > LONGEST_ANSWER:
                    break
    except (TimeoutError, httpx2.HTTPError):
        pass  # it has said its status
    finally:
        await response.aclose()


def verdict(status: int) -> Verdict:
    """Return what an HTTP status says."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status == 410:
        return Verdict.GONE
    return Verdict.AWAY if status in BUSY else Verdict.REFUSED


def addresses(host: str, port: int) -> list[str]:
    """Ask the resolver for the addresses of a host, each once. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _words(exc: Exception) -> str:
    text = f"{type(exc).__name__}: {exc}".replace("\x00", "").encode("utf-8", "replace").decode()
    return text[:200]
