"""The preview of the dashboards: queries expanded as Grafana expands them, and what is drawn from answers."""

import datetime as dt
from xml.etree import ElementTree as ET

import pytest

from deploy.grafana.preview import macros, postgres, prometheus, ticks, units
from deploy.grafana.preview.context import AllValue, Context
from deploy.grafana.preview.drawing import width_of
from deploy.grafana.preview.errors import PanelError, QueryError
from deploy.grafana.preview.frames import Column, Frame
from deploy.grafana.preview.picture import NOTE, Answered, picture
from deploy.grafana.preview.transformations import transformed
from deploy.grafana.preview.variables import shown

SVG = "{http://www.w3.org/2000/svg}"

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


def rows(**columns):
    """Columns of rows at ten and half past ten, the second twice."""
    times = [SINCE, SINCE + HOUR / 2, SINCE + HOUR / 2]
    kinds = {str: "text", float: "number"}
    others = [Column(name, kinds[type(each[0])], {}, each) for name, each in columns.items()]
    return [Column("time", "time", {}, times), *others]


def test_rows_become_a_series_for_each_text_and_number():
    named = postgres.as_series(rows(metric=["a", "a", "b"], n=[1.0, 2.0, 3.0]), None, context())
    assert [(each.name, each.values) for each in named[1:]] == [("a", [1.0, 2.0]), ("b", [None, 3.0])]
    told = postgres.as_series(rows(m=["a", "a", "b"], n=[1.0, 2.0, 3.0]), None, context())
    assert [each.name for each in told] == ["Time", "n a", "n b"]
    told = postgres.as_series(rows(m=["a"] * 3, r=["x", "x", "y"], n=[1.0, 2.0, 3.0]), None, context())
    assert [each.name for each in told[1:]] == ['n {m="a", r="x"}', 'n {m="a", r="y"}']
    with pytest.raises(QueryError, match="ordered by time"):
        postgres.as_series([Column("time", "time", {}, [SINCE + HOUR, SINCE])], None, context())
    with pytest.raises(QueryError, match="named time"):
        postgres.as_series(rows(n=[1.0, 2.0, 3.0])[1:], None, context())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("NULL", [None, 1.0, None, None, 3.0, None, None, None]),
        ("0", [0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]),
        ("previous", [None, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]),
    ],
)
def test_a_group_by_time_fills_the_range_as_it_says(value, expected):
    about = context(since=SINCE - HOUR / 6)
    fill = macros.expanded(f"SELECT $__timeGroup(t, '10m', {value})", about).fill
    columns = [Column("time", "time", {}, [SINCE, SINCE + HOUR / 2]), Column("n", "number", {}, [1.0, 3.0])]
    times, numbers = postgres.as_series(columns, fill, about)
    assert times.values[0] == SINCE - HOUR / 6
    assert numbers.values == expected


# What is drawn.


def series(name, *values, labels=()):
    """A point each ten minutes."""
    times = [SINCE + number * dt.timedelta(minutes=10) for number in range(len(values))]
    return Frame("A", [Column("Time", "time", {}, times), Column(name, "number", dict(labels), list(values))])


def table(**columns):
    kinds = {str: "text", float: "number"}
    return Frame("A", [Column(name, kinds[type(each[0])], {}, each) for name, each in columns.items()])


def panel(kind, *, title="Panel", place=(0, 0, 12, 8), options=(), overrides=(), **defaults):
    x, y, w, h = place
    return {
        "type": kind,
        "title": title,
        "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": dict(options),
    }


def override(name, **properties):
    matcher = {"id": "byName", "options": name}
    return {"matcher": matcher, "properties": [{"id": k, "value": v} for k, v in properties.items()]}


def drawn(*panels, **variables):
    """The root of the picture of panels and their frames."""
    variable = [{"name": name, "type": "query", "label": name.title()} for name in variables]
    dashboard = {"title": "Small", "templating": {"list": variable}}
    about = context(**variables)
    text = picture(dashboard, [Answered(each, list(frames), about) for each, *frames in panels], about)
    assert "script" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    return ET.fromstring(text)


def texts(root):
    return [each.text for each in root.iter(f"{SVG}text")]


def text_named(root, text):
    (found,) = (each for each in root.iter(f"{SVG}text") if each.text == text)
    return found


def paths(root, stroke):
    return [each.get("d") for each in root.iter(f"{SVG}path") if each.get("stroke") == stroke]


def texts_outside(panel):
    """Texts of a panel that reach over its edges."""
    width, height = float(panel.get("width")), float(panel.get("height"))
    for each in panel.iter(f"{SVG}text"):
        size, x, y = (float(each.get(name)) for name in ("font-size", "x", "y"))
        wide = width_of(each.text, size, bold=each.get("font-weight") is not None)
        left = x - {None: 0, "middle": wide / 2, "end": wide}[each.get("text-anchor")]
        if left < 0 or left + wide > width or y - 0.75 * size < 0 or y > height:
            yield each.text


