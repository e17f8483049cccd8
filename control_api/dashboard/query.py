"""The address of a list: what the API's list takes as parameters, the fleet page takes in its address. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlencode

from control_api.workers.wire import ListQuery

PATH = "/fleet"


def href(query: ListQuery, path: str = PATH, **changes: Any) -> str:
    """Return the address of this list with the changes; a changed list begins at its first page."""
    given = pairs(query.model_copy(update={"cursor": None, **changes}))
    return f"{path}?{urlencode(given)}" if given else path


def pairs(query: ListQuery, *, without: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
    """Return the parameters of this list, as a form would send them."""
    given = query.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"limit", *without})
    lists = ((name, value if isinstance(value, list) else [value]) for name, value in given.items())
    return tuple((name, str(one)) for name, values in lists for one in values)


def live(query: ListQuery) -> str:
    """Return the address of this page's stream."""
    return href(query, f"{PATH}/live", cursor=query.cursor)


def is_filtered(query: ListQuery) -> bool:
    """Say whether the list is a part of the fleet only."""
    return bool(query.status or _other_filters(query))


def is_counted(query: ListQuery) -> bool:
    """Say whether the counts by status tell how many there are in the list."""
    return not _other_filters(query)


def _other_filters(query: ListQuery) -> bool:
    return bool(query.search or query.label or query.intent or query.architecture or query.node_state)
