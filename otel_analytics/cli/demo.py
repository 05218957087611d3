"""`otel-analytics demo`."""

from typing import Annotated

import typer

from otel_analytics.cli.context import load_settings
from otel_analytics.errors import UsageError


def demo(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the rankings instead of staying up.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=1, max=3_600, help="Seconds of live traffic. [60]")
    ] = 60.0,
) -> None:
    """Run everything at once: servers, a shop, a worker, traffic, rankings.

    Uses the servers that the settings name, with a schema and keys of its own; starts others where they name
    none. All it made is gone at the end.
    """
    settings = load_settings(context)
    try:
        from rich.console import Console

        from otel_analytics.demo.run import run
    except ImportError as error:
        raise UsageError(
            f"the demo needs more packages ({error.name}); run: pip install 'otel-analytics[demo]'"
        ) from error
    run(settings, once=once, live_seconds=seconds, console=Console())
