"""The dashboards as they are committed: made by the builder, whole, and what Grafana takes."""

import copy
import itertools
import json
import re

import pytest
import yaml
from grafana_schema import ROOT, VERSIONS, complaints

from deploy.grafana.builder import build
from deploy.grafana.builder.sources import POSTGRES_TYPE, POSTGRES_UID, PROMETHEUS_TYPE, PROMETHEUS_UID

COMMITTED = {path.name: path.read_text() for path in build.FOLDER.glob("*.json")}
DASHBOARDS = {name.removesuffix(".json"): json.loads(text) for name, text in COMMITTED.items()}
UIDS = {each["uid"] for each in DASHBOARDS.values()}
PROVISIONING = ROOT / "deploy/grafana/provisioning"
# Given by Grafana itself; those with two underscores are too many to list.
GIVEN = re.compile(r"__\w+")
VARIABLE = re.compile(r"\$\{?(\w+)")

every = pytest.mark.parametrize("name", sorted(DASHBOARDS))


def panels(name):
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def links(thing):
    """The addresses of all links anywhere in it."""
    if isinstance(thing, dict):
        if isinstance(url := thing.get("url"), str):
            yield url
        thing = thing.values()
    if not isinstance(thing, str) and hasattr(thing, "__iter__"):
        for each in thing:
            yield from links(each)


def test_the_files_are_what_the_builder_makes():
    assert build.files() == COMMITTED, "run: make dashboards"


def test_there_are_four_and_each_has_an_address_of_its_own():
    assert {f"otel-analytics-{name}" for name in ("live", "route", "candidates", "pipeline")} == UIDS


@every
def test_every_panel_says_what_it_is_and_which_question_it_answers(name):
    for panel in panels(name):
        assert len(panel["title"]) >= 3, panel
        assert "?" in panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(name)]
    assert len(set(titles)) == len(titles)


@every
def test_every_number_has_a_unit(name):
    for panel in panels(name):
        config = panel["fieldConfig"]
        if panel["type"] != "table":
            assert config["defaults"]["unit"], panel["title"]
            continue
        # The columns of a table with bars, colours or decimals are numbers.
        for override in config["overrides"]:
            said = {each["id"] for each in override["properties"]}
            if said & {"decimals", "thresholds", "min", "color"}:
                assert "unit" in said, (panel["title"], override["matcher"])


@every
def test_no_panel_lies_on_another_and_no_line_has_a_hole(name):
    cells = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        columns = range(place.get("x", 0), place.get("x", 0) + place["w"])
        own = set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))
        assert not own & cells, panel["title"]
        cells |= own
    assert cells == set(itertools.product(range(24), range(max(y for _, y in cells) + 1)))


@every
def test_variables_are_those_that_are_used(name):
    dashboard = DASHBOARDS[name]
    used = {each for each in VARIABLE.findall(json.dumps(dashboard)) if not GIVEN.match(each)}
    assert {each["name"] for each in dashboard["templating"]["list"]} == used


@every
def test_every_link_leads_to_a_dashboard_and_names_its_variables(name):
    for url in links(DASHBOARDS[name]):
        target = re.match(r"/d/([\w-]+)\?", url)
        assert target, url
        assert target[1] in UIDS, url
        assert "${__url_time_range}" in url
        variables = {each["name"] for each in DASHBOARDS["route"]["templating"]["list"]}
        given = re.findall(r"var-(\w+)=|\$\{(\w+):queryparam\}", url)
        assert {a or b for a, b in given} <= variables, url


def test_lists_of_routes_lead_to_the_page_of_a_route():
    for name, titles in {
        "live": {"Slowest routes", "Requests by route", "Errors by route", "p95 by route"},
        "candidates": {"Absolute: busy and slow", "Relative: against all others", "Savings: by replay"},
    }.items():
        linked = {panel["title"] for panel in panels(name) if any(links(panel))}
        assert titles <= linked


@every
def test_every_statement_is_bounded_by_the_range(name):
    for panel in panels(name):
        for target in panel["targets"]:
            sql = target.get("rawSql", "$__timeFilter")
            assert "$__timeFilter" in sql or "$__timeTo()" in sql, panel["title"]


def test_the_data_sources_are_the_ones_that_the_dashboards_choose_at_first():
    (file,) = (PROVISIONING / "datasources").iterdir()
    provided = {each["uid"]: each["type"] for each in yaml.safe_load(file.read_text())["datasources"]}
    assert provided == {PROMETHEUS_UID: PROMETHEUS_TYPE, POSTGRES_UID: POSTGRES_TYPE}
    for dashboard in DASHBOARDS.values():
        chosen = {
            each["current"]["value"]: each["query"]
            for each in dashboard["templating"]["list"]
            if each["type"] == "datasource"
        }
        assert chosen.items() <= provided.items()


def test_grafana_gets_what_the_provisioning_asks_of_the_environment():
    texts = [path.read_text() for path in PROVISIONING.rglob("*.yml")]
    values = re.findall(r": \$(\w+)$", "\n".join(texts), re.MULTILINE)
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["grafana"]
    assert set(values) - {"TRACES_UID"} <= compose["environment"].keys()


@pytest.mark.parametrize("version", VERSIONS)
def test_grafanas_schema_has_nothing_against_them(version, tmp_path):
    assert complaints(tmp_path, version, DASHBOARDS) == []


def test_the_schema_finds_what_grafana_would_not_understand(tmp_path):
    mistakes = {
        "tooltip": (("graphTooltip",), "crosshair"),
        "color": (("panels", 1, "options", "colorMode"), "rainbow"),
        "option": (("panels", 1, "options", "colour"), "green"),
        "width": (("panels", 6, "fieldConfig", "defaults", "custom", "lineWidth"), "2px"),
        "property": (("panels", 13, "fieldConfig", "overrides", 0, "properties", 0, "id"), "custom.breadth"),
        "variable": (("templating", "list", 0, "type"), "database"),
    }
    spoiled = {name: copy.deepcopy(DASHBOARDS["live"]) for name in mistakes}
    for name, ((*way, last), value) in mistakes.items():
        place = spoiled[name]
        for step in way:
            place = place[step]
        place[last] = value
    found = complaints(tmp_path, "11", spoiled)
    assert {line.partition(".ts(")[0] for line in found if line[0] != " "} == mistakes.keys()
