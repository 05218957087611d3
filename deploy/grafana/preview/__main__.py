"""Writes the pictures of all dashboards. Run it with `make previews`; it takes about a quarter of an hour."""

import dataclasses
import datetime as dt
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from deploy.grafana.preview.context import Context, source_type
from deploy.grafana.preview.picture import Answered, picture
from deploy.grafana.preview.queries import run_panel, with_variables
from deploy.grafana.preview.stage import ROOT, SCRAPE_SECONDS, Stage, stage

_DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
_PICTURES: Final = ROOT / "docs" / "dashboards"
_LIVE_SECONDS: Final = 900
_SETTLED: Final = dt.timedelta(minutes=5)
"""After so long rates over five minutes are those of the live traffic alone."""
_WEEK: Final = dt.timedelta(days=7)
"""As much past as the demo has."""
_ROUTE: Final = "/api/v1/search"
"""Has parameter patterns to show."""


def main() -> None:
    """Bring up servers with traffic, and write a picture of each dashboard."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that they are shut down
    with stage(_LIVE_SECONDS) as servers:
        _PICTURES.mkdir(exist_ok=True)
        for file in sorted(_DASHBOARDS.glob("*.json")):
            text = preview(file.stem, json.loads(file.read_text(encoding="utf-8")), servers)
            target = _PICTURES / f"{file.stem}.svg"
            target.write_text(text, encoding="utf-8")
            print(f"{target.relative_to(ROOT)}: {len(text.encode()) / 1_000:.0f} kB")  # noqa: T201


def preview(name: str, dashboard: Mapping[str, Any], servers: Stage) -> str:
    """The picture of a dashboard with what the servers hold.

    Args:
        name: Of its file.
        dashboard: Its JSON.
        servers: To ask.
    """
    live = Context(
        servers.prometheus_url,
        servers.postgres_dsn,
        servers.since + _SETTLED,
        servers.until,
        scrape_seconds=SCRAPE_SECONDS,
    )
    whole = with_variables(dashboard, _chosen(name, live, servers))
    # Of the days before the live traffic, Prometheus knows nothing.
    minutes = dataclasses.replace(live, variables=whole.variables)
    has_own_range = whole.since != live.since
    remark = f"{minutes.since:%H:%M} to {minutes.until:%H:%M}"
    answered = []
    for panel in dashboard["panels"]:
        is_own = has_own_range and _asks_prometheus(panel)
        context = minutes if is_own else whole
        answered.append(Answered(panel, run_panel(panel, context), context, remark if is_own else ""))
    return picture(dashboard, answered, whole)


def _chosen(name: str, live: Context, servers: Stage) -> Context:
    """The range and the values that a reader would choose to see something."""
    match name:
        case "route":
            # The live traffic is heavier than that of the days before, which nobody would see beside it.
            before = live.since.replace(minute=0, second=0, microsecond=0) - dt.timedelta(seconds=1)
            return dataclasses.replace(live, since=before - _WEEK, until=before, variables={"route": _ROUTE})
        case "candidates":
            return dataclasses.replace(live, since=servers.ranked - _WEEK, until=servers.ranked)
    return live


def _asks_prometheus(panel: Mapping[str, Any]) -> bool:
    targets = panel.get("targets") or ()
    return any((source_type(each) or source_type(panel)) == "prometheus" for each in targets)


if __name__ == "__main__":
    main()
