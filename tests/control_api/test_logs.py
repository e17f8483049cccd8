"""The log never shows a secret, and is JSON when nobody watches."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from control_api import logs


def test_whatever_is_named_like_a_secret_is_blacked_out() -> None:
    event = {
        "event": "x",
        "token": "a",
        "registrationToken": "b",
        "JWT_SECRET": "c",
        "password": "d",
        "Authorization": "e",
        "credential": "f",
        "token_id": "abcdef",
        "worker": "w1",
    }
    shown = logs.redact(None, "info", event)
    assert {name for name, value in shown.items() if value == "[redacted]"} == {
        "token",
        "registrationToken",
        "JWT_SECRET",
        "password",
        "Authorization",
        "credential",
    }


def test_libraries_and_the_service_log_json_lines_alike() -> None:
    code = """
import logging, structlog
from control_api import logs
logs.configure()
structlog.get_logger().warning("own", worker="w1", token="x")
logging.getLogger("uvicorn.error").info("library %s", 7)
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("fault")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own, library, fault = [json.loads(line) for line in done.stderr.splitlines()]
    assert (own["event"], own["level"], own["worker"], own["token"]) == ("own", "warning", "w1", "[redacted]")
    assert (library["event"], library["level"]) == ("library 7", "info")
    assert "ZeroDivisionError" in fault["exception"]
    assert logging.getLogger().level != logging.DEBUG
