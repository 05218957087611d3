"""Where the dashboards' figures come from: the data sources, and queries of each."""

import re
from functools import cache
from importlib import resources
from typing import Final, Literal

from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS_TYPE: Final = "prometheus"
PROMETHEUS_UID: Final = "otel-analytics-prometheus"
POSTGRES_TYPE: Final = "grafana-postgresql-datasource"
POSTGRES_UID: Final = "otel-analytics-postgres"

# The variables of the dashboards, so that each can be pointed at another source.
PROMETHEUS: Final = DataSourceRef(type_val=PROMETHEUS_TYPE, uid="${prometheus}")
POSTGRES: Final = DataSourceRef(type_val=POSTGRES_TYPE, uid="${postgres}")

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class SqlQuery(Dataquery, Builder[Dataquery]):
    """A statement for PostgreSQL, for which the library has no builder."""

    def __init__(self, statement: str, form: Literal["table", "time_series"], ref_id: str) -> None:
        """Take a statement.

        Args:
            statement: With Grafana's macros.
            form: Series have a column `time`, the rows in its order, and texts that tell them apart.
            ref_id: Of the query in its panel.
        """
        self._statement = statement
        self._form = form
        self._ref_id = ref_id

    def build(self) -> Dataquery:
        """Itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """As the data source keeps it."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self._form,
            "rawQuery": True,
            "rawSql": self._statement,
            "refId": self._ref_id,
        }


def table(name: str, ref_id: str = "A") -> SqlQuery:
    """The rows of a statement, named `file.statement`."""
    return SqlQuery(statement(name), "table", ref_id)


def series(name: str, ref_id: str = "A") -> SqlQuery:
    """The time series of a statement, named `file.statement`."""
    return SqlQuery(statement(name), "time_series", ref_id)


def statement(name: str) -> str:
    """A statement of `sql/<file>.sql`, named `file.statement`; see the file for what it is for."""
    file, _, wanted = name.partition(".")
    return _statements(file)[wanted]


@cache
def _statements(file: str) -> dict[str, str]:
    text = resources.files(__package__).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def promql(expression: str, legend: str = "", ref_id: str = "A") -> prometheus_builders.Dataquery:
    """An expression over the range of the dashboard.

    Args:
        expression: With Grafana's variables.
        legend: What a series is called; labels stand in double braces.
        ref_id: Of the query in its panel.
    """
    query = prometheus_builders.Dataquery().datasource(PROMETHEUS).expr(expression).ref_id(ref_id).range()
    return query.legend_format(legend) if legend else query


def whole(expression: str) -> prometheus_builders.Dataquery:
    """An expression about the whole range, which needs no more than one answer."""
    return prometheus_builders.Dataquery().datasource(PROMETHEUS).expr(expression).ref_id("A").instant()


def instant(expression: str, ref_id: str = "A") -> prometheus_builders.Dataquery:
    """An expression at the end of the range, as rows with a column for each label."""
    query = prometheus_builders.Dataquery().datasource(PROMETHEUS).expr(expression).ref_id(ref_id)
    return query.instant().format(PromQueryFormat.TABLE)


def buckets(expression: str) -> prometheus_builders.Dataquery:
    """An expression that gives the buckets of a histogram, for a heat map."""
    return promql(expression, "{{le}}").format(PromQueryFormat.HEATMAP)
