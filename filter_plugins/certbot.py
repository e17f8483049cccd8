"""Why certbot got no certificate, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Type of the problem (RFC 8555, 6.7) -> what it means for the domain and what to do.
MEANINGS = {
    "dns": "{domain} does not lead to an address: make its DNS record point at the master",
    "connection": (
        "port 80 of {domain} does not answer the ACME server: let its DNS record point at the master, and open the port"
    ),
    "unauthorized": "another machine answers for {domain}: let its DNS record point at the master",
    "caa": "a CAA record of {domain} forbids this server to issue",
    "rateLimited": "too many certificates were asked for: wait as long as the server says",
}
# What certbot prints when it did not come so far -> the same.
TROUBLES = {
    r"CERTIFICATE_VERIFY_FAILED|certificate verify failed": (
        "the certificate of {server} is not trusted: set certbot_ca_bundle to its authority"
    ),
    r"Max retries exceeded|ConnectionError|Connection refused|timed out|Timeout": "{server} does not answer the master",
    r"rateLimited|[Rr]ate ?[Ll]imit|too many (certificates|failed|new)": MEANINGS["rateLimited"],
    r"rejectedIdentifier|policy forbids": "the server issues no certificate for {domain}",
}


def certbot_failure(done: Mapping[str, Any], domains: Sequence[str], server: str) -> str:
    """Say why. In: the result of the command, and what was asked of whom. Out: a sentence, and certbot's own words."""
    said = "\n".join(str(done.get(stream) or "") for stream in ("stderr", "stdout")).strip()
    said = said or str(done.get("msg", ""))
    reason, detail = _problem(said) or _trouble(said, ", ".join(domains), server)
    return f"There is no new certificate, because {reason}. What was served before still is. ({detail})"


def _problem(said: str) -> tuple[str, str] | None:
    """What the ACME server says of a domain: the first of the blocks Domain, Type, Detail."""
    found = re.search(r"Domain: (\S+)\s+Type: +(\S+)\s+Detail: (.+)", said)
    if found is None:
        return None
    domain, kind, detail = found.groups()
    meaning = MEANINGS.get(kind, "the ACME server does not accept {domain}").format(domain=domain)
    return meaning, f"{kind}: {detail.strip()}"


def _trouble(said: str, domain: str, server: str) -> tuple[str, str]:
    lines = [
        line
        for line in said.splitlines()
        if line.strip() and not re.match(r"(Ask for help|Saving|See the)", line)
    ]
    detail = lines[-1].strip()[:300] if lines else "certbot said nothing"
    for pattern, meaning in TROUBLES.items():
        if re.search(pattern, said):
            return meaning.format(domain=domain, server=server), detail
    return "certbot failed", detail


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certbot_failure": certbot_failure}
