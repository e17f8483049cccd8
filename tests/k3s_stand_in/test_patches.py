"""Patches change what they name and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from lab.k3s_stand_in import patches
from lab.k3s_stand_in.errors import ApiError

OLD: dict[str, Any] = {
    "spec": {"a": 1, "b": {"c": 2}},
    "list": [1, 2],
    "conditions": [{"type": "Ready", "status": "True", "reason": "r"}, {"type": "Other"}],
}


@pytest.mark.parametrize(
    ("content_type", "patch", "change"),
    [
        (patches.MERGE, {"spec": {"a": None, "b": {"d": 3}}}, {"spec": {"b": {"c": 2, "d": 3}}}),
        (patches.MERGE, {"conditions": [{"type": "New"}]}, {"conditions": [{"type": "New"}]}),
        (
            patches.STRATEGIC,
            {"conditions": [{"type": "Ready", "status": "Unknown"}]},
            {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "r"}, {"type": "Other"}]},
        ),
        (patches.JSON, [{"op": "add", "path": "/list/-", "value": 3}], {"list": [1, 2, 3]}),
        (patches.JSON, [{"op": "remove", "path": "/spec/b"}], {"spec": {"a": 1}}),
        (patches.JSON, [{"op": "replace", "path": "/list/0", "value": 9}], {"list": [9, 2]}),
    ],
)
def test_patch(content_type: str, patch: Any, change: dict[str, Any]) -> None:
    assert patches.apply(content_type, OLD, patch) == OLD | change


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        (patches.JSON, [{"op": "remove", "path": "/nothing"}]),
        (patches.JSON, [{"op": "test", "path": "/list/0", "value": 5}]),
        (patches.JSON, {"spec": {}}),
        ("text/plain", {"spec": {}}),
    ],
)
def test_patch_that_does_not_fit_is_a_bad_request(content_type: str, patch: Any) -> None:
    with pytest.raises(ApiError) as caught:
        patches.apply(content_type, OLD, patch)
    assert caught.value.code == 400
