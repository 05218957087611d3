"""Pipeline health: the way of an event from the request to the hourly figures."""

from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.builder import page, panels, variables
from deploy.grafana.builder.sources import POSTGRES, PROMETHEUS, promql, whole
from deploy.grafana.builder.sources import table as answer

_HERE: Final = '{environment=~"$environment"}'
_MINUTE: Final = 60
_HALF_AN_HOUR: Final = 1_800


def build() -> Dashboard:
    """The dashboard."""
    return page.dashboard(
        "Pipeline health",
        page.PIPELINE,
        "Does every request arrive in the figures? From the application through the stream and the worker "
        "to the hourly table, with the ledger.",
        variables=[
            variables.prometheus(),
            variables.postgres(),
            variables.environment("otel_analytics_events_accepted_total"),
        ],
        rows=[
            page.Row("Well?", [*_state()]),
            page.Row("From request to rollup in this range", [*_stages()]),
            page.Row("Flow", [_flow(), _waiting(), _lag()]),
            page.Row("Trouble", [_dropped(), _errors(), _batches()]),
            page.Row("Stores", [_memory(), _rollup()]),
            page.Row("Ledger", [_ledger(), _drops()]),
        ],
        since="now-6h",
        refresh="30s",
    )


def _state() -> list[panels.Figure]:
    return [
        panels.figure(
            "Workers",
            "Does a worker run? Those that answered the last scrape.",
            PROMETHEUS,
            promql('sum(up{job="otel-analytics-worker", environment=~"$environment"})'),
            unit=panels.COUNT,
            steps=((None, panels.RED), (1, panels.GREEN)),
        ).span(3),
        panels.figure(
            "Lag",
            "How old is the oldest event that is not stored yet? Above a minute for a quarter of an hour "
            "is an alert.",
            PROMETHEUS,
            promql(_highest("worker_lag_seconds")),
            unit=panels.SECONDS,
            steps=((None, panels.GREEN), (_MINUTE / 2, panels.YELLOW), (_MINUTE, panels.RED)),
        ).span(3),
        panels.figure(
            "Hourly figures behind",
            "How late is the rollup? Time since the oldest hour that waits for one ended; half an hour is "
            "an alert.",
            PROMETHEUS,
            promql(_highest("worker_rollup_age_seconds")),
            unit=panels.SECONDS,
            steps=((None, panels.GREEN), (_HALF_AN_HOUR / 2, panels.YELLOW), (_HALF_AN_HOUR, panels.RED)),
        ).span(3),
        panels.figure(
            "Dead letters",
            "Does something wait for a decision? Entries that could not be stored, to be replayed or purged.",
            PROMETHEUS,
            promql(_highest("dead_letter_entries")),
            unit=panels.COUNT,
            steps=((None, panels.GREEN), (1, panels.RED)),
        ).span(3),
        panels.figure(
            "Dropped",
            "Did applications give events up in this range? About, as Prometheus estimates between its "
            "scrapes.",
            PROMETHEUS,
            whole(f"sum(increase(otel_analytics_events_dropped_total{_HERE}[$__range]))"),
            unit=panels.COUNT,
            steps=((None, panels.GREEN), (1, panels.RED)),
            decimals=0,
        ).span(3),
        panels.figure(
            "Days with partitions",
            "Is there room for tomorrow's events? Days after today that have a partition.",
            PROMETHEUS,
            promql(f"min(otel_analytics_partitions_ahead{_HERE})"),
            unit=panels.COUNT,
            steps=((None, panels.RED), (1, panels.GREEN)),
        ).span(3),
        panels.figure(
            "Redis may evict",
            "Can Redis delete the whole stream to make room? It can unless its policy is noeviction.",
            PROMETHEUS,
            promql(_highest("redis_may_evict")),
            unit=panels.COUNT,
            steps=((None, panels.GREEN), (1, panels.RED)),
        )
        .mappings([panels.said({"0": "no", "1": "yes"})])
        .span(3),
        panels.figure(
            "Last failure",
            "When did Redis or PostgreSQL last fail a worker that runs?",
            PROMETHEUS,
            promql(f"{_highest('worker_last_error_timestamp_seconds')} * 1000"),
            unit=panels.AGO,
        )
        .mappings([panels.said({"0": "never"})])
        .graph_mode(panels.NO_SPARKLINE)
        .span(3),
    ]


