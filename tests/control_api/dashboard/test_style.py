"""The style sheet: whatever is written is readable, in light and in dark."""

from __future__ import annotations

import re

import pytest

from control_api.dashboard.render import ASSETS

SHEET = ASSETS["style.css"].body.decode()
READ_ON = [
    *((colour, ground) for colour in ("text", "muted", "link") for ground in ("ground", "surface", "hover")),
    *((colour, f"{colour}-ground") for colour in ("green", "red", "amber", "violet", "blue")),
    *((colour, "surface") for colour in ("green", "red", "amber", "violet", "blue")),
    ("on-button", "button"),
]


def colours(scheme: str) -> dict[str, str]:
    """Return the colours by name; dark ones replace those of the light scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", SHEET, flags=re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", light))
    return found if scheme == "light" else {**found, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", dark))}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: str) -> None:
    named = colours(scheme)
    ratios = {}
    for colour, ground in READ_ON:
        low, high = sorted(luminance(named[name]) for name in (colour, ground))
        ratios[f"{colour} on {ground}"] = (high + 0.05) / (low + 0.05)
    assert {name: round(ratio, 2) for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_both_schemes_have_the_same_colours() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", SHEET, flags=re.DOTALL)
    assert set(re.findall(r"--([a-z-]+):", light)) == set(re.findall(r"--([a-z-]+):", dark))


def test_nothing_comes_from_elsewhere() -> None:
    assert not re.search(r"url\(|@import", SHEET)
