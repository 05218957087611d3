"""Runs the queries of a dashboard's panels and variables as Grafana would, on real servers."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from deploy.grafana.preview import postgres, prometheus
from deploy.grafana.preview.context import AllValue, Context, Value, source_type
from deploy.grafana.preview.errors import QueryError
from deploy.grafana.preview.frames import Column, Frame

__all__ = ["Column", "Context", "Frame", "QueryError", "run_panel", "run_variable", "with_variables"]

WIDTH: Final = 1_600
"""Of a dashboard, pixels."""
COLUMNS: Final = 24
"""Of its grid."""
_ALL: Final = "$__all"
_POSTGRES: Final = ("grafana-postgresql-datasource", "postgres")
_PLACE_OF_NUMBER: Final = re.compile(r".*?(\d+)")


def run_panel(panel: Mapping[str, Any], context: Context) -> list[Frame]:
    """The answers to all targets of a panel that are not hidden, in their order.

    Args:
        panel: From the dashboard's JSON.
        context: To ask with.

    Raises:
        QueryError: A query cannot be made, or a server refuses it.
    """
    width = panel.get("gridPos", {}).get("w", COLUMNS) * WIDTH // COLUMNS
    points = panel.get("maxDataPoints") or width
    frames: list[Frame] = []
    for target in panel.get("targets") or ():
        if target.get("hide"):
            continue
        kind = source_type(target) or source_type(panel)
        if kind == "prometheus":
            frames += prometheus.run(target, panel, points, context)
        elif kind in _POSTGRES:
            frames += postgres.run(target, panel, points, context)
        else:
            raise QueryError(f"panel {panel.get('title')!r}: the data source {kind} is not supported")
    return frames


def run_variable(variable: Mapping[str, Any], context: Context) -> list[str]:
    """The values that a variable offers, without "All".

    Args:
        variable: From the dashboard's JSON.
        context: To ask with; has the variables that this one uses.

    Raises:
        QueryError: It cannot be asked, or a server refuses it.
    """
    query = variable.get("query") or ""
    text = str(query.get("query", query.get("rawSql", ""))) if isinstance(query, Mapping) else str(query)
    match variable["type"]:
        case "query":
            return _chosen(variable, _queried(variable, text, context))
        case "custom":
            values = (each.partition(" : ") for each in re.split(r"(?<!\\),", text))
            return [(value or name).strip().replace("\\,", ",") for name, _, value in values]
        case "interval":
            return [each.strip() for each in text.split(",")]
        case "datasource" | "constant" | "textbox":
            return [text]
    raise QueryError(f"a variable of the type {variable['type']} is not supported")


def with_variables(dashboard: Mapping[str, Any], context: Context) -> Context:
    """The context with a value for each variable of a dashboard.

    What the context has stands. Else the dashboard's choice is taken, and without one the first value.

    Args:
        dashboard: Its JSON.
        context: To ask with.

    Raises:
        QueryError: A variable cannot be asked, or offers nothing.
    """
    for variable in dashboard.get("templating", {}).get("list", ()):
        name = variable["name"]
        if name not in context.variables:
            value = _start_value(variable, context)
            context = dataclasses.replace(context, variables={**context.variables, name: value})
    return context


def _queried(variable: Mapping[str, Any], text: str, context: Context) -> list[str]:
    kind = source_type(variable)
    if kind == "prometheus":
        return prometheus.variable(text, context)
    if kind in _POSTGRES:
        return postgres.variable(text, context)
    raise QueryError(f"variable {variable['name']}: the data source {kind} is not supported")


def _chosen(variable: Mapping[str, Any], values: list[str]) -> list[str]:
    """Those that match the variable's expression, in its order."""
    if expression := variable.get("regex"):
        pattern = re.compile(str(expression).removeprefix("/").removesuffix("/"))
        matches = filter(None, map(pattern.search, values))
        values = list(dict.fromkeys(each[1] if pattern.groups else each[0] for each in matches))
    match variable.get("sort", 0):
        case 0:
            return values
        case 1 | 2 as order:
            return sorted(values, reverse=order == 2)  # noqa: PLR2004 - Grafana's number for descending
        case 3 | 4 as order:
            return sorted(values, key=_number_in, reverse=order == 4)  # noqa: PLR2004
        case 5 | 6 as order:
            return sorted(values, key=str.lower, reverse=order == 6)  # noqa: PLR2004
    raise QueryError(f"variable {variable['name']}: the order {variable['sort']} is not supported")


def _number_in(value: str) -> int:
    match = _PLACE_OF_NUMBER.match(value)
    return int(match[1]) if match else -1


def _start_value(variable: Mapping[str, Any], context: Context) -> Value:
    has_several = bool(variable.get("multi") or variable.get("includeAll"))
    current = (variable.get("current") or {}).get("value")
    if current in (_ALL, [_ALL]):
        if variable.get("allValue"):
            return AllValue(variable["allValue"])
        return run_variable(variable, context)
    if not current:
        offered = run_variable(variable, context)
        if not offered:
            raise QueryError(f"variable {variable['name']} offers nothing")
        current = offered[0]
    values = current if isinstance(current, list) else [current]
    return list(map(str, values)) if has_several else str(values[0])
