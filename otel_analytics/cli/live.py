"""`otel-analytics live`."""

import datetime as dt
import select
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_analytics.cli.arguments import Format
from otel_analytics.cli.context import load_stream_settings
from otel_analytics.cli.output import print_data
from otel_analytics.errors import StreamUnavailable, UsageError

if TYPE_CHECKING:
    from otel_analytics.present.live_view import Screen
    from otel_analytics.recent_traffic import RecentTraffic
    from otel_analytics.stream import Inspector

REFRESH_SECONDS: Final = 2.0
_LEAVE: Final = ("q", "Q", "\x1b", "\x04")
_HINT: Final = "q leaves"


def live(
    context: typer.Context,
    minutes: Annotated[
        int, typer.Option(metavar="M", min=1, max=120, help="How far the view looks back.")
    ] = 5,
    once: Annotated[bool, typer.Option("--once", help="Print what there is now, and exit.")] = False,
    output: Format = "table",
) -> None:
    """Watch the last minutes, from the stream: every two seconds, until q or Ctrl-C.

    Requests appear within a second or two, stored or not. With --once, with another --format, or where the
    output is no terminal, it prints what there is and exits.
    """
    settings = load_stream_settings(context)
    if minutes * 60 > settings.stream_retention_seconds:
        raise UsageError(
            f"the stream keeps {settings.stream_retention_seconds:g} seconds (stream_retention_seconds);"
            " look back less with --minutes"
        )
    from otel_analytics.present.question_rows import LiveRow
    from otel_analytics.recent_traffic import RecentTraffic
    from otel_analytics.stream import Inspector

    with closing(Inspector(settings.redis_url, key_prefix=settings.key_prefix)) as stream:
        traffic = RecentTraffic(stream, seconds=minutes * 60.0)
        traffic.read()
        if output == "table" and not once and sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(KeyboardInterrupt):
                _watch(traffic, stream)
            return
        while traffic.behind_seconds:
            traffic.read()
        if output == "table":
            _print_once(traffic, stream)
        else:
            print_data(traffic.rows(traffic.frame()), LiveRow, output)


def _print_once(traffic: "RecentTraffic", stream: "Inspector") -> None:
    from otel_analytics.present.live_view import screen
    from otel_analytics.present.tables import console_for

    console = console_for(sys.stdout)
    console.print(screen(_screen(traffic, stream), console, height=None), soft_wrap=not console.is_terminal)


def _watch(traffic: "RecentTraffic", stream: "Inspector") -> None:
    from rich.live import Live

    from otel_analytics.present.live_view import screen
    from otel_analytics.present.tables import console_for

    console = console_for(sys.stdout)
    problem = ""
    with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as view:
        while True:
            shown = _screen(traffic, stream, problem=problem, hint=_HINT)
            view.update(screen(shown, console, height=console.height), refresh=True)
            # Work that is left is not waited with.
            if _left_within(0.0 if traffic.behind_seconds else REFRESH_SECONDS):
                return
            try:
                traffic.read()
                problem = ""
            except StreamUnavailable as error:
                problem = f"{error} - trying again"


def _screen(traffic: "RecentTraffic", stream: "Inspector", *, problem: str = "", hint: str = "") -> "Screen":
    from otel_analytics.present.live_view import Pipeline, Screen

    pipeline = None
    try:
        status = stream.status()
        pipeline = Pipeline(
            waiting_entries=status.pending + status.undelivered,
            oldest_seconds=status.oldest_unprocessed_seconds,
            dead_letters=status.dead_letters,
            has_worker=status.has_group,
        )
    except StreamUnavailable as error:
        problem = problem or str(error)
    frame = traffic.frame()
    return Screen(
        frame=frame,
        rows=traffic.rows(frame),
        seconds=traffic.seconds,
        moment=f"{dt.datetime.fromtimestamp(traffic.now, dt.UTC):%H:%M:%S}",
        pipeline=pipeline,
        behind_seconds=traffic.behind_seconds,
        unreadable=traffic.unreadable,
        problem=problem,
        hint=hint,
    )


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Let a key count when it is pressed, without Enter and without showing it."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _left_within(seconds: float) -> bool:
    """Wait for a key; whether it is one that leaves. Any other shows the screen anew."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    if not ready:
        return False
    key = sys.stdin.read(1)
    return not key or key in _LEAVE
