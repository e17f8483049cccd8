"""The control API's fixtures, for pages that describe what it tells."""

from tests.control_api.conftest import _clean_environment, clock, sqlite_api, sqlite_template, sqlite_url

__all__ = ["_clean_environment", "clock", "sqlite_api", "sqlite_template", "sqlite_url"]
