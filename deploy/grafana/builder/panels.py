"""The kinds of panels that the dashboards are made of: one look, one way to show a unit, the same colours."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import heatmap as heatmap_options
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    MatcherConfig,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

SECONDS: Final = "s"
SHARE: Final = "percentunit"
BYTES: Final = "bytes"
COUNT: Final = "short"
EXACTLY: Final = "locale"
ERRORS_A_SECOND: Final = "cps"
REQUESTS_A_SECOND: Final = "reqps"
EVENTS_A_SECOND: Final = "eps"
AGO: Final = "dateTimeFromNow"
MOMENT: Final = "dateTimeAsIso"

GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"

Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour holds; the first begins at None."""

PLAIN: Final[Steps] = ((None, BLUE),)
# The alert on latency is about requests of more than a second.
DURATION: Final[Steps] = ((None, GREEN), (0.5, YELLOW), (1, RED))
# 6 and 14.4 times the 0.1 % that the alerts on errors allow.
ERRORS: Final[Steps] = ((None, GREEN), (0.006, YELLOW), (0.0144, RED))
# Few hits are no fault: that depends on what is asked for.
HITS: Final[Steps] = ((None, BLUE), (0.8, GREEN))

PERCENTILES: Final = {"^p50$": GREEN, "^p95$": ORANGE, "^p99$": RED}
STATUSES: Final = {"^2": GREEN, "^3": BLUE, "^4": ORANGE, "^5": RED}

NO_SPARKLINE: Final = options.BigValueGraphMode.NONE

Figure = stat.Panel
Graph = timeseries.Panel
Heat = heatmap.Panel
Column = Sequence[DynamicConfigValue]
Links = Sequence[Mapping[str, object]]
_P = TypeVar("_P", stat.Panel, timeseries.Panel, table.Panel, heatmap.Panel)


