"""The rows as OpenAPI describes them, made from the types of the rows themselves."""

import inspect
import re
import typing
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, Field, create_model

from otel_analytics.present.rows import AbsoluteRow

_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)
_ELSEWHERE: Final = "See "
"""How the meaning of a field begins that is explained at `AbsoluteRow`."""


def model_of(row: type[NamedTuple]) -> type[BaseModel]:
    """A model with the fields of a row and their meanings, which come from its docstring."""
    own = {name: text for name, text in _meanings(row).items() if not text.startswith(_ELSEWHERE)}
    meanings = {**_meanings(AbsoluteRow), **own}
    fields: dict[str, Any] = {
        name: (kind, Field(description=meanings.get(name)))
        for name, kind in typing.get_type_hints(row).items()
    }
    summary = (inspect.getdoc(row) or "").partition("\n")[0]
    return create_model(row.__name__, __doc__=summary, **fields)


def _meanings(row: type[NamedTuple]) -> dict[str, str]:
    found = _ATTRIBUTE.findall(inspect.getdoc(row) or "")
    return {name: " ".join(text.split()) for name, text in found}
