"""What the queries of a dashboard are asked with."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = str | list[str]
"""Of a variable; a list where several may be chosen or "All" exists, even if it holds one."""


class AllValue(str):
    """The text that a variable has for "All"; it goes into queries as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Context:
    """Servers, a time range and the values of the variables.

    Attributes:
        prometheus_url: Without a path.
        postgres_dsn: Of the analytics tables.
        since: Where the range begins.
        until: Where it ends.
        variables: By name.
        scrape_seconds: What the Prometheus data source says about how often it scrapes.
    """

    prometheus_url: str
    postgres_dsn: str
    since: dt.datetime
    until: dt.datetime
    variables: Mapping[str, Value] = field(default_factory=dict)
    scrape_seconds: float = 15.0

    @property
    def seconds(self) -> float:
        """Length of the range."""
        return (self.until - self.since).total_seconds()


def source_type(thing: Mapping[str, Any]) -> str | None:
    """The kind of data source that a panel, a target or a variable names, if it names one."""
    kind = (thing.get("datasource") or {}).get("type")
    return None if kind in (None, "datasource") else str(kind)  # "datasource" stands for the mixed one
