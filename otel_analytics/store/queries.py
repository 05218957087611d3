"""Statements kept in `.sql` files: each has a name, and a sentence that says what it is for."""

import re
from functools import cache
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(file: str) -> dict[str, bytes]:
    """The statements of `sql/queries/<file>.sql` by name.

    A statement begins with the line `-- name: <name>` and ends where the next begins. Its parameters are
    bound by the driver, as `%(parameter)s`.
    """
    text = resources.files(__package__).joinpath("sql", "queries", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}
