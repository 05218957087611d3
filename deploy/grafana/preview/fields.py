"""Columns with what the panel says about how they are shown. Pure."""

import copy
import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.grafana.preview import theme, units
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.frames import Column, Frame

_DATE_UNITS: Final = ("dateTimeAsIso", "dateTimeFromNow")


@dataclass(frozen=True)
class Field:
    """A column, and how it is shown.

    Attributes:
        column: The values.
        name: That people read.
        config: The panel's defaults with the overrides for this column.
        place: Among the numbers of the panel.
        reach: The least and the greatest number of the panel, where the configuration names no others.
        now: Seconds since 1970, for units that say how long ago something was.
    """

    column: Column
    name: str
    config: Mapping[str, Any]
    place: int
    reach: tuple[float, float]
    now: float

    @property
    def custom(self) -> Mapping[str, Any]:
        """What only its kind of panel understands."""
        found: Mapping[str, Any] = self.config.get("custom") or {}
        return found

    @property
    def unit(self) -> str:
        """Grafana's name of it."""
        return str(self.config.get("unit") or "")

    @property
    def numbers(self) -> list[float | None]:
        """The values of a column of numbers."""
        return self.column.values

    @property
    def low(self) -> float:
        """Where scales begin."""
        return self._limit("min", self.reach[0])

    @property
    def high(self) -> float:
        """Where scales end."""
        return self._limit("max", self.reach[1])

    def text(self, value: Any) -> str:
        """A value as it is written."""
        mapped = self._mapping(value)
        if mapped.get("text") is not None:
            return str(mapped["text"])
        if value is None:
            return str(self.config.get("noValue") or "-")
        if isinstance(value, dt.datetime):
            if self.unit in _DATE_UNITS:
                return units.formatted(value.timestamp() * 1_000, self.unit, now=self.now)
            return units.moment(value.timestamp())
        if isinstance(value, str):
            return value
        return units.formatted(value, self.unit, self.config.get("decimals"), now=self.now)

    def color(self, value: Any) -> str:
        """The colour of a value."""
        mapped = self._mapping(value)
        if mapped.get("color"):
            return theme.color(mapped["color"])
        settings = self.config.get("color") or {}
        mode = settings.get("mode") or "thresholds"
        number = value if isinstance(value, int | float) else None
        if mode == "fixed":
            return theme.color(settings["fixedColor"])
        if mode == "palette-classic":
            return theme.palette(self.place)
        if mode == "palette-classic-by-name":
            return theme.palette_by_name(self.name)
        if mode == "thresholds":
            return theme.by_thresholds(self.config.get("thresholds") or {}, number, self.low, self.high)
        if stops := theme.continuous(mode):
            return theme.between(stops, self.share(number or 0.0))
        raise PanelError(f"the colour mode {mode!r} is not supported")

    @property
    def series_color(self) -> str:
        """The colour of the whole series: of its last value where colours go by value."""
        return self.color(next((each for each in reversed(self.column.values) if each is not None), None))

    def share(self, value: float) -> float:
        """How far along the scale a value lies, from 0 to 1."""
        return min(max((value - self.low) / ((self.high - self.low) or 1), 0.0), 1.0)

    def _limit(self, name: str, otherwise: float) -> float:
        limit = self.config.get(name)
        return otherwise if limit is None else float(limit)

    def _mapping(self, value: Any) -> Mapping[str, Any]:
        for mapping in self.config.get("mappings") or ():
            if mapping["type"] != "value":
                raise PanelError(f"the mapping {mapping['type']!r} is not supported")
            found: Mapping[str, Any] | None = mapping["options"].get(_as_key(value))
            if found is not None:
                return found
        return {}


def fields_of(panel: Mapping[str, Any], frames: Sequence[Frame], now: float) -> list[list[Field]]:
    """The columns of each frame with their configuration.

    Args:
        panel: Has defaults and overrides.
        frames: After the panel's transformations.
        now: Seconds since 1970.

    Raises:
        PanelError: An override is not supported.
    """
    everything = _reach(column for frame in frames for column in frame.columns)
    place = 0
    found: list[list[Field]] = []
    for frame in frames:
        fields = []
        for column in frame.columns:
            config = _config(panel, column)
            reach = _reach([column]) if config.get("fieldMinMax") else everything
            fields.append(
                Field(column, str(config.get("displayName") or column.name), config, place, reach, now)
            )
            place += column.kind == "number"
        found.append(fields)
    return found


def _reach(columns: Iterable[Column]) -> tuple[float, float]:
    numbers = [
        value for column in columns if column.kind == "number" for value in column.values if value is not None
    ]
    return (min(numbers), max(numbers)) if numbers else (0.0, 0.0)


def _config(panel: Mapping[str, Any], column: Column) -> dict[str, Any]:
    settings = panel.get("fieldConfig") or {}
    config: dict[str, Any] = copy.deepcopy(dict(settings.get("defaults") or {}))
    for override in settings.get("overrides") or ():
        if _matches(override["matcher"], column):
            for each in override["properties"]:
                _set(config, each["id"], each.get("value"))
    return config


def _matches(matcher: Mapping[str, Any], column: Column) -> bool:
    options = matcher.get("options")
    match matcher["id"]:
        case "byName":
            return bool(options == column.name)
        case "byRegexp":
            # Without slashes around it, it has to match the whole name.
            expression = str(options)
            is_part = expression.startswith("/")
            return bool((re.search if is_part else re.fullmatch)(expression.strip("/"), column.name))
    raise PanelError(f"the matcher {matcher['id']!r} is not supported")


def _as_key(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _set(config: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for each in parents:
        config = config.setdefault(each, {})
    config[last] = value
