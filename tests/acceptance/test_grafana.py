"""Every query of every dashboard, on the real Prometheus and PostgreSQL, as Grafana would ask it."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from deploy.grafana.preview.queries import Context, run_panel, run_variable, with_variables

HOURS = dt.timedelta(hours=6)
"""Of the past, which PostgreSQL has."""
MINUTES = dt.timedelta(minutes=5)
"""As long as Prometheus has scraped, at the most; over hours, no point of a graph might fall into them."""
DASHBOARDS = Path(__file__).parents[2] / "deploy/grafana/dashboards"
# A route with a cache of its own, and one with bodies of requests.
ROUTES = ("/api/v1/products/{product_id}", "/api/v1/orders")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]


@pytest.fixture
def context(live):
    """Asks as the role that Grafana's data source names."""
    until = dt.datetime.now(dt.UTC)
    return Context(
        prometheus_url=live.server.url,
        postgres_dsn=make_conninfo(live.dsn, user="otel_analytics_reader"),
        since=until - HOURS,
        until=until,
        scrape_seconds=1.0,
    )


@pytest.mark.parametrize("name", ["live", "candidates", "pipeline"])
def test_every_query_and_variable_has_data(name, context):
    dashboard = read(name)
    assert answered(dashboard, context) == queries(dashboard)


def test_every_query_and_variable_of_a_route_has_data(context):
    dashboard = read("route")
    found = [answered(dashboard, replace(context, variables={"route": route})) for route in ROUTES]
    assert set.union(*found) == queries(dashboard)


def read(name):
    return json.loads((DASHBOARDS / f"{name}.json").read_text())


def queries(dashboard):
    """Title of the panel and name of the query, of all."""
    panels = (panel for panel in dashboard["panels"] if panel["type"] != "row")
    return {(panel["title"], target["refId"]) for panel in panels for target in panel["targets"]}


def answered(dashboard, context):
    """Those of the queries that give a value; every variable must offer one."""
    context = with_variables(dashboard, context)
    for variable in dashboard["templating"]["list"]:
        assert run_variable(variable, context), variable["name"]
    recent = replace(context, since=context.until - MINUTES)
    found = set()
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            asked = recent if panel["datasource"]["type"] == "prometheus" else context
            frames = run_panel(panel, asked)
            found |= {(panel["title"], frame.ref_id) for frame in frames if has_value(frame)}
    return found


def has_value(frame):
    """Whether a number is there that is not null."""
    numbers = (column for column in frame.columns if column.kind == "number")
    return any(value is not None for column in numbers for value in column.values)
