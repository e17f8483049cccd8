"""The page on metrics names every metric with its type, and its examples use only those that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.control_api.world import Api

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
SUFFIXES = ("_bucket", "_count", "_sum")


def example(name: str) -> Any:
    """Return the YAML of that name on the page."""
    found = re.search(rf"^```yaml\n# {re.escape(name)}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


async def told(api: Api) -> dict[str, str]:
    """Return the type of every metric that the service tells."""
    text = (await api.client.get("/metrics", headers=api.admin())).text
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))


async def test_every_metric_is_documented_with_its_type_and_nothing_else(sqlite_api: Api) -> None:
    documented = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|", PAGE, flags=re.MULTILINE)
    assert dict(documented) == await told(sqlite_api)
    assert len(documented) == len(dict(documented))


async def test_names_follow_the_conventions_of_prometheus(sqlite_api: Api) -> None:
    for name, kind in (await told(sqlite_api)).items():
        assert name.startswith(("muster_", "process_"))
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|milliseconds|minutes|kib|mib|percent)(_|$)", name), name


async def test_the_alerts_use_metrics_that_there_are(sqlite_api: Api) -> None:
    metrics = await told(sqlite_api)
    (group,) = example("muster-rules.yml")["groups"]
    used = {name for rule in group["rules"] for name in re.findall(r"\bmuster_\w+", rule["expr"])}
    assert {re.sub(f"({'|'.join(SUFFIXES)})$", "", name) for name in used} <= set(metrics)
    alerts = [rule["alert"] for rule in group["rules"]]
    assert {"MusterWorkersSilent", "MusterMonitorStalled", "MusterNoLeader", "MusterHeartbeatsSlow"} <= set(
        alerts
    )


def test_prometheus_is_told_the_path_that_it_would_take_by_itself() -> None:
    (job,) = example("prometheus.yml")["scrape_configs"]
    assert (job["scheme"], "metrics_path" in job) == ("https", False)
