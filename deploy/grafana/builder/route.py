"""Route: one route and its parameter patterns, now and over days."""

from typing import Final

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.builder import page, panels, variables
from deploy.grafana.builder.sources import POSTGRES, PROMETHEUS, promql, series
from deploy.grafana.builder.sources import table as answer

_ROUTE: Final = 'environment=~"$environment", http_route="$route"'
_REQUESTS: Final = f'{_ROUTE}, http_request_method=~"$method"'
_DURATION: Final = "http_server_request_duration_seconds"
_HOURS: Final = "Of all hours that the range touches."


def build() -> Dashboard:
    """The dashboard."""
    return page.dashboard(
        "Route",
        page.ROUTE,
        "One route and its parameter patterns: live from Prometheus, over days and weeks from PostgreSQL.",
        variables=[
            variables.prometheus(),
            variables.postgres(),
            variables.environment(f"{_DURATION}_count"),
            variables.route_of_table("route.routes"),
            variables.methods_of_table("route.methods"),
        ],
        rows=[
            page.Row("$route in this range", [*_figures()]),
            page.Row("Live", [_latency(), _answers(), _hits(), _sizes(), _queries(), _failures()]),
            page.Row("Hour by hour", [_traffic(), _percentiles(), _users(), _errors()]),
            page.Row("Week", [_week()]),
            page.Row("Parameter patterns", [_patterns()]),
        ],
        since="now-24h",
        refresh="1m",
    )


def _figures() -> list[panels.Figure]:
    return [
        panels.figure(
            "Requests",
            f"How often was the route asked for? {_HOURS}",
            POSTGRES,
            answer("route.requests"),
            unit=panels.EXACTLY,
        ).span(4),
        panels.figure(
            "Users",
            "How many different users asked for it? Counted among the raw requests of the range, as far "
            "back as they are kept; requests without a user are left out.",
            POSTGRES,
            answer("route.users"),
            unit=panels.EXACTLY,
        ).span(4),
        panels.figure(
            "p95",
            "How long did all but the slowest 5 % of the requests take at most? Of all requests together, "
            f"within 2 %, and no mean of hourly percentiles. {_HOURS}",
            POSTGRES,
            answer("route.p95"),
            unit=panels.SECONDS,
            steps=panels.DURATION,
        ).span(4),
        panels.figure(
            "Errors",
            f"Which share of the requests failed on our side (5xx)? {_HOURS}",
            POSTGRES,
            answer("route.server_errors"),
            unit=panels.SHARE,
            steps=panels.ERRORS,
            decimals=2,
        ).span(4),
        panels.figure(
            "Cache hits",
            f"How often did a cache answer, of the requests of which it says hit or miss? {_HOURS} Nothing "
            "is shown where no cache says anything.",
            POSTGRES,
            answer("route.cache_hits"),
            unit=panels.SHARE,
            steps=panels.HITS,
            decimals=1,
        )
        .no_value("not told")
        .span(4),
        panels.figure(
            "Queries a request",
            f"What does a request cost the database? A mean over all requests. {_HOURS} Nothing is shown "
            "where queries are not counted.",
            POSTGRES,
            answer("route.queries"),
            unit=panels.COUNT,
            decimals=1,
        )
        .no_value("not counted")
        .span(4),
    ]


def _latency() -> panels.Graph:
    queries = [
        promql(_quantile(share, f"{_DURATION}_bucket{{{_REQUESTS}}}"), name, ref_id).exemplar(name == "p95")
        for share, name, ref_id in ((0.5, "p50", "A"), (0.95, "p95", "B"), (0.99, "p99", "C"))
    ]
    return panels.graph(
        "How long does it take?",
        "Does the route get slower, in general or only at its worst? The dots are single traced requests "
        "(exemplars), which lead to their trace where the data source names a tracing one.",
        PROMETHEUS,
        queries,
        unit=panels.SECONDS,
        steps=panels.DURATION,
        colors=panels.PERCENTILES,
    ).span(8)


def _answers() -> panels.Graph:
    return panels.stacked(
        panels.graph(
            "What does it answer?",
            "How much is asked, and with which status are requests answered?",
            PROMETHEUS,
            [
                promql(
                    "sum by (http_response_status_code) "
                    f"(rate({_DURATION}_count{{{_REQUESTS}}}[$__rate_interval]))",
                    "{{http_response_status_code}}",
                )
            ],
            unit=panels.REQUESTS_A_SECOND,
            colors=panels.STATUSES,
        )
    ).span(8)


def _hits() -> panels.Graph:
    return panels.graph(
        "What does a cache say?",
        "Does the cache in front of or inside the application hold what is asked for? By what it said; of "
        "all methods. Empty where no cache says anything.",
        PROMETHEUS,
        [
            promql(
                "sum by (cache_status) "
                f"(rate(http_server_cache_requests_total{{{_ROUTE}}}[$__rate_interval]))",
                "{{cache_status}}",
            )
        ],
        unit=panels.REQUESTS_A_SECOND,
        colors={"^hit$": panels.GREEN, "^miss$": panels.ORANGE},
    ).span(8)


