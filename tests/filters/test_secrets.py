"""Secrets that are given are written, the others are made."""

from __future__ import annotations

from filter_plugins.secrets import secret_files


def test_what_is_given_is_written_and_what_is_not_is_made_where_it_stays() -> None:
    assert secret_files({"a": "given", "b": ""}, "/etc/secrets") == [
        {"path": "/etc/secrets/a", "mode": "0600", "secret": "given"},
        {"path": "/etc/secrets/b", "mode": "0600", "random": 43},
    ]
