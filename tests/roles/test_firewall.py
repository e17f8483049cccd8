"""The units that load the rules of the role `firewall`."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parents[2] / "roles/firewall/templates"
DISTRIBUTIONS = "nftables.service"  # it flushes the rules of everybody when it starts, reloads or stops


def unit(name: str) -> dict[str, list[str]]:
    """What a unit's settings name."""
    lines = (TEMPLATES / f"{name}.service.j2").read_text().splitlines()
    return {key: value.split() for key, equals, value in (line.partition("=") for line in lines) if equals}


def test_the_rules_are_loaded_after_those_of_the_distribution_at_boot_and_at_its_reload() -> None:
    ours = unit("muster-firewall")
    assert DISTRIBUTIONS in ours["After"]
    assert ours["ReloadPropagatedFrom"] == [DISTRIBUTIONS]
    # PartOf= would stop the rules with it, and nothing would start them again.
    assert "PartOf" not in ours


def test_they_are_loaded_again_whenever_it_starts_unless_they_were_unloaded() -> None:
    again, ours = unit("muster-firewall-again"), unit("muster-firewall")
    assert again["WantedBy"] == [DISTRIBUTIONS]
    assert {DISTRIBUTIONS, "muster-firewall.service"} <= set(again["After"])
    assert again["ConditionPathExists"] == ["/run/muster-firewall/loaded"]
    assert again["ExecStart"] == ours["ExecReload"]
    assert "RemainAfterExit" not in again