def figure(
    title: str,
    question: str,
    source: DataSourceRef,
    query: Builder[Dataquery],
    *,
    unit: str,
    steps: Steps = PLAIN,
    decimals: int | None = None,
) -> Figure:
    """One number, coloured by its thresholds, over a sparkline where the query gives a series.

    Args:
        title: A few words.
        question: What it answers.
        source: Of the query.
        query: The last value of its only series is shown.
        unit: Grafana's name of it.
        steps: Thresholds.
        decimals: Grafana decides where None.
    """
    panel = (
        _described(stat.Panel(), title, question, source, [query])
        .unit(unit)
        .thresholds(thresholds(steps))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(options.BigValueColorMode.VALUE)
        .graph_mode(options.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
    )
    return panel if decimals is None else panel.decimals(decimals)


def graph(
    title: str,
    question: str,
    source: DataSourceRef,
    queries: Sequence[Builder[Dataquery]],
    *,
    unit: str,
    steps: Steps = (),
    colors: Mapping[str, str] | None = None,
    legend: Sequence[str] = ("mean", "lastNotNull"),
    by_name: bool = False,
) -> Graph:
    """Lines over time.

    Args:
        title: A few words.
        question: What it answers.
        source: Of the queries.
        queries: Their series share the axis.
        unit: Grafana's name of it.
        steps: Thresholds, drawn as dashed lines; those without a value are not drawn.
        colors: Of series, by a regular expression for the name; else from the palette.
        legend: What is calculated of each series.
        by_name: Whether a series has the same colour wherever it appears; else neighbours differ most.
    """
    mode = FieldColorModeId.PALETTE_CLASSIC_BY_NAME if by_name else FieldColorModeId.PALETTE_CLASSIC
    legends = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)
    if legend:
        by = {"mean": "Mean", "max": "Max", "lastNotNull": "Last *", "sum": "Total"}[legend[0]]
        legends = legends.display_mode(options.LegendDisplayMode.TABLE).calcs(list(legend)).sort_by(by)
        legends = legends.sort_desc(True)
    else:
        legends = legends.display_mode(options.LegendDisplayMode.LIST)
    panel = (
        _described(timeseries.Panel(), title, question, source, queries)
        .unit(unit)
        .min(0)
        .draw_style(options.GraphDrawStyle.LINE)
        .line_interpolation(options.LineInterpolation.LINEAR)
        .line_width(2)
        .fill_opacity(8)
        .gradient_mode(options.GraphGradientMode.OPACITY)
        .show_points(options.VisibilityMode.NEVER)
        .color_scheme(FieldColor().mode(mode))
        .legend(legends)
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
        .height(9)
    )
    if steps:
        panel = panel.thresholds(thresholds(steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        )
    for expression, color in (colors or {}).items():
        panel = panel.override_by_regexp(
            f"/{expression}/",  # without slashes it would have to match the whole name
            [DynamicConfigValue("color", {"mode": FieldColorModeId.FIXED, "fixedColor": color})],
        )
    return panel


def stacked(panel: Graph) -> Graph:
    """The same with bars on top of each other: for counts that add up."""
    return (
        panel.draw_style(options.GraphDrawStyle.BARS)
        .line_width(0)
        .fill_opacity(80)
        .gradient_mode(options.GraphGradientMode.NONE)
        .stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    )


def rows(
    title: str,
    question: str,
    source: DataSourceRef,
    queries: Sequence[Builder[Dataquery]],
    *,
    columns: Mapping[str, Column],
) -> table.Panel:
    """A table.

    Args:
        title: A few words.
        question: What it answers.
        source: Of the queries.
        queries: One, unless transformations make one of them.
        columns: How each is shown, by its name; see `column` and its like.
    """
    panel = (
        _described(table.Panel(), title, question, source, queries)
        .cell_height(options.TableCellHeight.SM)
        .show_header(True)
        .filterable(False)
        .cell_options(options.TableAutoCellOptions())
        .min_width(50)
        .thresholds(thresholds(PLAIN))
        .height(10)
    )
    for name, properties in columns.items():
        if properties:
            panel = panel.override_by_name(name, list(properties))
    return panel


def column(
    unit: str = "", *, width: int | None = None, decimals: int | None = None, links: Links = ()
) -> list[DynamicConfigValue]:
    """A column of plain cells.

    Args:
        unit: Grafana's name of it; none for text.
        width: Pixels; else what is left.
        decimals: Grafana decides where None.
        links: To follow from a cell.
    """
    found: dict[str, object] = {}
    if unit:
        found["unit"] = unit
    if decimals is not None:
        found["decimals"] = decimals
    if width:
        found["custom.width"] = width
    if links:
        found["links"] = [dict(each) for each in links]
    return [DynamicConfigValue(name, value) for name, value in found.items()]


def bar(unit: str, *, width: int | None = None, decimals: int | None = None) -> list[DynamicConfigValue]:
    """A column with a bar in each cell, as long as the value is great."""
    cell = {"type": "gauge", "mode": "gradient", "valueDisplayMode": "text"}
    return [
        *column(unit, width=width, decimals=decimals),
        DynamicConfigValue("custom.cellOptions", cell),
        DynamicConfigValue("min", 0),
        DynamicConfigValue("fieldMinMax", True),  # else the largest number of any column fills the bar
        DynamicConfigValue("color", {"mode": FieldColorModeId.CONTINUOUS_BL_PU}),
    ]


def judged(
    unit: str, steps: Steps, *, width: int | None = None, decimals: int | None = None
) -> list[DynamicConfigValue]:
    """A column with values in the colour of their threshold."""
    return [
        *column(unit, width=width, decimals=decimals),
        DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        DynamicConfigValue("thresholds", thresholds(steps).build()),
        DynamicConfigValue("color", {"mode": FieldColorModeId.THRESHOLDS}),
    ]


def heat(title: str, question: str, source: DataSourceRef, query: Builder[Dataquery]) -> Heat:
    """Seconds over time, from the buckets of a histogram: the brighter, the more requests."""
    return (
        _described(heatmap.Panel(), title, question, source, [query])
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(SECONDS).axis_placement(options.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit(COUNT).decimals(1))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_options.HeatmapColorMode.SCHEME)
            .scheme("Spectral")
            .scale(heatmap_options.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(True)
            .fill("dark-orange")
        )
        .cell_gap(1)
        .unit(SECONDS)
        .mode(options.TooltipDisplayMode.SINGLE)
        .height(9)
    )


def week(title: str, question: str, source: DataSourceRef, query: Builder[Dataquery]) -> table.Panel:
    """A row for each weekday and a coloured cell for each hour of it."""
    panel = rows(title, question, source, [query], columns={"Weekday": column(width=110)})
    cell = {"type": "color-background", "mode": "basic"}
    return (
        panel.with_override(
            MatcherConfig("byRegexp", "/^\\d\\d$/"),
            [
                DynamicConfigValue("unit", COUNT),
                DynamicConfigValue("decimals", 0),
                DynamicConfigValue("min", 0),
                DynamicConfigValue("custom.align", "center"),
                DynamicConfigValue("custom.cellOptions", cell),
                DynamicConfigValue("color", {"mode": FieldColorModeId.CONTINUOUS_BL_YL_RD}),
            ],
        )
        .min_width(40)
        .no_value("-")
        .height(9)
    )


def said(words: Mapping[str, str]) -> ValueMap:
    """Words in the place of single values."""
    return ValueMap(options={value: ValueMappingResult(text=text) for value, text in words.items()})


def thresholds(steps: Steps) -> ThresholdsConfig:
    """Colours by value."""
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _described(
    panel: _P, title: str, question: str, source: DataSourceRef, queries: Sequence[Builder[Dataquery]]
) -> _P:
    panel.title(title).description(question).datasource(source)
    for query in queries:
        panel.with_target(query)
    return panel
