"""Live traffic: what the application does right now."""

from typing import Final

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardLinkType, DataTransformerConfig

from deploy.grafana.builder import page, panels, variables
from deploy.grafana.builder.sources import PROMETHEUS, buckets, instant, promql

_REQUESTS: Final = 'environment=~"$environment", http_route=~"$route", http_request_method=~"$method"'
_DURATION: Final = "http_server_request_duration_seconds"
_BY: Final = "http_request_method, http_route"
_NAME: Final = "{{http_request_method}} {{http_route}}"
_RATE: Final = f"sum(rate({_DURATION}_count{{{_REQUESTS}}}[$__rate_interval]))"
_FAILED: Final = f'{_DURATION}_count{{{_REQUESTS}, http_response_status_code=~"5.."}}'


def build() -> Dashboard:
    """The dashboard."""
    return page.dashboard(
        "Live traffic",
        page.LIVE,
        "Rate, errors and durations of the application as Prometheus scrapes them; from a slow route on to "
        "its page.",
        variables=[
            variables.prometheus(),
            variables.environment(f"{_DURATION}_count"),
            variables.routes_of_metrics(),
            variables.methods_of_metrics(),
        ],
        rows=[
            page.Row("Now", [_rate(), _errors(), _p95(), _active()]),
            page.Row("Rate, errors, duration", [_rate_by_route(), _errors_by_route(), _duration_by_route()]),
            page.Row("Durations", [_heat_map(), _active_by_method()]),
            page.Row("Routes", [_slowest()]),
        ],
        since="now-1h",
        refresh="30s",
    )


def _rate() -> panels.Figure:
    return panels.figure(
        "Requests",
        "How busy is the application? Requests answered a second, over all routes chosen.",
        PROMETHEUS,
        promql(_RATE),
        unit=panels.REQUESTS_A_SECOND,
    ).span(6)


def _errors() -> panels.Figure:
    return panels.figure(
        "Errors",
        "Which share of the requests fails on our side (5xx)? Yellow and red begin where the alerts on the "
        "error budget do: at 6 and 14.4 times 0.1 %.",
        PROMETHEUS,
        promql(f"(sum(rate({_FAILED}[$__rate_interval])) or {_RATE} * 0) / ({_RATE} > 0)"),
        unit=panels.SHARE,
        steps=panels.ERRORS,
        decimals=2,
    ).span(6)


def _p95() -> panels.Figure:
    return panels.figure(
        "p95",
        "How long do all but the slowest 5 % of requests take at most? From the buckets of the histogram, so "
        "no more exact than these are wide.",
        PROMETHEUS,
        promql(_quantile(0.95, "le")),
        unit=panels.SECONDS,
        steps=panels.DURATION,
    ).span(6)


def _active() -> panels.Figure:
    return panels.figure(
        "In progress",
        "How many requests are being answered at this moment? Not told apart by route: that is known only "
        "in the end.",
        PROMETHEUS,
        promql(
            'sum(http_server_active_requests{environment=~"$environment", http_request_method=~"$method"})'
        ),
        unit=panels.COUNT,
        decimals=0,
    ).span(6)


def _rate_by_route() -> panels.Graph:
    return _linked(
        panels.graph(
            "Requests by route",
            "Which routes are asked for most, and since when? Means over five minutes.",
            PROMETHEUS,
            [promql(_recorded("sum", "http_server_requests:rate5m"), _NAME)],
            unit=panels.REQUESTS_A_SECOND,
            by_name=True,
        )
    )


def _errors_by_route() -> panels.Graph:
    return _linked(
        panels.graph(
            "Errors by route",
            "Which routes fail, and since when? The share of their requests answered 5xx, over five "
            "minutes; the lines are 6 and 14.4 times what the error budget allows.",
            PROMETHEUS,
            [promql(_recorded("max", "http_server_errors:ratio_rate5m"), _NAME)],
            unit=panels.SHARE,
            steps=panels.ERRORS,
            legend=("max", "lastNotNull"),
            by_name=True,
        )
    )


