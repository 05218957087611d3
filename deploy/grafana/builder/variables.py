"""What a reader chooses at the top of a dashboard."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from deploy.grafana.builder import sources

_ALL: Final = "$__all"


def prometheus() -> DatasourceVariable:
    """The Prometheus to ask."""
    return _source("prometheus", "Prometheus", sources.PROMETHEUS_TYPE, sources.PROMETHEUS_UID)


def postgres() -> DatasourceVariable:
    """The PostgreSQL to ask: one holds the traffic of one environment."""
    return _source("postgres", "PostgreSQL", sources.POSTGRES_TYPE, sources.POSTGRES_UID)


def environment(metric: str) -> QueryVariable:
    """The targets of Prometheus to look at, by their label `environment`.

    Args:
        metric: That every target in question has.
    """
    return _any_of(_labels("environment", "Environment", f"label_values({metric}, environment)"))


def routes_of_metrics() -> QueryVariable:
    """Routes that Prometheus knows; all at first."""
    return _any_of(_labels("route", "Route", _label_of_requests("http_route")))


def methods_of_metrics() -> QueryVariable:
    """Methods that Prometheus knows; all at first."""
    return _any_of(_labels("method", "Method", _label_of_requests("http_request_method")))


def route_of_table(name: str) -> QueryVariable:
    """One route, from a statement; the first one at first."""
    return _rows("route", "Route", name)


def routes_of_table(name: str) -> QueryVariable:
    """Routes from a statement; all at first."""
    return _all_of(_rows("route", "Route", name))


def methods_of_table(name: str) -> QueryVariable:
    """Methods from a statement; all at first."""
    return _all_of(_rows("method", "Method", name))


def _source(name: str, label: str, kind: str, uid: str) -> DatasourceVariable:
    return DatasourceVariable(name).label(label).type(kind).current(VariableOption(text=label, value=uid))


def _label_of_requests(label: str) -> str:
    metric = 'http_server_request_duration_seconds_count{environment=~"$environment"}'
    return f"label_values({metric}, {label})"


def _labels(name: str, label: str, query: str) -> QueryVariable:
    variable = QueryVariable(name).label(label).datasource(sources.PROMETHEUS)
    return (
        variable.query({"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _rows(name: str, label: str, statement: str) -> QueryVariable:
    variable = QueryVariable(name).label(label).datasource(sources.POSTGRES)
    return (
        variable.query(sources.statement(statement))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.DISABLED)
    )


def _all_of(variable: QueryVariable) -> QueryVariable:
    """Several may be chosen, and all of them are at first."""
    return variable.multi(True).include_all(True).current(VariableOption(text=["All"], value=[_ALL]))


def _any_of(variable: QueryVariable) -> QueryVariable:
    """The same for labels: "All" is then what has no such label, too."""
    return _all_of(variable).all_value(".*")
