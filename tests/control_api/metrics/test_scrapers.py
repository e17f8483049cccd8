"""Who has read the metrics lately is known without the database."""

from __future__ import annotations

from datetime import timedelta

from control_api.metrics.scrapers import Scrapers
from tests.control_api.world import START

HOUR = timedelta(hours=1)


def test_a_token_is_remembered_for_an_hour_after_its_last_use() -> None:
    scrapers = Scrapers()
    assert not scrapers.knows("token", START)
    scrapers.remember("token", START)
    scrapers.remember("other", START + HOUR / 2)
    assert scrapers.knows("token", START + HOUR * 0.99)
    assert not scrapers.knows("token", START + HOUR)
    assert scrapers.knows("other", START + HOUR)


def test_a_token_that_is_refused_is_forgotten_at_once() -> None:
    scrapers = Scrapers()
    scrapers.remember("token", START)
    scrapers.remember("other", START)
    scrapers.forget("token")
    assert (scrapers.knows("token", START), scrapers.knows("other", START)) == (False, True)
