"""What is mounted in a tree that is about to be removed."""

from __future__ import annotations

from pathlib import Path

from lab import disk

MOUNTINFO = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
45 27 0:39 / /state/dev/hosts/master/root rw,relatime - overlay overlay rw
46 45 0:40 / /state/dev/hosts/master/root/proc rw - proc proc rw
47 27 0:41 / /state/developer rw,relatime - tmpfs tmpfs rw
48 27 0:42 / /state/dev/with\040space rw,relatime - tmpfs tmpfs rw
""".lstrip()


def test_mounts_below_a_path_are_found_innermost_first() -> None:
    assert disk.mount_points(MOUNTINFO, Path("/state/dev")) == [
        Path("/state/dev/with space"),
        Path("/state/dev/hosts/master/root/proc"),
        Path("/state/dev/hosts/master/root"),
    ]


def test_a_tree_is_removed_even_if_it_was_never_made(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    disk.remove_tree(tree)
    disk.remove_tree(tree)
    assert list(tmp_path.iterdir()) == []
