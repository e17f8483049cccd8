"""The unit that loads the rules of the role `firewall`."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parents[2] / "roles/firewall/templates/muster-firewall.service.j2"


def test_the_rules_are_loaded_after_those_of_the_distribution_which_flush_all_others() -> None:
    """systemd.unit(5): without an order both load at once, and the later one wins."""
    lines = UNIT.read_text().splitlines()
    (after,) = [line.split("=", 1)[1].split() for line in lines if line.startswith("After=")]
    assert "nftables.service" in after
    assert "ReloadPropagatedFrom=nftables.service" in lines
    # PartOf= would stop the rules with nftables.service, and nothing would start them again.
    assert not [line for line in lines if line.startswith("PartOf=")]