DASHED = {"thresholdsStyle": {"mode": "dashed"}, "lineWidth": 2, "fillOpacity": 8, "gradientMode": "opacity"}
STEPS = {"mode": "absolute", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]}


def test_a_dashboard_shows_titles_values_and_choices_within_their_panels():
    long = "/api/v1/" + "a-long-way-down/" * 20
    legend = {"displayMode": "table", "calcs": ["mean", "lastNotNull"], "sortBy": "Last *", "sortDesc": True}
    graph = panel(
        "timeseries",
        title="How long does $route take?",
        options={"legend": legend},
        unit="s",
        min=0,
        custom=DASHED,
        thresholds=STEPS,
        color={"mode": "palette-classic"},
    )
    stat = panel("stat", title=long, place=(12, 0, 2, 4), unit="percentunit", thresholds=STEPS)
    root = drawn(
        (panel("row", title="Now", place=(0, 0, 24, 1)),),
        (graph, series(long, 0.1, 0.2, 0.3), *(series(f"s{n}", 0.4, n / 10) for n in range(30))),
        (stat, series("share", 0.123, 0.5)),
        (panel("table", place=(0, 8, 24, 8)), table(Route=[long] * 30, Requests=[1234.0] * 30)),
        route="/items",
    )
    shown_texts = texts(root)
    for text in ("Small", "Now", "Route", "/items", "How long does /items take?", NOTE):
        assert text in shown_texts
    assert "2026-11-24 10:00 to 2026-11-24 11:00 UTC" in shown_texts
    assert {"50%", "2 s", "10:30", "Mean", "2.90 s", "1234"} <= set(shown_texts)
    panels = [each for each in root if each.get("class", "").startswith("panel")]
    assert [each.get("class") for each in panels] == ["panel timeseries", "panel stat", "panel table"]
    assert [list(texts_outside(each)) for each in panels] == [[], [], []]


def test_colours_follow_thresholds_and_overrides():
    stat = panel("stat", unit="percentunit", thresholds=STEPS, color={"mode": "thresholds"})
    assert text_named(drawn((stat, series("share", 0.4))), "40%").get("fill") == "#73bf69"
    assert text_named(drawn((stat, series("share", 0.6))), "60%").get("fill") == "#f2495c"
    fixed = {"color": {"mode": "fixed", "fixedColor": "purple"}}
    graph = panel("timeseries", overrides=[override("b", **fixed)], color={"mode": "palette-classic"})
    root = drawn((graph, series("a", 1.0, 2.0), series("b", 3.0, 4.0)))
    assert len(paths(root, "#b877d9")) == 1


def test_a_gap_in_a_series_stays_a_gap():
    graph = panel("timeseries", color={"mode": "fixed", "fixedColor": "blue"})
    assert len(paths(drawn((graph, series("a", 1.0, 2.0, 3.0, 4.0, 5.0))), "#5794f2")) == 1
    assert len(paths(drawn((graph, series("a", 1.0, 2.0, None, 4.0, 5.0))), "#5794f2")) == 2


def test_stacked_bars_stand_on_each_other():
    bars = {"drawStyle": "bars", "fillOpacity": 100, "stacking": {"mode": "normal", "group": "A"}}
    root = drawn((panel("timeseries", custom=bars, color={"mode": "palette-classic"}), *_two_bars()))
    green, yellow = (
        next(each for each in root.iter(f"{SVG}rect") if each.get("fill") == color and not each.get("rx"))
        for color in ("#73bf69", "#fade2a")
    )
    bottom = float(yellow.get("y")) + float(yellow.get("height"))
    assert bottom == pytest.approx(float(green.get("y")), abs=0.2)


def _two_bars():
    return series("a", None, 1.0, 1.0), series("b", None, 2.0, 2.0)


def test_a_table_is_sorted_and_shows_each_column_in_its_way():
    gauge = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    root = drawn(
        (
            panel(
                "table",
                options={"sortBy": [{"displayName": "Time", "desc": True}]},
                overrides=[
                    override("Time", unit="s", min=0, **{"custom.cellOptions": gauge}),
                    override("Route", links=[{"title": "Look", "url": "/d/x"}]),
                ],
            ),
            table(Route=["/a", "/b", "/c"], Time=[0.5, 2.0, 1.0], Size=[1.0, 1.0, 8.0]),
        )
    )
    assert [each for each in texts(root) if each.startswith("/")] == ["/b", "/c", "/a"]
    assert [each for each in texts(root) if each.endswith("s")] == ["2 s", "1 s", "500 ms"]
    assert text_named(root, "/a").get("fill") == "#6e9fff"
    bars = [float(each.get("width")) for each in root.iter(f"{SVG}rect") if each.get("fill") == "#73bf69"]
    # The scale goes to the largest number of all columns, as none has a range of its own.
    assert bars[0] == pytest.approx(4 * bars[2], rel=0.01)


