DOCUMENTATION = r"""
name: muster
short_description: The worker table of Muster as an inventory
description:
  - Reads the workers from the control API, or from its database, in one request.
  - >-
    Every worker becomes a host of its own name, in the group C(workers), in the group of its status
    (C(status_pending), C(status_active), C(status_inactive), C(status_maintenance), C(status_not_ready)), of its
    architecture (C(arch_amd64)) and of each of its labels (C(label_<key>_<value>)). The group C(reachable) holds
    those that are heard at present, whatever the operator wants of them.
  - >-
    What a worker says of itself is under the one variable C(muster) and never is a template. Only what an operator
    has set, or an address that was checked, becomes an C(ansible_) variable.
  - >-
    The SSH host keys that the workers sent at registration are written to a file of known hosts, and the group
    C(workers) is told to check them strictly.
  - >-
    With a cache, a refresh within a play asks the control API whether what is cached is still true, and takes it
    from there when it is.
  - A source that does not answer, or not with workers, fails the play.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as one for this plugin. Its name must end in C(.muster.yml) or C(.muster.yaml).
    type: string
    required: true
    choices: [muster]
  source:
    description: Where the workers are read.
    type: string
    choices: [api, database]
    default: api
  url:
    description: URL of the control API.
    type: string
    env: [{name: MUSTER_URL}]
  api_key:
    description: Key that may read the inventory.
    type: string
    env: [{name: MUSTER_API_KEY}]
  ca_file:
    description: >-
      Certificate, in PEM, that the control API's certificate is checked against; without it, those of the system.
    type: path
    env: [{name: MUSTER_CA_FILE}]
  timeout:
    description: Seconds that the control API may take to answer.
    type: int
    default: 30
  database_url:
    description: URL of the control API's database. This source needs muster-paas[api] on the controller.
    type: string
    env: [{name: DATABASE_URL}]
  heartbeat_timeout_minutes:
    description: Minutes of silence after which a worker is INACTIVE, for the database source; as the service has it.
    type: float
    default: 1.5
    env: [{name: HEARTBEAT_TIMEOUT_MINUTES}]
  known_hosts:
    description: File that the workers' SSH host keys are written to.
    type: path
    default: ~/.cache/muster/known_hosts
    env: [{name: MUSTER_KNOWN_HOSTS}]
"""

EXAMPLES = r"""
# fleet.muster.yml, with MUSTER_URL and MUSTER_API_KEY in the environment:
plugin: muster

# A key from a vault, and a group by the amount of memory:
# plugin: muster
# url: https://paas.example.org
# api_key: "{{ lookup('ansible.builtin.file', '~/.config/muster/key') }}"
# groups:
#   large: muster.totalMemoryBytes >= 32 * 1024 ** 3
"""

import ipaddress
import json
import re
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypedDict

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

STATUSES = ("PENDING", "ACTIVE", "INACTIVE", "MAINTENANCE", "NOT_READY")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}\Z")
SSH_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+\Z")

Row = dict[str, Any]


class Answer(TypedDict):
    """What the source said: rows, and the entity tag by which it knows them again."""

    etag: str | None
    workers: list[Row]


def hostvars(row: Row) -> dict[str, Any]:
    """The variables of a worker: what it says under `muster`, what an operator set as `ansible_*`."""
    variables: dict[str, Any] = {
        "muster": {name: value for name, value in row.items() if name != "sshHostKeys"}
    }
    variables["ansible_host"] = address(row)
    for name, key in (("ansible_port", "ansiblePort"), ("ansible_user", "ansibleUser")):
        if row.get(key) is not None:
            variables[name] = row[key]
    return variables


def address(row: Row) -> str:
    """Where SSH goes: what an operator set, else the registered address, which must be one."""
    return str(row.get("ansibleHost") or ipaddress.ip_address(row["ipAddress"]))


def groups(row: Row) -> list[str]:
    """The groups of a worker besides `workers`."""
    names = [f"status_{row['status'].lower()}"]
    if row["status"] in {"ACTIVE", "NOT_READY"} or row.get("isReady"):
        names.append("reachable")
    if row.get("architecture"):
        names.append(safe(f"arch_{row['architecture']}"))
    return names + [safe(f"label_{key}_{value}") for key, value in (row.get("labels") or {}).items()]


