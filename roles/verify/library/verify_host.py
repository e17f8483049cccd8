#!/usr/bin/python
"""Whether a built host is well: its services, firewall and certificates, the control API as it is seen from there.

Standard library only, Python 3.8 or newer: it runs on the host, as root, and only looks.
"""

from __future__ import annotations

import glob
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from fnmatch import fnmatch
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

DOCUMENTATION = r"""
module: verify_host
short_description: Looks whether services, firewall, certificates and the control API are well, and changes nothing
options:
  units:
    description: Patterns of systemd units that must run.
    type: list
    elements: str
    required: true
  tables:
    description: Tables of nftables that must be loaded, as C(inet name).
    type: list
    elements: str
    required: true
  certificates:
    description: Patterns of files that hold certificates; each pattern must find one.
    type: list
    elements: str
    required: true
  days:
    description: Days that a certificate must still be valid.
    type: int
    required: true
  urls:
    description: What must answer, as C({url, ca}); C(ca) is the file of an authority, or empty.
    type: list
    elements: dict
    required: true
author: Muster
"""
EXAMPLES = r"""
- name: Look at the host
  verify_host:
    units: [nginx.service]
    tables: [inet muster]
    certificates: [/etc/muster/tls/api.crt]
    days: 14
    urls: [{url: "http://127.0.0.1:3000/readyz", ca: ""}]
"""
RETURN = r"""
rows:
  description: A row for each check, and a further one for each fault, as C({check, state, says}).
  type: list
  returned: success
"""

DAY = 86400
SECONDS = 15
PROPERTIES = ("Id", "ActiveState", "SubState", "LoadState")
Row = Dict[str, str]


def row(check: str, faults: Iterable[str], well: str) -> List[Row]:
    """A row for each fault; where there is none, one that says so."""
    found = [{"check": check, "state": "fault", "says": says} for says in faults]
    return found or [{"check": check, "state": "ok", "says": well}]


def services(patterns: List[str]) -> List[Row]:
    shown = blocks(run(["systemctl", "show", "--property", ",".join(PROPERTIES), "--", *patterns]))
    failed = run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full"])
    return row(
        "services", unit_faults(patterns, shown, failed), f"{len(patterns)} run, and nothing has failed"
    )


def blocks(text: str) -> List[Dict[str, str]]:
    """What `systemctl show` prints: a block for each unit."""
    return [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
        if block.strip()
    ]


def unit_faults(patterns: List[str], shown: List[Dict[str, str]], failed: str) -> List[str]:
    there = [unit for unit in shown if unit.get("LoadState") != "not-found"]
    missing = [each for each in patterns if not any(fnmatch(unit["Id"], each) for unit in there)]
    still = [unit for unit in there if unit["ActiveState"] != "active"]
    broken = [line.split()[0] for line in failed.splitlines() if line.strip()]
    return [
        *(f"{name} is not installed" for name in missing),
        *(f"{unit['Id']} does not run: it is {unit['ActiveState']} ({unit['SubState']})" for unit in still),
        *(f"{name} has failed" for name in broken if name not in {unit["Id"] for unit in still}),
    ]


def firewall(tables: List[str], listed: str) -> List[Row]:
    """In: the tables that must be there, what `nft list tables` prints. A unit may be active without its table."""
    missing = [table for table in tables if f"table {table}" not in listed.splitlines()]
    says = "the kernel has no table {}, so nothing is filtered: `systemctl reload muster-firewall` loads it"
    return row("firewall", map(says.format, missing), f"{', '.join(tables)} is loaded") if tables else []


def certificates(patterns: List[str], days: int, now: float) -> List[Row]:
    files = {pattern: sorted(glob.glob(pattern)) for pattern in patterns}
    missing = [f"{pattern} is not there" for pattern, found in files.items() if not found]
    spans = [(file, validity(file)) for found in files.values() for file in found]
    faults = [f"{file} {why}" for file, span in spans for why in [judgement(span, days, now)] if why]
    ends = [(span[1], file) for file, span in spans if span[1]]
    if not ends:
        return row("certificates", [*missing, *faults], "there is none")
    end, first = min(ends)
    well = f"{len(ends)} are valid, {first} ends first, in {int((end - now) // DAY)} days"
    return row("certificates", [*missing, *faults], well)


def validity(file: str) -> Tuple[float, float]:
    """From when to when the first certificate of a file is valid; zeros when it holds none."""
    text = run(["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", file])
    dates = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    try:
        return ssl.cert_time_to_seconds(dates["notBefore"]), ssl.cert_time_to_seconds(dates["notAfter"])
    except (KeyError, ValueError):
        return 0.0, 0.0


def judgement(span: Tuple[float, float], days: int, now: float) -> str:
    """What is wrong with a certificate that is valid for this span, '' when nothing is."""
    begin, end = span
    if not end:
        return "holds no certificate"
    if now < begin:
        return "is not valid yet: see whether the clock is right"
    if now >= end:
        return f"has ended {int((now - end) // DAY)} days ago"
    if end - now < days * DAY:
        return f"ends in {int((end - now) // DAY)} days, and {days} must be left"
    return ""


def api(urls: List[Dict[str, str]]) -> List[Row]:
    faults = [f"{each['url']} {why}" for each in urls for why in [complaint(each["url"], each["ca"])] if why]
    return row("api", faults, f"{', '.join(each['url'] for each in urls)} answers well")


def complaint(url: str, authority: str) -> str:
    """What is wrong with what answers there, '' when nothing is."""
    if authority and not Path(authority).exists():
        return f"cannot be asked: {authority} is not there"
    try:
        context = ssl.create_default_context(cafile=authority or None)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(url, timeout=SECONDS) as answer:
            lacks = shortcomings(answer.read())
            return f"says: {lacks}" if lacks else ""
    except urllib.error.HTTPError as exc:
        return f"answers {exc.code}: {shortcomings(exc.read()) or exc.reason}"
    except urllib.error.URLError as exc:
        return f"does not answer: {exc.reason}"
    except OSError as exc:
        return f"does not answer: {exc}"


def shortcomings(body: bytes) -> str:
    """What /readyz says is missing or works less well; /healthz says of nothing."""
    try:
        said = json.loads(body)
    except ValueError:
        return "says something that is not JSON"
    if not isinstance(said, dict):
        return "says something that is not of the control API"
    absent = [name for name in ("database", "monitor") if said.get(name) is False]
    impaired = [f"{name} impaired" for name in said.get("degraded", [])]
    return ", ".join([*(f"no {name}" for name in absent), *impaired])


def run(command: List[str]) -> str:
    """What a command prints; nothing where it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "tables": {"type": "list", "elements": "str", "required": True},
            "certificates": {"type": "list", "elements": "str", "required": True},
            "days": {"type": "int", "required": True},
            "urls": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    rows = [
        *services(given["units"]),
        *firewall(given["tables"], run(["/usr/sbin/nft", "list", "tables"])),
        *certificates(given["certificates"], given["days"], time.time()),
        *api(given["urls"]),
    ]
    module.exit_json(changed=False, rows=rows)


if __name__ == "__main__":
    main()
