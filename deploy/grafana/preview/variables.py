"""Puts the values of variables into queries, formatted as Grafana formats them. Pure."""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from deploy.grafana.preview.context import AllValue, Context, Value
from deploy.grafana.preview.errors import QueryError

Format = Callable[[Value], str]

# $name, [[name:format]], ${name.field:format}
_REFERENCE: Final = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}")
_LEFT: Final = re.compile(r"\$\{?[A-Za-z_]\w*|\[\[[A-Za-z_]\w*")


def for_prometheus(value: Value) -> str:
    """How a value goes into PromQL: what may be several is a regular expression."""
    if isinstance(value, str):
        return value.replace("\\", r"\\").replace("'", r"\\'")
    escaped = [_escaped_twice(each) for each in value]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def for_postgres(value: Value) -> str:
    """How a value goes into SQL: what may be several is a list of literals, else quotes are doubled."""
    return _undelimited(value) if isinstance(value, str) else ",".join(map(_literal, value))


def interpolated(text: str, context: Context, default: Format, *, plain: Mapping[str, str]) -> str:
    """The text with the variables in it; names that are no variables are left for later.

    Args:
        text: A query, a title.
        context: Has the variables and the range.
        default: For references without a format.
        plain: More variables, such as `__interval`, that go in as they are.

    Raises:
        QueryError: A format is not known.
    """
    known: dict[str, Value] = {
        "__from": _milliseconds(context.since),
        "__to": _milliseconds(context.until),
        **context.variables,
    }

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        form = match[3] or match[6]
        if name in plain:
            return plain[name]
        if name not in known:
            return match[0]
        if match[5]:
            raise QueryError(f"{match[0]}: fields of values are not supported")
        return _formatted(name, known[name], form, default)

    return _REFERENCE.sub(value_of, text)


def shown(text: str, context: Context) -> str:
    """A title or a text with the variables in it, as people read them."""
    return interpolated(text, context, lambda value: _many(value, " + "), plain={})


def ensure_nothing_left(query: str) -> None:
    """Raise `QueryError` where a variable or macro is left."""
    if left := _LEFT.search(query):
        raise QueryError(f"{left[0]} is no variable and no macro: {query}")


def _formatted(name: str, value: Value, form: str | None, default: Format) -> str:
    if isinstance(value, AllValue) and form not in ("text", "percentencode"):
        return value
    if form is None:
        return default(value)
    form, _, argument = form.partition(":")
    match form:
        case "date":
            return _date(_many(value, ","), argument)
        case "queryparam":
            return "&".join(f"var-{name}={_encoded(each)}" for each in _several(value))
    if form not in _FORMATS:
        raise QueryError(f"the format {form!r} is not known")
    return _FORMATS[form](value)


def _several(value: Value) -> list[str]:
    return [value] if isinstance(value, str) else value


def _many(value: Value, between: str) -> str:
    return between.join(_several(value))


def _escaped_twice(value: str) -> str:
    """Once for the regular expression, once for the text that PromQL keeps it in."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", r"\\\\"))


def _regex(value: Value) -> str:
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", each) for each in _several(value)]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _undelimited(value: str) -> str:
    return value.replace("'", "''")


def _literal(value: str) -> str:
    return f"'{_undelimited(value)}'"


def _encoded(value: str) -> str:
    return quote(value, safe="-_.~")


def _milliseconds(moment: dt.datetime) -> str:
    return str(round(moment.timestamp() * 1_000))


def _date(milliseconds: str, argument: str) -> str:
    match argument:
        case "" | "iso":
            moment = dt.datetime.fromtimestamp(int(milliseconds) / 1_000, dt.UTC)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "seconds":
            return str(round(int(milliseconds) / 1_000))
        case "ms":
            return milliseconds
    raise QueryError(f"the date format {argument!r} is not supported")


_FORMATS: Final[dict[str, Format]] = {
    "raw": lambda value: _many(value, ","),
    "csv": lambda value: _many(value, ","),
    "pipe": lambda value: _many(value, "|"),
    "regex": _regex,
    "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "glob": lambda value: value if isinstance(value, str) else _glob(value),
    "text": lambda value: _many(value, " + "),
    "sqlstring": lambda value: ",".join(map(_literal, _several(value))),
    "singlequote": lambda value: ",".join("'" + each.replace("'", r"\'") + "'" for each in _several(value)),
    "doublequote": lambda value: ",".join('"' + each.replace('"', r"\"") + '"' for each in _several(value)),
    "percentencode": lambda value: _encoded(value if isinstance(value, str) else f"{{{','.join(value)}}}"),
}


def _glob(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{{{','.join(values)}}}"
