"""The ways to print an answer: data on standard output, remarks where they are not taken for data."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from otel_analytics.cli.arguments import TableJsonOrCsv

if TYPE_CHECKING:
    from otel_analytics.questions import Answer


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


def print_remark(remark: str, *, with_table: bool) -> None:
    """Say something about the answer: under the table, or else where it is not taken for data."""
    if with_table:
        from otel_analytics.present.tables import print_line

        print_line(remark, sys.stdout)
    else:
        typer.echo(remark, err=True)