def safe(name: str) -> str:
    """A group name of letters, digits and underscores."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def known_hosts(rows: list[Row]) -> str:
    """The text of a known_hosts file (sshd(8)) for the workers."""
    return "".join(
        f"{place(row)} {key}\n" for row in rows for key in row.get("sshHostKeys") or [] if SSH_KEY.match(key)
    )


def place(row: Row) -> str:
    """A host as known_hosts names it: with its port, when that is not 22."""
    port = row.get("ansiblePort") or 22
    return address(row) if port == 22 else f"[{address(row)}]:{port}"


def is_usable(row: Row) -> bool:
    """False for a row that cannot be a host: the control API lets none in, another source might."""
    try:
        address(row)
    except (KeyError, ValueError):
        return False
    return (
        bool(NAME.match(str(row.get("name"))))
        and row.get("status") in STATUSES
        and not address(row).startswith("-")
    )


def replace_file(path: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def answer_of_api(url: str, key: str, ca_file: str | None, timeout: int, known: Answer | None) -> Answer:
    """Ask the control API once; return `known` when it is still true. Raises AnsibleParserError with what to do."""
    if not url.startswith("https://") and not re.match(r"http://(127\.0\.0\.1|localhost)(:|/|$)", url):
        raise AnsibleParserError(
            f"url is '{url}': it must begin with https://, or the key would be sent in the clear."
        )
    headers = {"Authorization": f"Bearer {key}"}
    if known and known["etag"]:
        headers["If-None-Match"] = known["etag"]
    request = urllib.request.Request(url.rstrip("/") + "/api/inventory", headers=headers)  # noqa: S310 - checked
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:  # noqa: S310
            return {"etag": answer.headers["ETag"], "workers": list(json.load(answer)["data"]["workers"])}
    except urllib.error.HTTPError as exc:
        if exc.code == 304 and known:
            return known
        refused = (
            "the key is wrong: check api_key (MUSTER_API_KEY)"
            if exc.code in {401, 403}
            else f"HTTP {exc.code}"
        )
        raise AnsibleParserError(f"The control API at {url} refused the inventory: {refused}.") from exc
    except OSError as exc:
        reason = getattr(exc, "reason", exc)
        raise AnsibleParserError(f"The control API at {url} cannot be reached: {reason}.") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise AnsibleParserError(f"What answers at {url} is not a control API.") from exc


def rows_of_database(url: str, timeout_minutes: float) -> list[Row]:
    """Read the worker table as the control API does, with the statuses as they are now."""
    try:
        from datetime import timedelta

        from control_api.db import Database, utc_now
        from control_api.errors import MusterError
        from control_api.workers import inventory_store, store
        from control_api.workers.lifecycle import Rules
    except ImportError as exc:
        raise AnsibleParserError(
            f"source: database needs muster-paas[api] on the controller ({exc})."
        ) from exc
    try:
        database = Database(url)
        with closing(database), database.reading() as session:
            at = store.moment(session, utc_now(), Rules(timeout=timedelta(minutes=timeout_minutes)))
            rows = [json.loads(row) for row in inventory_store.rows(session, at)]
    except MusterError as exc:
        raise AnsibleParserError(f"The worker table cannot be read: {exc}") from exc
    return rows


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """The entry point that Ansible looks for."""

    NAME = "muster"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith((".muster.yml", ".muster.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        rows = list(self._usable(self._rows(self.get_cache_key(path), cache)))
        if not rows:
            self.display.warning("The worker table is empty: no worker has registered yet.")
        file = Path(self.get_option("known_hosts")).expanduser()
        replace_file(file, known_hosts(rows))
        self._make_groups(file)
        for row in rows:
            self._add(row)

    def _rows(self, key: str, cache: bool) -> list[Row]:
        """Take the rows from the cache; a refresh asks the source whether what is cached is still true."""
        known: Answer | None = self._cache[key] if self.get_option("cache") and key in self._cache else None
        if known and cache:
            return list(known["workers"])
        answer = self._read(known)
        if self.get_option("cache"):
            self._cache[key] = answer
        return list(answer["workers"])

    def _read(self, known: Answer | None) -> Answer:
        if self.get_option("source") == "database":
            minutes = self.get_option("heartbeat_timeout_minutes")
            return {"etag": None, "workers": rows_of_database(self._needed("database_url"), minutes)}
        return answer_of_api(
            self._needed("url"),
            self._needed("api_key"),
            self.get_option("ca_file"),
            self.get_option("timeout"),
            known,
        )

    def _needed(self, option: str) -> str:
        value = self.get_option(option)
        if self.templar.is_template(value):
            value = self.templar.template(value)
        if not value:
            raise AnsibleParserError(
                f"The option {option} is missing: set it in the inventory file or the environment."
            )
        return str(value)

    def _usable(self, rows: list[Row]) -> Iterator[Row]:
        for row in rows:
            if is_usable(row):
                yield row
            else:
                self.display.warning(
                    f"A worker is left out, its name, status or address is none: {row.get('id')}."
                )

    def _make_groups(self, file: Path) -> None:
        """All groups are there even when nobody is in them, so that a play on one of them is no mistake."""
        for name in ("workers", "reachable", *(f"status_{status.lower()}" for status in STATUSES)):
            self.inventory.add_group(name)
        checking = f"-o UserKnownHostsFile={file} -o StrictHostKeyChecking=yes"
        self.inventory.set_variable("workers", "ansible_ssh_common_args", checking)

    def _add(self, row: Row) -> None:
        host = row["name"]
        self.inventory.add_host(host, group="workers")
        variables = hostvars(row)
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        for group in groups(row):
            self.inventory.add_child(self.inventory.add_group(group), host)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
