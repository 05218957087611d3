"""What the commands that answer questions share: options, and the ways to print an answer."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from otel_analytics.cli.selection import print_remark

if TYPE_CHECKING:
    from otel_analytics.questions import Answer

TableJsonOrCsv = Literal["table", "json", "csv"]
Format = Annotated[TableJsonOrCsv, typer.Option("--format", help="For people or for programs.")]
Top = Annotated[
    int | None,
    typer.Option("-n", metavar="N", min=1, max=1_000_000, help="Rows to show. [top_n_routes, 20]"),
]
Route = Annotated[str, typer.Argument(metavar="ROUTE", help="A template, such as '/items/{id}'.")]
OneRoute = Annotated[
    str | None,
    typer.Argument(metavar="ROUTE", help="A template, such as '/items/{id}'; all routes without it."),
]


def checked_route(route: str | None) -> str | None:
    """The route where it can be one.

    Raises:
        typer.BadParameter: The database cannot hold such a text, so it is no route.
    """
    from otel_analytics.record import is_storable

    if route is not None and not is_storable(route):
        raise typer.BadParameter("it holds a character that no route has", param_hint="ROUTE")
    return route


def print_answer(
    answer: "Answer[Any]",
    row: type[NamedTuple],
    output: TableJsonOrCsv,
    print_rows: Callable[[], None],
) -> None:
    """Rows on standard output, and the remark under the table, else on standard error.

    Args:
        answer: May have no rows.
        row: The type of a row, for the header of CSV.
        output: In which form.
        print_rows: Prints the table; not called without rows.
    """
    print_data(answer.rows, row, output)
    with_table = output == "table" and bool(answer.rows)
    if with_table:
        print_rows()
    print_remark(answer.remark, with_table=with_table)


def print_data(rows: Sequence[NamedTuple], row: type[NamedTuple], output: TableJsonOrCsv) -> None:
    """The rows for programs; nothing where a table is wanted."""
    from otel_analytics.present.documents import csv_text, json_text

    if output == "json":
        typer.echo(json_text(rows))
    elif output == "csv":
        sys.stdout.write(csv_text(rows, row._fields))