def _stages() -> list[panels.Figure]:
    estimate = "About, as Prometheus estimates between its scrapes; compare it with its neighbours."
    answered = "http_server_request_duration_seconds_count"
    return [
        panels.figure(
            "1. Answered",
            f"How many requests did the application answer? {estimate}",
            PROMETHEUS,
            whole(f"sum(increase({answered}{_HERE}[$__range]))"),
            unit=panels.EXACTLY,
        ).span(6),
        panels.figure(
            "2. Accepted by Redis",
            f"How many of their events reached the stream? {estimate}",
            PROMETHEUS,
            whole(f"sum(increase(otel_analytics_events_accepted_total{_HERE}[$__range]))"),
            unit=panels.EXACTLY,
        ).span(6),
        panels.figure(
            "3. Stored in PostgreSQL",
            f"How many have workers stored? {estimate}",
            PROMETHEUS,
            whole(
                "sum(max by (environment, job) "
                f"(increase(otel_analytics_ledger_stored_total{_HERE}[$__range])))"
            ),
            unit=panels.EXACTLY,
        ).span(6),
        panels.figure(
            "4. In hourly figures",
            "Is every stored event in the figures that rankings and reports rest on? Of the last full hour "
            "of the range, by count.",
            POSTGRES,
            answer("pipeline.rolled_up"),
            unit=panels.SHARE,
            steps=((None, panels.YELLOW), (1, panels.GREEN)),
            decimals=1,
        )
        .no_value("nothing stored")
        .span(6),
    ]


def _flow() -> panels.Graph:
    def of_all_workers(metric: str) -> str:
        rate = f"rate(otel_analytics_ledger_{metric}_total{_HERE}[$__rate_interval])"
        return f"sum(max by (environment, job) ({rate}))"

    return panels.graph(
        "What becomes of events?",
        "Is as much stored as is accepted? Duplicates are events sent twice and recognised, dead ones can "
        "never be stored.",
        PROMETHEUS,
        [
            promql(
                f"sum(rate(otel_analytics_events_accepted_total{_HERE}[$__rate_interval]))", "accepted", "A"
            ),
            promql(of_all_workers("stored"), "stored", "B"),
            promql(of_all_workers("duplicates"), "duplicates", "C"),
            promql(of_all_workers("dead"), "dead", "D"),
        ],
        unit=panels.EVENTS_A_SECOND,
        colors={
            "^accepted$": panels.BLUE,
            "^stored$": panels.GREEN,
            "^duplicates$": panels.YELLOW,
            "^dead$": panels.RED,
        },
    ).span(8)


def _waiting() -> panels.Graph:
    return panels.graph(
        "Where do events wait?",
        "Does something pile up? Events in the memory of the applications, entries that no worker has "
        "read, and entries read and not acknowledged; an entry holds up to a batch of events.",
        PROMETHEUS,
        [
            promql(f"sum(otel_analytics_buffer_events{_HERE})", "in applications", "A"),
            promql(_highest("worker_lag_entries"), "on the stream", "B"),
            promql(_highest("worker_pending_entries"), "with workers", "C"),
        ],
        unit=panels.COUNT,
        legend=("max", "lastNotNull"),
    ).span(8)


def _lag() -> panels.Graph:
    return panels.graph(
        "How long do they wait?",
        "Do workers keep up? The age of the oldest event that is not stored yet; the line is where an "
        "alert begins.",
        PROMETHEUS,
        [promql("max(job:otel_analytics_worker_lag_seconds:max" + _HERE + ")", "lag")],
        unit=panels.SECONDS,
        steps=((None, panels.GREEN), (_MINUTE, panels.RED)),
        legend=("max", "lastNotNull"),
    ).span(8)


