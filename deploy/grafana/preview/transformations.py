"""The transformations that the dashboards use. Pure."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deploy.grafana.preview.fields import PanelError
from deploy.grafana.preview.frames import Column, Frame, Kind

Transformation = Callable[[list[Frame], Mapping[str, Any]], list[Frame]]


def transformed(frames: list[Frame], panel: Mapping[str, Any]) -> list[Frame]:
    """The frames after all transformations of a panel.

    Raises:
        PanelError: One is not supported.
    """
    for each in panel.get("transformations") or ():
        if each.get("disabled"):
            continue
        if each["id"] not in _TRANSFORMATIONS:
            raise PanelError(f"the transformation {each['id']!r} is not supported")
        frames = _TRANSFORMATIONS[each["id"]](frames, each.get("options") or {})
    return frames


def _organize(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """Columns left out, put in order and renamed."""
    if len(frames) != 1:
        return frames  # as Grafana does
    left_out = options.get("excludeByName") or {}
    order, names = options.get("indexByName") or {}, options.get("renameByName") or {}
    columns = [each for each in frames[0].columns if not left_out.get(each.name)]
    columns.sort(key=lambda each: order.get(each.name, len(columns) + len(order)))
    renamed = [dataclasses.replace(each, name=names.get(each.name) or each.name) for each in columns]
    return [Frame(frames[0].ref_id, renamed)]


def _filter_by_name(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    include = options.get("include") or {}
    if set(include) - {"names"}:
        raise PanelError("fields are filtered by their names only")
    wanted = include["names"]
    return [Frame(each.ref_id, [c for c in each.columns if c.name in wanted]) for each in frames]


def _sort_by(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    for sort in options.get("sort") or ():
        frames = [_sorted(each, sort["field"], is_falling=bool(sort.get("desc"))) for each in frames]
    return frames


def _sorted(frame: Frame, name: str, *, is_falling: bool) -> Frame:
    column = next((each for each in frame.columns if each.name == name), None)
    if column is None:
        return frame
    # Rows without a value come last in either order.
    filled = [row for row, value in enumerate(column.values) if value is not None]
    empty = [row for row, value in enumerate(column.values) if value is None]
    filled.sort(key=lambda row: column.values[row], reverse=is_falling)
    return _with_rows(frame, filled + empty)


def _limit(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    count = int(options.get("limitField") or 10)
    return [_with_rows(each, range(min(count, len(each)))) for each in frames]


def _merge(frames: list[Frame], _: Mapping[str, Any]) -> list[Frame]:
    """One table; rows that agree in the columns that the frames share become one."""
    filled = [frame for frame in frames if frame.columns]
    if len(filled) <= 1:
        return filled
    shared = set.intersection(*({each.name for each in frame.columns} for frame in filled))
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    columns: dict[str, Column] = {}
    for frame in filled:
        columns = {each.name: each for each in frame.columns} | columns
        for row in range(len(frame)):
            values = {each.name: each.values[row] for each in frame.columns}
            key = tuple(values[name] for name in sorted(shared))
            rows.setdefault(key, {}).update(values)
    names = dict.fromkeys(each.name for frame in filled for each in frame.columns)
    return [
        Frame(
            filled[0].ref_id,
            [
                Column(name, columns[name].kind, {}, [row.get(name) for row in rows.values()])
                for name in names
            ],
        )
    ]


def _labels_to_fields(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """Each label as a column of its own beside the values."""
    if options.get("mode") == "rows" or options.get("valueLabel"):
        raise PanelError("labels become columns only")
    found = []
    for frame in frames:
        others = [each for each in frame.columns if each.kind != "number"]
        for column in frame.columns:
            if column.kind == "number":
                labels = [
                    Column(name, "text", {}, [value] * len(frame)) for name, value in column.labels.items()
                ]
                plain = Column(column.name, "number", {}, column.values)
                found.append(Frame(frame.ref_id, [*others, *labels, plain]))
    return _merge(found, {})


def _join(frames: list[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """One table with a row for each value of a column that all frames have."""
    name = options.get("byField")
    keys = [_key_of(frame, name) for frame in frames]
    values = list(dict.fromkeys(value for key in keys for value in key.values))
    if options.get("mode") == "inner":
        values = [value for value in values if all(value in key.values for key in keys)]
    kind: Kind = keys[0].kind
    columns = [Column(keys[0].name, kind, {}, values)]
    for frame, key in zip(frames, keys, strict=True):
        row_of = {value: row for row, value in enumerate(key.values)}
        for each in frame.columns:
            if each is not key:
                joined = [each.values[row_of[value]] if value in row_of else None for value in values]
                columns.append(dataclasses.replace(each, values=joined))
    return [Frame(frames[0].ref_id, columns)]


def _key_of(frame: Frame, name: str | None) -> Column:
    for each in frame.columns:
        if each.name == name or (name is None and each.kind == "time"):
            return each
    raise PanelError(f"nothing to join by: {name}")


def _with_rows(frame: Frame, rows: Sequence[int]) -> Frame:
    columns = [dataclasses.replace(each, values=[each.values[row] for row in rows]) for each in frame.columns]
    return Frame(frame.ref_id, columns)


_TRANSFORMATIONS: Final[dict[str, Transformation]] = {
    "organize": _organize,
    "filterFieldsByName": _filter_by_name,
    "sortBy": _sort_by,
    "limit": _limit,
    "merge": _merge,
    "labelsToFields": _labels_to_fields,
    "joinByField": _join,
}
