"""`otel-analytics report`."""

import datetime as dt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics.cli.arguments import Days, Top
from otel_analytics.cli.context import connected, load_settings
from otel_analytics.cli.progress import Progress

if TYPE_CHECKING:
    from otel_analytics.present.report import Contents
    from otel_analytics.settings import Settings

_STANDARD_OUTPUT: Final = Path("-")


def _writable(path: Path) -> Path:
    """The path, where a file can be written; said before the work and not after it."""
    if path == _STANDARD_OUTPUT:
        return path
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise typer.BadParameter(f"{str(path)!r} is a directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{str(path)!r} cannot be written")
    return path


def report(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            callback=_writable,
            help="Where to write it; a file that exists is replaced. - for standard output.",
        ),
    ] = Path("report.html"),
    top: Top = None,
    days: Days = None,
) -> None:
    """Write one page that has it all: what to cache, and why.

    The page is a single HTML file that needs no network: what to cache first, what each time to live would
    save, findings, rankings, the traffic of the week, slow and failing routes. It takes somewhat longer than
    advise.
    """
    settings = load_settings(context, top_n_routes=top, days=days)
    from otel_analytics.present.report import html_page

    page = html_page(_gathered(settings)).encode()
    if output == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(page)
    else:
        output.write_bytes(page)
        typer.echo(f"wrote {output}, {len(page) / 1e3:,.0f} kB", err=True)


def _gathered(settings: "Settings") -> "Contents":
    from otel_analytics.report import gather

    with Progress() as progress, connected(settings) as connection:
        return gather(connection, settings, now=dt.datetime.now(dt.UTC), progress=progress.show)
