"""The preview of the dashboards: queries expanded as Grafana expands them, and what is drawn from answers."""

import datetime as dt

import pytest

from deploy.grafana.preview import macros, prometheus
from deploy.grafana.preview.context import AllValue, Context
from deploy.grafana.preview.errors import QueryError
from deploy.grafana.preview.variables import shown

SINCE = dt.datetime(2026, 11, 24, 10, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def context(since=SINCE, until=SINCE + HOUR, scrape_seconds=15.0, **variables):
    return Context("http://127.0.0.1:1", "", since, until, variables, scrape_seconds)


def sql(raw, **variables):
    return macros.expanded(raw, context(**variables)).statement


def promql(expression, points=600, *, target=(), panel=(), **more):
    target = {"expr": expression, **dict(target)}
    return prometheus.expanded(target, dict(panel), points, context(**more)).expression


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("$__timeFilter(t)", "t BETWEEN '2026-11-24T10:00:00Z' AND '2026-11-24T11:00:00Z'"),
        ("$__timeFrom() $__timeTo()", "'2026-11-24T10:00:00Z' '2026-11-24T11:00:00Z'"),
        ("$__timeGroup(t, '5m')", "floor(extract(epoch from t)/300)*300"),
        ("$__timeGroup(t,1h), x", 'floor(extract(epoch from t)/3600)*3600 AS "time", x'),
        ("$__timeGroupAlias(t,'1d')", 'floor(extract(epoch from t)/86400)*86400 AS "time"'),
        ("$__unixEpochFilter(e)", "e >= 1795514400 AND e <= 1795518000"),
        ("$__unixEpochFrom()", "1795514400"),
        ("$__time(t)", 't AS "time"'),
        ("$__interval $__interval_ms", "1m 60000"),
        ("$__timeGroup(t, $__interval)", "floor(extract(epoch from t)/60)*60"),
        ("${__from} ${__to:date:seconds}", "1795514400000 1795518000"),
        ("${__from:date}", "2026-11-24T10:00:00.000Z"),
    ],
)
def test_macros_of_postgres_become_what_grafana_makes_of_them(raw, expected):
    assert sql(raw) == expected


@pytest.mark.parametrize(
    "raw", ["$__nothing(t)", "$nothing", "${nothing}", "$__timeGroup(t)", "${r:strange}"]
)
def test_what_is_not_known_is_refused(raw):
    with pytest.raises(QueryError):
        sql(raw, r="x")


def test_a_fraction_of_a_second_stays_in_the_range():
    later = SINCE + dt.timedelta(milliseconds=250)
    assert macros.expanded("$__timeFrom()", context(since=later)).statement == "'2026-11-24T10:00:00.25Z'"


@pytest.mark.parametrize(
    ("reference", "value", "expected"),
    [
        ("'$r'", "it's", "'it''s'"),
        ("$r", ["a", "it's"], "'a','it''s'"),
        ("$r", ["a"], "'a'"),
        ("[[r]]", ["a"], "'a'"),
        ("${r:sqlstring}", "it's", "'it''s'"),
        ("${r:raw}", "a b", "a b"),
        ("${r:csv}", ["a", "b"], "a,b"),
        ("${r:pipe}", ["a", "b"], "a|b"),
        ("${r:regex}", ["a.b", "/c"], r"(a\.b|\/c)"),
        ("${r:singlequote}", ["a", "b'"], r"'a','b\''"),
        ("${r:json}", ["a"], '["a"]'),
        ("${r:percentencode}", "/a b", "%2Fa%20b"),
        ("${r:queryparam}", ["a", "/b"], "var-r=a&var-r=%2Fb"),
    ],
)
def test_values_of_variables_go_into_sql_in_their_format(reference, value, expected):
    assert sql(reference, r=value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/items/{id}", 'up{r=~"/items/{id}"}'),
        (["/items/{id}"], r'up{r=~"/items/\\{id\\}"}'),
        (["/a", "/b.c"], r'up{r=~"(/a|/b\\.c)"}'),
        (AllValue(".*"), 'up{r=~".*"}'),
    ],
)
def test_values_of_variables_go_into_promql_as_text_or_as_a_regular_expression(value, expected):
    assert promql('up{r=~"$r"}', r=value) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "15s 15000 60s 3600s"),
        ({"points": 60}, "1m 60000 75s 3600s"),
        ({"scrape_seconds": 1.0}, "5s 5000 6s 3600s"),
        ({"target": {"interval": "1m"}}, "1m 60000 240s 3600s"),
        ({"panel": {"interval": "2m"}}, "2m 120000 135s 3600s"),
    ],
)
def test_intervals_of_prometheus_follow_from_the_range_and_the_room(more, expected):
    assert promql("$__interval $__interval_ms $__rate_interval $__range", **more) == expected


def test_a_title_shows_the_values_of_its_variables():
    assert shown("$r and ${m}", context(r=["/a", "/b"], m="GET")) == "/a + /b and GET"
