"""The transformations that the dashboards use. Pure."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.frames import Column, Frame

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


_TRANSFORMATIONS: Final[dict[str, Transformation]] = {"merge": _merge, "organize": _organize}
