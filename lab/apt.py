"""What the hosts take over from this machine's apt: its Debian sources, its proxy, and downloaded packages."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from lab.commands import run
from lab.layout import CACHE

RELEASE = "bookworm"
SOURCE_LIST = Path("/etc/apt/sources.list")
SOURCE_PARTS = Path("/etc/apt/sources.list.d")
ARCHIVES = CACHE / "archives"
HOST_ARCHIVES = "var/cache/apt/archives"
# How packages are fetched and believed, but for what points to files of this machine.
SETTINGS = re.compile(r"Acquire::(https?::|Check-|Retries|ForceIPv|Allow)", re.IGNORECASE)
FILES = re.compile(r"Auto-Detect|CAInfo|Ssl", re.IGNORECASE)
NO_TRANSLATIONS = 'Acquire::Languages "none";\n'


def debian_sources(text: str) -> str:
    """The stanzas or lines of one apt source file (sources.list(5)) that are Debian's own and of the lab's release."""
    if re.search(r"^Types:", text, re.MULTILINE):
        stanzas = [_without_comments(stanza) for stanza in re.split(r"\n\s*\n", text)]
        return "\n\n".join(stanza for stanza in stanzas if _is_debian(stanza)) + "\n"
    lines = [line for line in text.splitlines() if line.startswith("deb ") and _is_debian(line)]
    return "\n".join(lines) + "\n"


def _without_comments(stanza: str) -> str:
    return "\n".join(line for line in stanza.splitlines() if line.strip() and not line.startswith("#"))


def _is_debian(source: str) -> bool:
    if RELEASE not in source or re.search(r"^Enabled:\s*no", source, re.MULTILINE | re.IGNORECASE):
        return False
    archives = re.findall(r"\S+://\S+", source)
    return any(re.search(r"/debian(-security)?/?$", archive) for archive in archives)


def machine_sources() -> dict[str, str]:
    """File name -> Debian sources, for every source file of this machine that has some."""
    files = [SOURCE_LIST, *sorted(SOURCE_PARTS.glob("*.list")), *sorted(SOURCE_PARTS.glob("*.sources"))]
    found = {file.name: debian_sources(file.read_text(encoding="utf-8")) for file in files if file.is_file()}
    return {name: text for name, text in found.items() if text.strip()}


def fetch_settings(dump: str) -> str:
    """The lines of `apt-config dump` that say how to fetch: proxies, checks, retries."""
    lines = [line for line in dump.splitlines() if SETTINGS.match(line) and not line.endswith(' "";')]
    return "".join(line + "\n" for line in lines if not FILES.search(line))


def machine_settings() -> str:
    return fetch_settings(run("apt-config", "dump")) + NO_TRANSLATIONS


def seed(root: Path) -> None:
    """Give a host what other hosts have downloaded. A directory of its own: apt refuses to share one."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    _link_packages(ARCHIVES, root / HOST_ARCHIVES)


def harvest(root: Path) -> None:
    """Keep what a host has downloaded, so that the next one need not."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    _link_packages(root / HOST_ARCHIVES, ARCHIVES)


def _link_packages(source: Path, target: Path) -> None:
    for package in source.glob("*.deb"):
        copy = target / package.name
        if copy.exists():
            continue
        try:
            copy.hardlink_to(package)
        except OSError:  # another file system
            unfinished = copy.with_suffix(f".part{os.getpid()}")
            shutil.copy2(package, unfinished)
            unfinished.rename(copy)
