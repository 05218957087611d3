"""What all dashboards have in common: their addresses, the way between them, and the grid."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import table
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    RowPanel,
    VariableModel,
)

TAG: Final = "otel-analytics"
LIVE: Final = "otel-analytics-live"
ROUTE: Final = "otel-analytics-route"
CANDIDATES: Final = "otel-analytics-candidates"
PIPELINE: Final = "otel-analytics-pipeline"


class Row(NamedTuple):
    """Panels under one heading, from left to right; a line holds 24 columns.

    Attributes:
        title: A few words.
        panels: With their widths and heights.
    """

    title: str
    panels: Sequence[Builder[Panel]]


def dashboard(
    title: str,
    uid: str,
    description: str,
    *,
    variables: Sequence[Builder[VariableModel]],
    rows: Sequence[Row],
    since: str,
    refresh: str,
) -> Dashboard:
    """A dashboard with links to the others.

    Args:
        title: What it is called.
        uid: Its address; others link to it.
        description: Whom it is for.
        variables: In the order in which they depend on each other.
        rows: From top to bottom.
        since: Where the range begins at first, such as `now-1h`.
        refresh: How often it asks again, such as `30s`.
    """
    others = (
        builders.DashboardLink("otel-analytics")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
    page = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .timezone("browser")
        .variables(list(variables))
        .link(others)
    )
    for row in rows:
        page = page.with_row(builders.Row(row.title))
        for panel in row.panels:
            page = page.with_panel(panel)
    return _finished(page.build())


def to_route(route: str, method: str | None = None, *, variables: Sequence[str]) -> dict[str, object]:
    """A data link to the page of a route, with the time range.

    Args:
        route: Where the route stands, as Grafana's data links name it: `__data.fields.Route`.
        method: The same for the method; None takes the choice along.
        variables: Which choices to take along.
    """
    chosen = [f"${{{each}:queryparam}}" for each in variables]
    chosen.append("${method:queryparam}" if method is None else f"var-method=${{{method}:percentencode}}")
    query = "&".join(["${__url_time_range}", *chosen, f"var-route=${{{route}:percentencode}}"])
    return {"title": "Look at this route", "url": f"/d/{ROUTE}?{query}", "targetBlank": False}


def _finished(page: Dashboard) -> Dashboard:
    """With numbers for the panels; without what the library adds and Grafana's schema does not have."""
    for number, panel in enumerate(page.panels or (), start=1):
        assert isinstance(panel, Panel | RowPanel)
        panel.id_val = number
        if isinstance(panel, Panel) and isinstance(panel.options, table.Options):
            panel.options.footer = None
    for variable in page.templating.list_val or () if page.templating else ():
        variable.auto = variable.auto_min = variable.auto_count = None
    return page
