"""`otel-analytics simulate`."""

import datetime as dt
import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics.cli.arguments import Days, Format, OneRoute, checked_route, memory_size
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.output import print_data, print_remark

if TYPE_CHECKING:
    from otel_analytics.present.simulation import SimulationRow
    from otel_analytics.settings import Settings
    from otel_analytics.simulation import Simulation

_LADDERS: Final = 5
"""Patterns of a route that are shown, each with all times to live."""
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_TTL: Final = 366 * 86_400.0


def _ttl(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|)", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not _SECONDS["ms"] <= seconds <= _LONGEST_TTL:
        raise typer.BadParameter(f"{text!r} is not a time from 1ms to 366d, such as 500ms, 60s, 5m, 1h or 1d")
    return seconds


def simulate(  # noqa: PLR0917 - options, which nobody gives by position
    context: typer.Context,
    route: OneRoute = None,
    top: Annotated[
        int | None,
        typer.Option(
            "-n", metavar="N", min=1, max=1_000_000, help="Patterns to show. [top_n_routes, 20; 5 of a ROUTE]"
        ),
    ] = None,
    days: Days = None,
    ttl: Annotated[
        list[float] | None,
        typer.Option(
            parser=_ttl, metavar="TIME", help="Time to live, such as 60s; may be repeated. [from 1s to 24h]"
        ),
    ] = None,
    per_user: Annotated[bool, typer.Option("--per-user", help="A copy for each user.")] = False,
    single_flight: Annotated[
        bool,
        typer.Option(
            "--single-flight/--no-single-flight",
            help="Requests wait for a computation of the same under way, instead of repeating it.",
        ),
    ] = False,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=memory_size, metavar="SIZE", help="Also a cache of so much memory, such as 256MB."
        ),
    ] = None,
    output: Format = "table",
) -> None:
    """Replay recorded requests through a cache, and say what it would have saved.

    With a ROUTE, at each time to live. Without, the patterns that would have saved most time: the table has
    each at the time to live that saves most with no more stale answers than the setting staleness_limit
    allows (1 %), or all at one --ttl; JSON and CSV have every time to live. The key is method, path and all
    parameters. Nothing is extrapolated: the figures are those of the requests recorded. docs/replay.md has
    the rules.
    """
    checked_route(route)
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics import simulation
    from otel_analytics.analyze.replay import LADDER, MOST_TTLS, CacheModel
    from otel_analytics.present.simulation import SimulationRow

    ttls = tuple(sorted(set(ttl or LADDER)))
    if len(ttls) > MOST_TTLS:
        raise typer.BadParameter(f"{MOST_TTLS} at most", param_hint="--ttl")
    model = CacheModel(
        ttls=ttls, per_user=per_user, single_flight=single_flight, latency_ms=settings.cache_latency_ms
    )
    with connected(settings) as connection:
        found = simulation.simulate(
            connection, settings, model, now=dt.datetime.now(dt.UTC), route=route, memory_bytes=memory
        )
    if route is None and output == "table":
        ladders = [[row] for row in simulation.best_rows(found, settings)[: settings.top_n_routes]]
    elif route is None:
        ladders = simulation.best_ladders(found, settings)[: settings.top_n_routes]
    else:
        ladders = simulation.ladders(found, settings)[: top or _LADDERS]
    print_data([row for ladder in ladders for row in ladder], SimulationRow, output)
    with_table = output == "table" and bool(ladders)
    if with_table:
        _print(ladders, settings, of_route=route is not None)
    print_remark(_remark(found, settings, route, len(ladders), per_user=per_user), with_table=with_table)


def _print(ladders: "list[list[SimulationRow]]", settings: "Settings", *, of_route: bool) -> None:
    from otel_analytics.present.simulation import print_ladders, print_simulation

    if of_route:
        print_ladders(ladders, settings.staleness_limit, sys.stdout)
    else:
        print_simulation([row for ladder in ladders for row in ladder], sys.stdout)


def _remark(
    found: "Simulation", settings: "Settings", route: str | None, shown: int, *, per_user: bool
) -> str:
    from otel_analytics.present import simulation as words

    if not found.patterns:
        return words.nothing_replayed(settings.days, route)
    basis = words.basis_line(
        found.history, found.until, per_user=per_user, latency_ms=settings.cache_latency_ms
    )
    return basis if shown else f"{words.nothing_saved(len(found.patterns), settings.staleness_limit)} {basis}"
