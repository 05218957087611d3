"""`otel-analytics migrate`."""

import typer

from otel_analytics.cli.context import load_settings
from otel_analytics.settings import without_password


def migrate(context: typer.Context) -> None:
    """Make the tables, or bring them up to date.

    Safe to run again, and from two places at once.
    """
    dsn = load_settings(context).postgres_dsn
    from otel_analytics.store import migrations

    applied = migrations.migrate(dsn)
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo(f"{without_password(dsn)} is up to date" + ("" if applied else "; there was nothing to do"))
