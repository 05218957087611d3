"""What a panel is drawn from, and where."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.grafana.preview import theme
from deploy.grafana.preview.drawing import Box, words
from deploy.grafana.preview.fields import Field
from otel_analytics.present.report.markup import Html


@dataclass(frozen=True)
class Sheet:
    """A panel with its data, and the box below its title.

    Attributes:
        panel: From the dashboard's JSON.
        frames: The columns that its queries gave, transformed.
        box: To draw in.
        since: Where the range begins, seconds since 1970.
        until: Where it ends.
    """

    panel: Mapping[str, Any]
    frames: Sequence[Sequence[Field]]
    box: Box
    since: float
    until: float

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the panel's kind."""
        found: Mapping[str, Any] = self.panel.get("options") or {}
        return found

    def series(self) -> Iterator[tuple[list[float], Field]]:
        """The times, seconds since 1970, and the numbers of each series."""
        for fields in self.frames:
            times = next((each for each in fields if each.column.kind == "time"), None)
            if times is None:
                continue
            moments = [each.timestamp() for each in times.column.values]
            for field in fields:
                if field.column.kind == "number":
                    yield moments, field


def nothing(sheet: Sheet) -> Html:
    """What is drawn where the queries gave nothing."""
    text = str((sheet.panel.get("fieldConfig") or {}).get("defaults", {}).get("noValue") or "No data")
    box = sheet.box
    return words(
        text, box.x + box.width / 2, box.y + box.height / 2, size=14, fill=theme.QUIET, anchor="middle"
    )
