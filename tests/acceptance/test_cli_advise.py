"""`advise` as its users run it: the installed command, a pipe or a terminal, a real database."""

import datetime as dt
import json
import re

import pytest
from backend import make_event
from program import in_terminal, run
from rich.cells import cell_len

from otel_analytics.present.advice import AdviceRow, RuleRow
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

EVIL = "/evil\x1b[31m\n\u202e{id}"
LONG = "/api/v1/tenants/{tenant_id}/reports/{report_id}/sections/{section_id}/export"
NOWHERE = "postgresql://user:hidden@127.0.0.1:1/nowhere"


def fill(dsn):
    """A page worth caching, a personal one, one with a dangerous name that fails, and a write."""
    now = dt.datetime.now(dt.UTC)
    events = []
    for n in range(400):
        common = {"user_id": f"u{n % 9}", "response_size_bytes": 900, "duration_ms": 200.0, "ttfb_ms": 190.0}
        moment = now - dt.timedelta(seconds=60 + 5 * n)
        for route, fields in (
            (LONG, {"response_hash": 1}),
            ("/me", {"response_hash": 1 + n % 9}),
            (EVIL, {"status_code": 500 if n % 5 else 200, "response_hash": None}),
            ("/orders", {"method": "POST", "status_code": 201}),
        ):
            path = {"route": route, "route_full": route, "query_params": {}, "query_params_normalized": {}}
            events.append(make_event(moment, **{**path, **common, **fields}))
    with connect(dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - dt.timedelta(days=4)).date())
        rollup_touched(connection, Settings(), now=now)


@pytest.fixture
def filled(migrated_dsn):
    fill(migrated_dsn)
    return migrated_dsn


def test_findings_for_programs_and_for_people(filled, tmp_path, subtests):
    output, remark = run(filled, "advise", "--format", "json", "--all")
    rows = json.loads(output)
    with subtests.test("JSON has every field, and nothing else stands with it"):
        assert all(tuple(row) == AdviceRow._fields for row in rows)
        assert {(row["rule"], row["route"]) for row in rows} == {
            ("cache-candidate", LONG),
            ("never-share", LONG),
            ("never-share", "/me"),
            ("cache-candidate", "/me"),
            ("error-prone", EVIL),
            ("unsafe-method", "/orders"),
        }
        assert remark == (
            "Based on 1,600 requests of 4 routes in 0.6 hours of the 7 days asked for; coverage unknown, the"
            " ledger is empty.\n"
        )

    for columns in (80, 120):
        with subtests.test("a terminal", columns=columns):
            lines = in_terminal(filled, columns, "advise")
            whole = "\n".join(lines)
            assert max(cell_len(line) for line in lines) <= max(columns, len(LONG) + 40)
            assert "high    cache-candidate  GET /api/v1/tenants" in whole
            assert "\x1b" not in whole
            assert "\u202e" not in whole
            assert "2 more for information: --all." in re.sub(r"\s+", " ", whole)
            assert "SELECT" not in whole

    with subtests.test("one route, with the statement"):
        output, _ = run(filled, "advise", "/me", "--rule", "never-share", "--sql")
        assert output.startswith("high    never-share  GET /me\n")
        assert "route = '/me'" in output
        assert "-> Never share a copy" in output

    with subtests.test("what is asked for and not there"):
        output, remark = run(filled, "advise", "/none")
        assert (output, remark) == ("", "No raw requests of /none in the last 7 days.\n")
        output, remark = run(filled, "advise", "--rule", "traffic-spike", "--format", "json")
        assert output == "[]\n"
        assert remark.startswith("Nothing to advise. Based on 1,600")

    with subtests.test("rules are set by the file"):
        (tmp_path / "otel-analytics.toml").write_text("[rules.never-share]\nenabled = false\n")
        output, _ = run(filled, "advise", "--format", "json", cwd=tmp_path)
        assert "never-share" not in {row["rule"] for row in json.loads(output)}


def test_rules_are_listed_without_a_server(tmp_path):
    (tmp_path / "otel-analytics.toml").write_text(
        "[rules.slow-tail]\nmin_ratio = 20\n[rules.error-prone]\nenabled = false\n"
    )
    output, _ = run(NOWHERE, "advise", "--rules", cwd=tmp_path)
    assert "slow-tail\n" in output
    assert "min_ratio = 20 (default 10): " in output
    assert "error-prone  off\n" in output
    rows = json.loads(run(NOWHERE, "advise", "--rules", "--format", "json", cwd=tmp_path)[0])
    assert all(tuple(row) == RuleRow._fields for row in rows)
    (tail,) = [row for row in rows if row["rule"] == "slow-tail"]
    assert tail["thresholds"]["min_ratio"]["value"] == 20
    assert tail["set_by_file"] == ["min_ratio"]


@pytest.mark.parametrize(
    ("arguments", "toml", "code", "words"),
    [
        (["advise", "--rule", "slow-tale"], "", 2, "unknown rule slow-tale; did you mean slow-tail?"),
        (
            ["advise"],
            "[rules.slow-tale]",
            2,
            "setting rules: unknown rule slow-tale; did you mean slow-tail?",
        ),
        (
            ["advise", "--rules"],
            "[rules.slow-tail]\nx = 1",
            2,
            "rules.slow-tail: unknown threshold x; there are",
        ),
        (["advise", "--days", "0"], "", 2, "--days"),
        (["advise"], "", 1, "connection failed"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, arguments, toml, code, words):
    (tmp_path / "otel-analytics.toml").write_text(toml)
    output, error = run(NOWHERE, *arguments, code=code, cwd=tmp_path)
    assert output == ""
    assert words in error
    assert len(error.splitlines()) == 1
    assert "hidden" not in error
