"""Commands of the machine that fail do so in one sentence."""

from __future__ import annotations

import pytest

from lab.commands import run, succeeds
from lab.errors import LabError


def test_a_command_gives_what_it_printed() -> None:
    assert run("tr", "a-z", "A-Z", stdin="muster") == "MUSTER"


def test_a_failing_command_tells_its_last_line_and_what_to_do() -> None:
    with pytest.raises(LabError) as caught:
        run("sh", "-c", "echo one >&2; echo two. >&2; exit 3", otherwise="Try again.")
    assert str(caught.value) == "`sh -c echo one >&2; echo two. >&2; exit 3` failed: two. Try again."


def test_a_missing_command_names_what_installs_it() -> None:
    with pytest.raises(LabError, match="no-such-command is missing: `muster lab up` installs it"):
        run("no-such-command")


def test_success_is_an_exit_status_of_zero() -> None:
    assert (succeeds("true"), succeeds("false")) == (True, False)


def test_a_missing_command_does_not_succeed() -> None:
    """A machine that never had a lab lacks its commands, and `make down` has nothing to do there."""
    assert not succeeds("no-such-command")
