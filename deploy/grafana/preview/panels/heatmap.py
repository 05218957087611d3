"""The buckets of a histogram over time: the brighter a cell, the more it holds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.grafana.preview import theme, units
from deploy.grafana.preview.drawing import Box, rectangle, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.panels.axes import SIZE, TIMES_HEIGHT, time_x, times_grid
from deploy.grafana.preview.panels.sheet import Sheet, nothing
from otel_analytics.present.report.markup import Html, join

_LEGEND_HEIGHT: Final = 30.0
_LEGEND_WIDTH: Final = 260.0
_LEGEND_STEPS: Final = 32
_LEAST_STEP: Final = 16.0


def draw(sheet: Sheet) -> Html:
    """The whole panel.

    Raises:
        PanelError: It asks for what the preview cannot draw.
    """
    if sheet.options.get("calculate"):
        raise PanelError("a heat map that makes its own buckets is not supported")
    series = list(sheet.series())
    if not series:
        return nothing(sheet)
    color = sheet.options.get("color") or {}
    if color.get("mode") != "scheme":
        raise PanelError(f"a heat map coloured by {color.get('mode')!r} is not supported")
    buckets = [field for _, field in series]
    moments = series[0][0]
    box = sheet.box.inner(0, 6, 12, TIMES_HEIGHT)
    legend = Html()
    if (sheet.options.get("legend") or {}).get("show", True):
        box = box.inner(0, 0, 0, _LEGEND_HEIGHT)
        legend = _legend(sheet, color, _largest(buckets))
    unit = str((sheet.options.get("yAxis") or {}).get("unit") or "")
    labels = [_label(each.name, unit) for each in buckets]
    plot = box.inner(max(width_of(text, SIZE) for text in labels) + 12, 0, 0, 0)
    return join(
        times_grid(sheet.since, sheet.until, plot, has_lines=False),
        _bounds(labels, plot),
        *_cells(sheet, moments, buckets, plot),
        legend,
    )


def _largest(buckets: Sequence[Field]) -> float:
    return max((value for each in buckets for value in each.numbers if value is not None), default=0.0)


def _label(bound: str, unit: str) -> str:
    return "∞" if bound == "+Inf" else units.formatted(float(bound), unit)


def _bounds(labels: Sequence[str], plot: Box) -> Html:
    """The upper bounds, at the upper edges; some are left out where they would lie too close."""
    height = plot.height / len(labels)
    every = max(int(_LEAST_STEP // height) + (1 if _LEAST_STEP % height else 0), 1)
    return join(
        *(
            words(
                label,
                plot.x - 8,
                plot.bottom - (place + 1) * height + (9 if place == len(labels) - 1 else 4),
                size=SIZE,
                fill=theme.QUIET,
                anchor="end",
            )
            for place, label in enumerate(labels)
            if (len(labels) - 1 - place) % every == 0
        )
    )


def _cells(sheet: Sheet, moments: Sequence[float], buckets: Sequence[Field], plot: Box) -> list[Html]:
    color, largest = sheet.options["color"], _largest(buckets)
    gap = float(sheet.options.get("cellGap", 1))
    filtered = float((sheet.options.get("filterValues") or {}).get("le") or 0)
    step = min((after - before for before, after in itertools.pairwise(moments)), default=1.0)
    height = plot.height / len(buckets)
    cells = []
    for place, bucket in enumerate(buckets):
        top = plot.bottom - (place + 1) * height
        for moment, value in zip(moments, bucket.numbers, strict=True):
            # What a bucket held over a step lies before the point in time that ends the step.
            left = time_x(moment - step, sheet.since, sheet.until, plot)
            right = time_x(moment, sheet.since, sheet.until, plot)
            if value is None or value <= filtered or right <= plot.x or left >= plot.right:
                continue
            left, right = max(left, plot.x), min(right, plot.right)
            cell = Box(left, top, right - left - gap, height - gap)
            cells.append(rectangle(cell, _color(color, value / (largest or 1))))
    return cells


def _color(color: Mapping[str, Any], share: float) -> str:
    """Linear: what a heat map says about scale and exponent is about opacity, not about schemes."""
    steps = int(color.get("steps") or 128)
    return theme.between(theme.scheme(str(color["scheme"])), min(int(share * steps), steps - 1) / (steps - 1))


def _legend(sheet: Sheet, color: Mapping[str, Any], largest: float) -> Html:
    """The colours from the least to the most that a cell holds."""
    box = Box(sheet.box.x + 8, sheet.box.bottom - 22, min(_LEGEND_WIDTH, sheet.box.width - 16), 8)
    width = box.width / _LEGEND_STEPS
    cells = sheet.options.get("cellValues") or {}
    texts = [
        units.formatted(value, str(cells.get("unit") or ""), cells.get("decimals")) for value in (0, largest)
    ]
    return join(
        *(
            # A little wider than the step, so that no seam shows.
            rectangle(
                Box(box.x + place * width, box.y, width + 0.4, box.height),
                _color(color, place / (_LEGEND_STEPS - 1)),
            )
            for place in range(_LEGEND_STEPS)
        ),
        words(texts[0], box.x, box.bottom + 13, size=SIZE, fill=theme.QUIET),
        words(texts[1], box.right, box.bottom + 13, size=SIZE, fill=theme.QUIET, anchor="end"),
    )
