"""The databases of the control API's tests."""

from tests.control_api.conftest import _clean_environment, postgresql, postgresql_url

__all__ = ["_clean_environment", "postgresql", "postgresql_url"]
