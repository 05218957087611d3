"""Writes the pictures of all dashboards. Run it with `make previews`; it takes about ten minutes."""

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final

from deploy.grafana.preview import intervals
from deploy.grafana.preview.context import Context, source_type
from deploy.grafana.preview.picture import Answered, picture
from deploy.grafana.preview.queries import run_panel, with_variables
from deploy.grafana.preview.stage import ROOT, SCRAPE_SECONDS, Stage, stage

_DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
_PICTURES: Final = ROOT / "docs" / "dashboards"
_LIVE_SECONDS: Final = 480
_LONG: Final = dt.timedelta(hours=12)
"""From this range on a dashboard looks at the past, of which only PostgreSQL knows."""


def main() -> None:
    """Bring up servers with traffic, and write a picture of each dashboard."""
    with stage(_LIVE_SECONDS) as servers:
        _PICTURES.mkdir(exist_ok=True)
        for file in sorted(_DASHBOARDS.glob("*.json")):
            text = preview(json.loads(file.read_text(encoding="utf-8")), servers)
            target = _PICTURES / file.with_suffix(".svg").name
            target.write_text(text, encoding="utf-8")
            print(f"{target.relative_to(ROOT)}: {len(text.encode()) / 1_000:.0f} kB")  # noqa: T201


def preview(dashboard: Mapping[str, Any], servers: Stage) -> str:
    """The picture of a dashboard with what the servers hold.

    Args:
        dashboard: Its JSON.
        servers: To ask.
    """
    span = dt.timedelta(seconds=intervals.parsed(dashboard["time"]["from"].removeprefix("now-")))
    live = Context(
        servers.prometheus_url,
        servers.postgres_dsn,
        servers.since,
        servers.until,
        scrape_seconds=SCRAPE_SECONDS,
    )
    is_long = span >= _LONG
    whole = dataclasses.replace(live, since=live.until - span) if is_long else live
    whole = with_variables(dashboard, whole)
    live = dataclasses.replace(live, variables=whole.variables)
    remark = f"Last {round(live.seconds / 60)} minutes"
    answered = []
    for panel in dashboard["panels"]:
        is_live = is_long and _asks_prometheus(panel)
        context = live if is_live else whole
        answered.append(Answered(panel, run_panel(panel, context), context, remark if is_live else ""))
    return picture(dashboard, answered, whole)


def _asks_prometheus(panel: Mapping[str, Any]) -> bool:
    targets = panel.get("targets") or ()
    return any((source_type(each) or source_type(panel)) == "prometheus" for each in targets)


if __name__ == "__main__":
    main()
