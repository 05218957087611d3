"""Cache candidates: what to cache, by three rankings, and whether the prediction came true."""

from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.builder import page, panels, variables
from deploy.grafana.builder.sources import POSTGRES, PROMETHEUS, promql, series
from deploy.grafana.builder.sources import table as answer

_SCORE: Final = "otel_analytics_cache_candidate_score"
_SELECTION: Final = 'environment=~"$environment", http_route=~"$route", http_request_method=~"$method"'
_TO_ROUTE: Final = page.to_route(
    "__data.fields.Route", "__data.fields.Method", variables=["prometheus", "postgres", "environment"]
)
_LATEST: Final = "Of the latest rankings at the end of the range."


def build() -> Dashboard:
    """The dashboard."""
    return page.dashboard(
        "Cache candidates",
        page.CANDIDATES,
        "What to cache: three rankings side by side as the worker keeps them about every hour, and what "
        "became of them.",
        variables=[
            variables.prometheus(),
            variables.postgres(),
            variables.environment(_SCORE),
            variables.routes_of_table("candidates.routes"),
            variables.methods_of_table("candidates.methods"),
        ],
        rows=[
            page.Row("Worth it?", _figures()),
            page.Row("Three rankings side by side", [_absolute(), _relative(), _savings()]),
            page.Row("How to cache them", [_terms()]),
            page.Row("Predicted against realised", [_realised(), _realised_by_hour()]),
            page.Row("Over time", [_scores()]),
        ],
        since="now-24h",
        refresh="5m",
    )


def _figures() -> list[panels.Figure]:
    return [
        panels.figure(
            "Ranked",
            "How old is what this page shows? The worker keeps the rankings about once an hour.",
            POSTGRES,
            answer("candidates.ranked_at"),
            unit=panels.AGO,
        ).span(6),
        panels.figure(
            "Work saved a day",
            "What is caching worth? Seconds of work a day that all candidates by savings would save. "
            f"{_LATEST}",
            POSTGRES,
            answer("candidates.saved"),
            unit=panels.SECONDS,
        ).span(6),
        panels.figure(
            "Memory for it",
            "How much memory would that take? The peaks of all candidates by savings added up, which is "
            f"more than they need together. {_LATEST}",
            POSTGRES,
            answer("candidates.memory"),
            unit=panels.BYTES,
        ).span(6),
        panels.figure(
            "In all three rankings",
            f"On how many candidates do the rankings agree? {_LATEST}",
            POSTGRES,
            answer("candidates.in_all"),
            unit=panels.COUNT,
        ).span(6),
    ]


def _absolute() -> table.Panel:
    return _ranking(
        "Absolute: busy and slow",
        "What is asked for so often, takes so long and serves so many that it deserves a cache? The score "
        "is 10 for each request an hour, 1 for each 100 ms of the average p95, and up to 10 for users.",
        "candidates.absolute",
        "Score",
        panels.bar(panels.EXACTLY, width=120),
    )


def _relative() -> table.Panel:
    return _ranking(
        "Relative: against all others",
        "What stands out among all routes, however little traffic there is? 0.4 times the percentile of "
        "latency, 0.4 times that of popularity, 0.2 times that of users: 100 at the most.",
        "candidates.relative",
        "Priority",
        panels.bar(panels.COUNT, width=120, decimals=1),
    )


def _savings() -> table.Panel:
    return _ranking(
        "Savings: by replay",
        "What would a cache save? Seconds of work a day, from a replay of the requests at the best time to "
        "live that keeps hits fresh enough.",
        "candidates.savings",
        "Saved a day",
        panels.bar(panels.SECONDS, width=120),
    )


def _ranking(title: str, question: str, statement: str, score: str, shown: panels.Column) -> table.Panel:
    return (
        panels.rows(
            title,
            question,
            POSTGRES,
            [answer(statement)],
            columns={
                "#": panels.column(width=36),
                "Method": panels.column(width=70),
                "Route": panels.column(links=[_TO_ROUTE]),  # with the parameters, what room is left
                score: shown,
            },
        )
        .span(8)
        .height(12)
    )


def _terms() -> table.Panel:
    return (
        panels.rows(
            "Candidates by savings",
            "How long may a copy live, may users share it, and what does that bring and cost? Predicted by "
            "the replay; requests and users an hour over the hours with traffic.",
            POSTGRES,
            [answer("candidates.terms")],
            columns={
                "#": panels.column(width=40),
                "Method": panels.column(width=75),
                "Route": panels.column(links=[_TO_ROUTE]),
                "A copy is": panels.column(width=90),
                "Time to live": panels.column(panels.SECONDS, width=110),
                "Saved a day": panels.bar(panels.SECONDS, width=190),
                "Hits": panels.judged(panels.SHARE, panels.HITS, width=80, decimals=1),
                "Stale hits": panels.column(panels.SHARE, width=90, decimals=2),
                "Memory": panels.column(panels.BYTES, width=100),
                "Requests/hour": panels.column(panels.COUNT, width=115, decimals=1),
                "Average p95": panels.judged(panels.SECONDS, panels.DURATION, width=105),
                "Users/hour": panels.column(panels.COUNT, width=95, decimals=1),
                "Success": panels.column(panels.SHARE, width=85, decimals=1),
            },
        )
        .span(24)
        .height(10)
    )


def _realised() -> table.Panel:
    return (
        panels.rows(
            "Did the prediction come true?",
            "Does the cache hit as often as the replay said? Of patterns with a cache that says hit or "
            "miss: the prediction that stood as the range began (or the first in it), and what came since. "
            "They can only agree where the cache keeps copies as long as the ranking says. The difference "
            "is in points of the share.",
            POSTGRES,
            [answer("candidates.realised")],
            columns={
                "Method": panels.column(width=75),
                "Route": panels.column(links=[_TO_ROUTE]),
                "Predicted at": panels.column(panels.MOMENT, width=160),
                "Time to live": panels.column(panels.SECONDS, width=100),
                "Predicted": panels.column(panels.SHARE, width=120, decimals=1),
                "Realised": panels.column(panels.SHARE, width=120, decimals=1),
                "Difference": panels.judged(
                    panels.SHARE,
                    ((None, panels.RED), (-0.1, panels.YELLOW), (-0.05, panels.GREEN)),
                    width=120,
                    decimals=1,
                ),
                "Hits and misses": panels.column(panels.EXACTLY, width=140),
            },
        )
        .span(24)
        .height(6)
    )


def _realised_by_hour() -> panels.Graph:
    return (
        panels.graph(
            "Hits: predicted and realised by hour",
            "Since when does the cache hit more or less often than predicted? Each hour beside the "
            "prediction that stood at its end, for the three patterns with most hits and misses.",
            POSTGRES,
            [series("candidates.realised_by_hour")],
            unit=panels.SHARE,
        )
        .max(1)
        .span(24)
    )


def _scores() -> panels.Graph:
    return panels.graph(
        "Score over time",
        "Which candidates rise or fall? The score in the absolute ranking, as the worker tells it to "
        "Prometheus.",
        PROMETHEUS,
        [
            promql(
                "max by (http_request_method, http_route, pattern) "
                f"(job_method_route_pattern:{_SCORE}:max{{{_SELECTION}}})",
                "{{http_request_method}} {{http_route}} {{pattern}}",
            )
        ],
        unit=panels.COUNT,
        legend=("lastNotNull", "max"),
    ).span(24)