def _dropped() -> panels.Graph:
    return panels.stacked(
        panels.graph(
            "What do applications give up?",
            "Are events lost before Redis had them, and why? By reason.",
            PROMETHEUS,
            [
                promql(
                    f"sum by (reason) (rate(otel_analytics_events_dropped_total{_HERE}[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            unit=panels.EVENTS_A_SECOND,
            legend=("max", "lastNotNull"),
        )
    ).span(8)


def _errors() -> panels.Graph:
    return panels.graph(
        "What fails?",
        "Do workers get through to Redis and PostgreSQL, and does capturing work? Errors a second; none of "
        "either reaches a request.",
        PROMETHEUS,
        [
            promql(f"sum(rate(otel_analytics_worker_errors_total{_HERE}[$__rate_interval]))", "worker", "A"),
            promql(
                f"sum(rate(otel_analytics_capture_errors_total{_HERE}[$__rate_interval]))", "capture", "B"
            ),
        ],
        unit=panels.ERRORS_A_SECOND,
        colors={"^worker$": panels.RED, "^capture$": panels.ORANGE},
        legend=("max", "lastNotNull"),
    ).span(8)


def _batches() -> panels.Graph:
    def quantile(share: float) -> str:
        rate = f"rate(otel_analytics_worker_batch_seconds_bucket{_HERE}[$__rate_interval])"
        return f"histogram_quantile({share}, sum by (le) ({rate}))"

    return panels.graph(
        "How long does a batch take?",
        "Is PostgreSQL quick enough? The time to store a batch, of up to 5,000 events unless set otherwise.",
        PROMETHEUS,
        [promql(quantile(0.5), "p50", "A"), promql(quantile(0.95), "p95", "B")],
        unit=panels.SECONDS,
        colors=panels.PERCENTILES,
    ).span(8)


def _memory() -> panels.Graph:
    return panels.graph(
        "How full is Redis?",
        "Will Redis refuse events soon? It does where the memory that it uses reaches the limit; without a "
        "limit there is only one line. More than 80 % is an alert.",
        PROMETHEUS,
        [
            promql(_highest("redis_memory_used_bytes"), "used", "A"),
            promql(_highest("redis_memory_max_bytes"), "limit", "B"),
        ],
        unit=panels.BYTES,
        colors={"^used$": panels.BLUE, "^limit$": panels.RED},
        legend=("lastNotNull", "max"),
    ).span(12)


def _rollup() -> panels.Graph:
    return panels.graph(
        "How late are the hourly figures?",
        "Do rankings rest on fresh figures? Time since the oldest hour that waits for a rollup ended; the "
        "line is where an alert begins.",
        PROMETHEUS,
        [promql(_highest("worker_rollup_age_seconds"), "behind")],
        unit=panels.SECONDS,
        steps=((None, panels.GREEN), (_HALF_AN_HOUR, panels.RED)),
        legend=("max", "lastNotNull"),
    ).span(12)


def _ledger() -> table.Panel:
    return (
        panels.rows(
            "The ledger, in events",
            "Is every accepted event accounted for? Accepted + replayed = stored + duplicates + dead + "
            "what is not accounted for. That still waits on the stream in its present life, and is lost "
            "from an earlier one; `otel-analytics audit` tells the two apart exactly.",
            POSTGRES,
            [answer("pipeline.ledger")],
            columns={
                "Begun": panels.column(panels.MOMENT, width=165),
                "Last batch": panels.column(panels.MOMENT, width=165),
                "Accepted": panels.column(panels.EXACTLY, width=95),
                "Replayed": panels.column(panels.EXACTLY, width=90),
                "Stored": panels.column(panels.EXACTLY, width=95),
                "Duplicates": panels.column(panels.EXACTLY, width=95),
                "Dead": panels.judged(panels.EXACTLY, ((None, panels.GREEN), (1, panels.RED)), width=80),
                "Purged": panels.column(panels.EXACTLY, width=80),
                "Not accounted for": panels.column(panels.EXACTLY, width=140),
            },
        )
        .span(17)
        .height(7)
    )


def _drops() -> table.Panel:
    return (
        panels.rows(
            "Given up, in events",
            "Which events never came to the stream? As applications reported it, by the hour of the report.",
            POSTGRES,
            [answer("pipeline.drops")],
            columns={
                "Events": panels.judged(panels.EXACTLY, ((None, panels.GREEN), (1, panels.RED)), width=90),
                "Last hour": panels.column(panels.MOMENT, width=165),
            },
        )
        .no_value("none")
        .span(7)
        .height(7)
    )


def _highest(metric: str) -> str:
    """Every worker tells the same, so the highest and not the sum."""
    return f"max(otel_analytics_{metric}{_HERE})"