def _sizes() -> panels.Graph:
    response, request = (
        f"http_server_{which}_body_size_bytes_bucket{{{_REQUESTS}}}" for which in ("response", "request")
    )
    return panels.graph(
        "How large are the bodies?",
        "Do bodies grow? The median and the p95 of what was sent, and the p95 of what came, as they "
        "passed, after compression; no more exact than the buckets, each four times the one before.",
        PROMETHEUS,
        [
            promql(_quantile(0.95, response), "response p95", "A"),
            promql(_quantile(0.5, response), "response p50", "B"),
            promql(_quantile(0.95, request), "request p95", "C"),
        ],
        unit=panels.BYTES,
    ).span(8)


def _queries() -> panels.Graph:
    queries = "http_server_request_db_queries"
    total, count = (
        f"sum(rate({queries}_{part}{{{_REQUESTS}}}[$__rate_interval]))" for part in ("sum", "count")
    )
    return panels.graph(
        "How many queries does a request make?",
        "Does a request ask the database again and again? A p95, rounded up, far above the mean says that "
        "it depends on the parameters.",
        PROMETHEUS,
        [
            promql(f"{total} / ({count} > 0)", "mean", "A"),
            promql(f"ceil({_quantile(0.95, f'{queries}_bucket{{{_REQUESTS}}}')})", "p95", "B"),
        ],
        unit=panels.COUNT,
        colors={"^mean$": panels.BLUE, "^p95$": panels.ORANGE},
    ).span(8)


def _failures() -> panels.Graph:
    total = f"sum(rate({_DURATION}_count{{{_REQUESTS}}}[$__rate_interval]))"

    def share(statuses: str) -> str:
        failed = f'{_DURATION}_count{{{_REQUESTS}, http_response_status_code=~"{statuses}"}}'
        return f"(sum(rate({failed}[$__rate_interval])) or {total} * 0) / ({total} > 0)"

    return panels.graph(
        "Which share fails?",
        "Do requests fail on our side (5xx) or on theirs (4xx)? The lines are 6 and 14.4 times what the "
        "error budget allows.",
        PROMETHEUS,
        [promql(share("5.."), "5xx", "A"), promql(share("4.."), "4xx", "B")],
        unit=panels.SHARE,
        steps=panels.ERRORS,
        colors=panels.STATUSES,
        legend=("max", "lastNotNull"),
    ).span(8)


def _traffic() -> panels.Graph:
    return panels.stacked(
        panels.graph(
            "Requests an hour by pattern",
            "Which parameters are asked for, and when? The seven busiest patterns, the others together.",
            POSTGRES,
            [series("route.traffic")],
            unit=panels.COUNT,
            legend=("sum", "max"),
        )
    ).span(12)


def _percentiles() -> panels.Graph:
    return (
        panels.graph(
            "Percentiles over days",
            "Has the route become slower over days or weeks? Of all requests of an hour, or of several "
            "where the range is long, from merged histograms, within 2 %.",
            POSTGRES,
            [series("route.percentiles")],
            unit=panels.SECONDS,
            steps=panels.DURATION,
            colors=panels.PERCENTILES,
        )
        .interval("1h")
        .span(12)
    )


def _users() -> panels.Graph:
    return panels.graph(
        "Users an hour by pattern",
        "Is a pattern asked for by many or by few? Different users in each hour, for the five busiest "
        "patterns. The lines do not add up, as one user may ask for several.",
        POSTGRES,
        [series("route.users_by_hour")],
        unit=panels.COUNT,
        legend=("mean", "max"),
    ).span(12)


def _errors() -> panels.Graph:
    return panels.stacked(
        panels.graph(
            "Errors an hour",
            "When did requests fail, and on whose side?",
            POSTGRES,
            [series("route.errors_by_hour")],
            unit=panels.COUNT,
            colors=panels.STATUSES,
            legend=("sum", "max"),
        )
    ).span(12)


def _week() -> table.Panel:
    return panels.week(
        "When is it asked for? Requests by hour (UTC) and weekday",
        "At which hours of the week is the route busy? Requests in that hour, averaged over the times it "
        "came by in the range: choose at least a week. A dash is an hour without figures, 0 one in which "
        "only others were asked.",
        POSTGRES,
        answer("route.week"),
    ).span(24)


def _patterns() -> table.Panel:
    return (
        panels.rows(
            "Parameter patterns",
            "Which combinations of parameters cost most, and could be cached apart? The fifty busiest; p95 "
            "of all their requests within 2 %; requests and users an hour over the hours in which a "
            "pattern was asked for.",
            POSTGRES,
            [answer("route.patterns")],
            columns={
                "Method": panels.column(width=80),
                "Requests": panels.column(panels.EXACTLY, width=90),
                "Requests/hour": panels.column(panels.COUNT, width=110, decimals=1),
                "Users/hour": panels.column(panels.COUNT, width=95, decimals=1),
                "Mean": panels.column(panels.SECONDS, width=90),
                "p95": panels.judged(panels.SECONDS, panels.DURATION, width=90),
                "Time spent": panels.bar(panels.SECONDS, width=240),
                "4xx, 5xx": panels.column(panels.SHARE, width=85, decimals=1),
                "Cache hits": panels.column(panels.SHARE, width=95, decimals=1),
                "Queries": panels.column(panels.COUNT, width=80, decimals=1),
                "Response size": panels.column(panels.BYTES, width=120, decimals=0),
            },
        )
        .sort_by([common.TableSortByFieldState().display_name("Time spent").desc(True)])
        .span(24)
        .height(12)
    )


def _quantile(share: float, selector: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({selector}[$__rate_interval])))"
