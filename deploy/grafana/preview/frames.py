"""What a query gives back, as Grafana's panels see it: named columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["time", "number", "text"]


@dataclass(frozen=True)
class Column:
    """Values of one kind; None where there is none.

    Attributes:
        name: What is shown where the panel says nothing else.
        kind: Times are `datetime` in UTC, numbers `float`, texts `str`.
        labels: What tells this series from others of the same name.
        values: One a row.
    """

    name: str
    kind: Kind
    labels: Mapping[str, str]
    values: list[Any]


@dataclass(frozen=True)
class Frame:
    """Columns of the same length.

    Attributes:
        ref_id: Of the target that it answers.
        columns: In the order of the answer.
    """

    ref_id: str
    columns: list[Column] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns[0].values) if self.columns else 0