def test_a_heat_map_has_a_row_for_each_bucket_and_leaves_out_what_is_empty():
    times = [SINCE + number * dt.timedelta(minutes=10) for number in range(3)]
    buckets = {"0.1": [0.0, 5.0, 5.0], "0.5": [0.0, 0.0, 10.0], "+Inf": [0.0, 0.0, 0.0]}
    frame = Frame(
        "A",
        [
            Column("Time", "time", {}, times),
            *(Column(bound, "number", {"le": bound}, values) for bound, values in buckets.items()),
        ],
    )
    scheme = {"mode": "scheme", "scheme": "Oranges", "steps": 8}
    options = {
        "color": scheme,
        "legend": {"show": False},
        "yAxis": {"unit": "s"},
        "filterValues": {"le": 1e-9},
    }
    root = drawn((panel("heatmap", options=options), frame))
    assert {"100 ms", "500 ms", "∞"} <= set(texts(root))
    heat = next(each for each in root if each.get("class") == "panel heatmap")
    assert len([each for each in heat.iter(f"{SVG}rect") if not each.get("rx")]) == 3


def test_a_panel_without_data_says_so_and_one_of_an_unknown_kind_is_refused():
    assert "No data" in texts(drawn((panel("timeseries"),)))
    assert "nobody" in texts(drawn((panel("table", noValue="nobody"),)))
    with pytest.raises(PanelError, match="'piechart' is not supported"):
        drawn((panel("piechart"),))
    with pytest.raises(PanelError, match="the unit 'furlong' is not supported"):
        drawn((panel("stat", unit="furlong"), series("a", 1.0)))
    with pytest.raises(PanelError, match="the transformation 'reduce' is not supported"):
        drawn((panel("table") | {"transformations": [{"id": "reduce"}]}, series("a", 1.0)))


def test_tables_become_one_and_columns_get_names_and_places():
    requests = table(route=["/a", "/b"], **{"Value #A": [1.0, 2.0]})
    errors = table(route=["/b"], **{"Value #B": [0.5]})
    organize = {
        "indexByName": {"Value #B": 0, "Value #A": 1},
        "excludeByName": {"Time": True},
        "renameByName": {"Value #A": "Requests", "Value #B": "Errors"},
    }
    steps = {"transformations": [{"id": "merge"}, {"id": "organize", "options": organize}]}
    (frame,) = transformed([requests, errors], steps)
    assert {each.name: each.values for each in frame.columns} == {
        "Errors": [None, 0.5],
        "Requests": [1.0, 2.0],
        "route": ["/a", "/b"],
    }
    assert [each.name for each in frame.columns] == ["Errors", "Requests", "route"]


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "expected"),
    [
        (0.0123, "s", None, "12.3 ms"),
        (90, "s", None, "1.50 mins"),
        (3600, "s", None, "1 hour"),
        (0, "s", None, "0 s"),
        (250, "ms", None, "250 ms"),
        (1500, "ms", None, "1.50 s"),
        (0.0144, "percentunit", None, "1.44%"),
        (0.5, "percentunit", 1, "50.0%"),
        (12345, "short", None, "12.3 K"),
        (2_500_000, "short", None, "2.50 Mil"),
        (1536, "bytes", None, "1.50 KiB"),
        (24.187, "reqps", None, "24.2 req/s"),
        (12_000, "eps", None, "12K evt/s"),
        (3, "suffix:rows", None, "3 rows"),
        (1795514400000, "dateTimeAsIso", None, "2026-11-24 10:00:00"),
        (None, "s", None, "-"),
        (float("inf"), "s", None, "∞"),
    ],
)
def test_figures_are_written_as_grafana_writes_them(value, unit, decimals, expected):
    assert units.formatted(value, unit, decimals) == expected


def test_ticks_are_round_and_say_no_more_than_they_must():
    assert [each.text for each in ticks.of_values(0, 1.6, 4, "s")] == ["0 s", "500 ms", "1.0 s", "1.5 s"]
    assert [each.text for each in ticks.of_values(0, 4_200, 4, "bytes")] == ["0 B", "2 KiB", "4 KiB"]
    day = SINCE.replace(hour=0).timestamp()
    assert [each.text for each in ticks.of_times(day, day + 600, 3)] == ["00:00", "00:05", "00:10"]
    assert [each.text for each in ticks.of_times(day, day + 3 * 86_400, 4)] == [
        "11/24",
        "11/25",
        "11/26",
        "11/27",
    ]
