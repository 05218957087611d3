"""The schema, brought up to date by numbered `.sql` files."""

from importlib import resources
from typing import Final

from otel_analytics.errors import NotMigrated, SchemaTooNew
from otel_analytics.store.connection import Connection, connect, transaction, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("migrations")
_GRANTS: Final = load("grants")


def migrate(dsn: str) -> list[str]:
    """Apply the migrations that the database lacks, in order, each in a transaction of its own.

    Where the tables belong to the owner of `deploy/postgres/roles.sql`, the other roles get what they need.
    Running it again changes nothing, and two at once are safe: the second waits for the first.

    Returns:
        The names of those applied by this call.

    Raises:
        SettingsError: The DSN cannot be used.
        StoreUnavailable: The server does not answer, or does not allow it.
        SchemaTooNew: A newer version of this package was here before.
    """
    with connect(dsn) as connection:
        applied = [name for name in _names() if _apply(connection, name)]
        _grant(connection)
    return applied


def check(connection: Connection) -> None:
    """Make sure that the schema is the one this version was written for.

    Raises:
        NotMigrated: A migration is missing.
        SchemaTooNew: The database has a migration that this version does not know.
    """
    applied = _applied(connection)
    _refuse_newer(applied)
    missing = [name for name in _names() if name not in applied]
    if missing:
        raise NotMigrated(
            f"the database lacks {', '.join(missing)}, which this version needs; run: otel-analytics migrate"
        )


def pending(connection: Connection) -> list[str]:
    """The names of the migrations that the database lacks."""
    applied = _applied(connection)
    return [name for name in _names() if name not in applied]


def _names() -> list[str]:
    files = resources.files(__package__).joinpath("sql", "migrations").iterdir()
    return sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql"))


@translated()
def _applied(connection: Connection) -> set[str]:
    (exists,) = connection.execute(_QUERIES["has_table"]).fetchone() or (False,)
    if not exists:
        return set()
    return {name for (name,) in connection.execute(_QUERIES["applied"])}


def _refuse_newer(applied: set[str]) -> None:
    unknown = sorted(applied - set(_names()))
    if unknown:
        raise SchemaTooNew(
            f"the database has {', '.join(unknown)}, which this version does not know; upgrade otel-analytics"
        )


def _apply(connection: Connection, name: str) -> bool:
    with transaction(connection):
        connection.execute(_QUERIES["lock"])
        connection.execute(_QUERIES["create_table"])
        applied = _applied(connection)
        _refuse_newer(applied)
        if name in applied:
            return False
        file = resources.files(__package__).joinpath("sql", "migrations", f"{name}.sql")
        connection.execute(file.read_bytes())
        connection.execute(_QUERIES["record"], {"name": name})
        return True


def _grant(connection: Connection) -> None:
    with transaction(connection):
        connection.execute(_QUERIES["lock"])  # PostgreSQL refuses two grants on one table at once
        (wanted,) = connection.execute(_GRANTS["are_wanted"]).fetchone() or (False,)
        if wanted:
            connection.execute(_GRANTS["grant"])
