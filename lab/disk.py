"""Disks of hosts: overlays of the base image, and trees that are removed without touching what is mounted in them."""

from __future__ import annotations

from pathlib import Path

from lab.commands import run

MOUNTS = Path("/proc/self/mountinfo")


def mount_points(mountinfo: str, below: Path) -> list[Path]:
    """The mount points at or below a path, innermost and latest first (text of /proc/self/mountinfo, proc(5))."""
    points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point.is_relative_to(below)]


def mounted(below: Path) -> list[Path]:
    return mount_points(MOUNTS.read_text(encoding="utf-8"), below)


def mount_overlay(directory: Path) -> None:
    """Mount `directory`/root: below the image that the file `image` names, above it the host's own changes."""
    image = (directory / "image").read_text(encoding="utf-8")
    layers = f"lowerdir={image},upperdir={directory}/upper,workdir={directory}/work"
    advice = f"{directory} must be on a plain disk, not on an overlay of its own."
    run("mount", "-t", "overlay", "overlay", "-o", layers, directory / "root", otherwise=advice)


def remove_tree(path: Path) -> None:
    """Remove a directory. What is mounted in it is unmounted, never emptied."""
    for point in mounted(path):
        run("umount", point)
    run("rm", "--recursive", "--force", "--one-file-system", path)
