"""The worker's duties as plain functions, called by a scheduler."""

import logging
import re
from pathlib import Path

import pytest
from backend import DAY, make_event, make_settings, produce, raw_postgres, scalar

from otel_analytics import tasks
from otel_analytics.errors import NotMigrated
from otel_analytics.worker import utc_now


def test_each_task_does_its_part(redis_url, migrated_dsn):
    settings = make_settings(redis_url, migrated_dsn)
    produce(redis_url, [make_event(utc_now()), make_event(status_code=999)])
    assert tasks.transfer(settings) == tasks.TransferResult(stored=1, duplicates=0, dead=1)
    assert tasks.transfer(settings) == tasks.TransferResult(0, 0, 0)
    assert tasks.rollup(settings) == 1
    assert tasks.maintain(settings).partitions_made == []


def test_a_task_fails_with_what_to_do(redis_url, postgres_dsn):
    with pytest.raises(NotMigrated, match="otel-analytics migrate"):
        tasks.transfer(make_settings(redis_url, postgres_dsn))


@pytest.mark.filterwarnings("default")  # Celery's own
def test_a_real_celery_worker_runs_what_the_documentation_says(redis_url, migrated_dsn, monkeypatch):
    pytest.importorskip("celery")
    from celery.contrib.testing.worker import start_worker

    monkeypatch.setenv("OTEL_ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("OTEL_ANALYTICS_POSTGRES_DSN", migrated_dsn)
    page = Path(__file__).parents[2].joinpath("docs", "celery.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"__name__": "shop"}
    exec(code, names)
    app = names["app"]
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    app.conf.broker_transport_options = {"polling_interval": 0.05}
    produce(redis_url, [make_event(utc_now()), make_event(utc_now() - DAY)])
    # Celery takes over the logging of the whole process.
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        results = {
            name: app.send_task(entry["task"]).get(timeout=30, interval=0.05)
            for name, entry in app.conf.beat_schedule.items()
        }
    assert results == {"transfer": 2, "rollup": 2, "maintain": 0}
    with raw_postgres(migrated_dsn) as connection:
        assert scalar(connection, "SELECT sum(total_requests) FROM route_analytics_hourly") == 2


def test_without_redis_the_rollup_and_the_maintenance_remain(migrated_dsn):
    settings = make_settings("redis://127.0.0.1:1/0", migrated_dsn, exporter="postgres")
    assert tasks.maintain(settings).partitions_made
    assert tasks.rollup(settings) == 0