def _duration_by_route() -> panels.Graph:
    return _linked(
        panels.graph(
            "p95 by route",
            "Which routes are slow, and since when? Over five minutes; the alert on latency counts "
            "requests of more than a second.",
            PROMETHEUS,
            [promql(_recorded("max", f"{_DURATION}:p95_rate5m"), _NAME)],
            unit=panels.SECONDS,
            steps=panels.DURATION,
            by_name=True,
        )
    )


def _heat_map() -> panels.Heat:
    return panels.heat(
        "How long do requests take?",
        "Are there several kinds of requests, and do all get slower or only some? The brighter a cell, the "
        "more requests ended with that duration.",
        PROMETHEUS,
        buckets(f"sum by (le) (increase({_DURATION}_bucket{{{_REQUESTS}}}[$__rate_interval]))"),
    ).span(14)


def _active_by_method() -> panels.Graph:
    return panels.graph(
        "Requests in progress",
        "Do requests pile up? A level that rises while the rate does not says that something blocks.",
        PROMETHEUS,
        [
            promql(
                "sum by (http_request_method) (http_server_active_requests"
                '{environment=~"$environment", http_request_method=~"$method"})',
                "{{http_request_method}}",
            )
        ],
        unit=panels.COUNT,
        legend=("max", "lastNotNull"),
    ).span(10)


def _slowest() -> table.Panel:
    queries = {
        "Requests": _recorded("sum", "http_server_requests:rate5m"),
        "p50": _recorded("max", f"{_DURATION}:p50_rate5m"),
        "p95": _recorded("max", f"{_DURATION}:p95_rate5m"),
        "p99": _recorded("max", f"{_DURATION}:p99_rate5m"),
        "Errors": _recorded("max", "http_server_errors:ratio_rate5m"),
        "Queries": _recorded("max", "http_server_request_db_queries:mean_rate5m"),
    }
    to_route = page.to_route(
        "__data.fields.Route", "__data.fields.Method", variables=["prometheus", "environment"]
    )
    names = dict(zip("ABCDEF", queries, strict=True))
    return (
        panels.rows(
            "Slowest routes",
            "Which routes should I look at first? Over the last five minutes of the range, slowest p95 "
            "first; follow a route to its page.",
            PROMETHEUS,
            [instant(queries[name], ref_id) for ref_id, name in names.items()],
            columns={
                "Method": panels.column(width=100),
                "Route": panels.column(links=[to_route]),
                "Requests": panels.column(panels.REQUESTS_A_SECOND, width=150),
                "p50": panels.judged(panels.SECONDS, panels.DURATION, width=130),
                "p95": panels.bar(panels.SECONDS, width=340),
                "p99": panels.judged(panels.SECONDS, panels.DURATION, width=130),
                "Errors": panels.judged(panels.SHARE, panels.ERRORS, width=130, decimals=1),
                "Queries": panels.column(panels.COUNT, width=130, decimals=1),
            },
        )
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {
                        "http_request_method": 0,
                        "http_route": 1,
                        **{f"Value #{ref_id}": place for place, ref_id in enumerate(names, start=2)},
                    },
                    "renameByName": {
                        "http_request_method": "Method",
                        "http_route": "Route",
                        **{f"Value #{ref_id}": name for ref_id, name in names.items()},
                    },
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name("p95").desc(True)])
        .span(24)
        .height(12)
    )


def _recorded(across: str, series: str) -> str:
    """A recorded series by route; `across` puts several jobs and environments together."""
    return f"{across} by ({_BY}) (job_method_route:{series}{{{_REQUESTS}}})"


def _quantile(share: float, by: str) -> str:
    rate = f"rate({_DURATION}_bucket{{{_REQUESTS}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({by}) ({rate}))"


def _linked(panel: panels.Graph) -> panels.Graph:
    """A line leads to the page of its route."""
    link = page.to_route(
        "__field.labels.http_route",
        "__field.labels.http_request_method",
        variables=["prometheus", "environment"],
    )
    to_route = DashboardLink(str(link["title"])).type(DashboardLinkType.LINK).url(str(link["url"]))
    return panel.data_links([to_route]).span(8).height(11)
