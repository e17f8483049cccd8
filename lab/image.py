"""The base image: a small Debian 12 that the disks of all hosts of all labs are overlays of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import apt, disk
from lab.commands import last_line, run
from lab.errors import LabError
from lab.layout import CACHE, REPOSITORY, STATES

PACKAGES = (
    *("ca-certificates", "curl", "dbus", "iproute2", "iptables", "iputils-ping", "kmod", "nftables"),
    *("openssh-server", "openssl", "procps", "python3", "python3-apt", "python3-yaml", "sudo"),
    *("systemd", "systemd-sysv"),
)
FILES = REPOSITORY / "lab/files"
UNITS = ("muster-lab-network.service", "muster-lab-cgroups.service")
# They would start at a random moment and hold apt's lock while a playbook wants it.
UNWANTED_UNITS = ("apt-daily.timer", "apt-daily-upgrade.timer")
SETTINGS = {
    "etc/default/locale": "LANG=C.UTF-8\n",
    # The kernel's messages are of this machine and of all hosts alike.
    "etc/systemd/journald.conf.d/muster-lab.conf": "[Journal]\nReadKMsg=no\n",
}
CA_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
ADDED_CA_CERTIFICATES = Path("usr/local/share/ca-certificates")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


def path() -> Path:
    """Where the image of today's recipe is, or will be."""
    parts = [Path(__file__).read_text(encoding="utf-8"), apt.machine_settings(), machine_ca_bundle()]
    parts += [text for name in apt.machine_sources().items() for text in name]
    parts += [(FILES / unit).read_text(encoding="utf-8") for unit in UNITS]
    recipe = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return CACHE / f"image-{recipe[:12]}"


def build(image: Path) -> None:
    """Make the image. It gets its name when it is complete, so that half an image is never taken for one."""
    if not apt.machine_sources():
        raise LabError("This machine's apt sources name no Debian 12 archive: add one, then run this again.")
    with _one_builder() as lock:
        if image.exists():
            return
        unfinished = image.with_suffix(".part")
        disk.remove_tree(unfinished)
        _bootstrap(unfinished, lock)
        _furnish(unfinished)
        unfinished.rename(image)
        _remove_unused(image)


def _remove_unused(image: Path) -> None:
    """Remove the images of older recipes that no disk is an overlay of."""
    used = {Path(file.read_text(encoding="utf-8")) for file in STATES.glob("*/hosts/*/image")}
    for old in CACHE.glob("image-*"):
        if old.stem != image.name and old not in used:
            disk.remove_tree(old)


@contextmanager
def _one_builder() -> Iterator[int]:
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = os.open(CACHE, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def _bootstrap(root: Path, lock: int) -> None:
    """Unpack Debian. mmdebstrap shares our lock: should we be killed, the next builder waits for its end."""
    sources = root.with_suffix(".sources")
    sources.mkdir(exist_ok=True)
    for name, text in apt.machine_sources().items():
        (sources / name).write_text(text, encoding="utf-8")
    settings = sources / "apt.conf"
    settings.write_text(apt.machine_settings(), encoding="utf-8")
    command = ["mmdebstrap", "--variant=minbase", "--skip=cleanup/apt/lists"]
    command += [f"--include={','.join(PACKAGES)}", f"--aptopt={settings}", apt.RELEASE, str(root)]
    command += [str(sources / name) for name in apt.machine_sources()]
    log = root.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[lock], check=False
        )
    if done.returncode != 0:
        said = last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise LabError(f"The base image could not be made ({said}): {log} says why; then run this again.")
    disk.remove_tree(sources)


def _furnish(root: Path) -> None:
    for unit in UNITS:
        (root / "etc/systemd/system" / unit).write_bytes((FILES / unit).read_bytes())
    run("systemctl", f"--root={root}", "--quiet", "enable", *UNITS)
    run("systemctl", f"--root={root}", "--quiet", "disable", *UNWANTED_UNITS)
    for name, text in SETTINGS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # every host gets its own
    _trust_what_this_machine_trusts(root)


def machine_ca_bundle() -> str:
    bundle = Path("/") / CA_BUNDLE
    return bundle.read_text(encoding="utf-8") if bundle.exists() else ""


def added_certificates(machine: str, image: str) -> list[str]:
    """The certificates of one bundle (PEM) that another has not: those of networks that look into TLS."""
    known = set(CERTIFICATE.findall(image))
    return [certificate for certificate in CERTIFICATE.findall(machine) if certificate not in known]


def _trust_what_this_machine_trusts(root: Path) -> None:
    added = added_certificates(machine_ca_bundle(), (root / CA_BUNDLE).read_text(encoding="utf-8"))
    for index, certificate in enumerate(added):
        (root / ADDED_CA_CERTIFICATES / f"machine-{index}.crt").write_text(certificate, encoding="utf-8")
    run("chroot", root, "update-ca-certificates")
