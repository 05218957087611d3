"""Every setting, from one place: keyword arguments > environment > `otel-analytics.toml` > defaults."""

import dataclasses
import difflib
import math
import os
import re
import stat
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from otel_analytics.errors import SettingsError

ENV_PREFIX: Final = "OTEL_ANALYTICS_"
CONFIG_FILE: Final = "otel-analytics.toml"
# name = value, the value in single quotes where it holds spaces; a backslash escapes
_LIBPQ_PAIR: Final = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)")
_HOSTS: Final = re.compile(r"(?:\[[^]]*\]|[^:,]*)(?::\d*)?(?:,(?:\[[^]]*\]|[^:,]*)(?::\d*)?)*")
_PASSWORD: Final = re.compile(r"://[^/?#]*:[^/?#]*@|password")
_SHOWN_LIBPQ_KEYS: Final = ("host", "hostaddr", "port", "dbname", "user", "service")
_A_YEAR: Final = 366 * 86_400
"""Seconds. To wait for longer is a mistake, and far longer than this a clock overflows."""
CLIENT_FIELDS: Final = ("client_address", "user_agent", "referrer", "session_id")


def _positive(**limits: float) -> dict[str, float]:
    return {"min": 1, **limits}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, checked. Build it with `load`, which names the culprit when a value is wrong.

    Attributes:
        redis_url: Where the stream is. May hold a password, so it never appears in a message.
        postgres_dsn: Where events are stored, as a URL or a libpq string. May hold a password.
        exporter: Whether the application sends its events to the stream or straight to PostgreSQL.
        key_prefix: What the names of the Redis keys begin with. Put it in braces for Redis Cluster.
        buffer_size: Events an application process keeps in memory at most while they cannot be delivered.
        export_batch_size: Events in one delivery at most.
        export_interval_seconds: How long an event waits for company before it is delivered.
        flush_timeout_seconds: How long a stopping application may spend on delivering what is left.
        stream_max_entries: High-water mark. The producer adds nothing while the stream is longer than this.
        stream_retention_seconds: How long stored entries stay readable on the stream for live questions.
        response_hash: Whether to take a keyed hash of successful GET and HEAD bodies.
        response_hash_max_bytes: Body bytes that go into the hash at most.
        hash_key: Secret for `response_hash` and `user_id_hmac`. Processes of one service need the same.
        user_id_hmac: Store the keyed HMAC of user ids instead of the ids; needs `hash_key`.
        capture_client: Which of `client_address`, `user_agent`, `referrer`, `session_id` to store.
        pattern_ignored_params: More query parameters that vary inside one pattern, beside the built-in ones.
        redacted_params: Further query parameters whose values are never stored, beside the built-in ones.
        excluded_paths: Paths whose requests are not recorded at all, such as health checks.
        metrics_path: Where the instrumented application serves Prometheus metrics; empty to serve none.
        metrics_max_routes: Distinct routes a metric may have before further ones share one label value.
        worker_batch_size: Events in one transaction of the worker at most.
        worker_interval_seconds: Pause between two runs of the worker; 0 drains as events come.
        worker_metrics_host: Address on which the worker serves its own metrics.
        worker_metrics_port: Port for the same; 0 to serve none.
        claim_idle_seconds: After so long without an acknowledgement, another worker takes an entry over.
        poison_limit: So many entries in a row without one storable event stop the worker.
        raw_retention_days: How long raw events are kept.
        hourly_retention_days: How long hourly figures and kept rankings stay.
        partitions_ahead_days: How many days of partitions exist before they are needed.
        max_patterns_per_route: Patterns kept apart per route and hour; the rest are summed in one row.
        rollup_interval_seconds: How often the worker recomputes hours that changed.
        rankings_interval_seconds: How often the worker keeps the rankings for dashboards, in a process of its
            own; 0 for never.
        days: Days of history an analysis looks back.
        top_n_routes: Rows a ranking shows.
        min_requests: Requests an hour below which the absolute ranking leaves a pattern out.
        min_latency: Average p95 in milliseconds below which the absolute ranking leaves a pattern out.
        cache_score_threshold: Score above which a caching layer is told to cache.
        pages_to_cache_per_route: How many first pages of a paginated route `plan` recommends.
        cache_latency_ms: What an answer from the cache takes, in milliseconds; a replay saves so much less.
        staleness_limit: Share of the hits, from 0 to 1, that may be stale at a recommended time to live.
        min_evidence_requests: Requests of a pattern below which a replay says that they are few, and the
            ranking by savings leaves it out.
        rules: The rules of `advise`: a table for each that is switched or tuned; see docs/rules.md.
    """

    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    postgres_dsn: str = field(default="postgresql://localhost:5432/postgres", repr=False)
    exporter: Literal["redis", "postgres"] = "redis"
    key_prefix: str = "route_analytics"

    buffer_size: int = field(default=10_000, metadata=_positive())
    export_batch_size: int = field(default=500, metadata=_positive(max=5_000))
    export_interval_seconds: float = field(default=0.5, metadata={"min": 0.001, "max": 60})
    flush_timeout_seconds: float = field(default=5.0, metadata={"min": 0, "max": 3_600})
    stream_max_entries: int = field(default=100_000, metadata=_positive())
    stream_retention_seconds: float = field(default=7_200.0, metadata={"min": 0, "max": _A_YEAR})

    response_hash: bool = True
    response_hash_max_bytes: int = field(default=1_048_576, metadata=_positive())
    hash_key: str = field(default="", repr=False)
    user_id_hmac: bool = False
    capture_client: tuple[str, ...] = field(default=(), metadata={"choices": CLIENT_FIELDS})
    pattern_ignored_params: tuple[str, ...] = ()
    redacted_params: tuple[str, ...] = ()
    excluded_paths: tuple[str, ...] = ()
    metrics_path: str = "/metrics"
    metrics_max_routes: int = field(default=500, metadata=_positive())

    worker_batch_size: int = field(default=5_000, metadata=_positive(max=100_000))
    worker_interval_seconds: float = field(default=0.0, metadata={"min": 0, "max": _A_YEAR})
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = field(default=9464, metadata={"min": 0, "max": 65_535})
    claim_idle_seconds: float = field(default=60.0, metadata={"min": 0.001, "max": _A_YEAR})
    poison_limit: int = field(default=100, metadata=_positive())

    raw_retention_days: int = field(default=30, metadata=_positive(max=3_650))
    hourly_retention_days: int = field(default=400, metadata=_positive(max=36_500))
    partitions_ahead_days: int = field(default=3, metadata=_positive(max=365))
    max_patterns_per_route: int = field(default=200, metadata=_positive())
    rollup_interval_seconds: float = field(default=60.0, metadata={"min": 0.1, "max": _A_YEAR})
    rankings_interval_seconds: float = field(default=3_600.0, metadata={"min": 0, "max": _A_YEAR})

    days: int = field(default=7, metadata=_positive(max=36_500))
    top_n_routes: int = field(default=20, metadata=_positive(max=1_000_000))
    min_requests: float = field(default=10.0, metadata={"min": 0})
    min_latency: float = field(default=100.0, metadata={"min": 0})
    cache_score_threshold: float = 50.0
    pages_to_cache_per_route: int = field(default=1, metadata=_positive(max=1_000))
    cache_latency_ms: float = field(default=1.0, metadata={"min": 0, "max": 60_000})
    staleness_limit: float = field(default=0.01, metadata={"min": 0, "max": 1})
    min_evidence_requests: int = field(default=100, metadata=_positive())
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            problem = _problem(each, getattr(self, each.name))
            if problem:
                raise SettingsError(f"setting {each.name}: {problem}")
        if self.user_id_hmac and not self.hash_key:
            raise SettingsError("setting user_id_hmac: needs hash_key, the secret to hash with")
        if self.metrics_path and not self.metrics_path.startswith("/"):
            raise SettingsError("setting metrics_path: must begin with / or be empty")


def load(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: str | os.PathLike[str] | None = None,
) -> Settings:
    """Gather the settings from every source.

    Args:
        overrides: Setting name to value, the strongest source. None values count as not given.
        environ: Environment variables; those of the process where None.
        config_file: A TOML file that must exist. Where None, the one named by `OTEL_ANALYTICS_CONFIG`, else
            `otel-analytics.toml` in the working directory if there is one.

    Raises:
        SettingsError: A source names an unknown setting or holds a value that cannot be used.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    path = _config_path(environ, config_file)
    if path is not None:
        values.update(_from_file(path))
    values.update(_from_environment(environ))
    for name, value in (overrides or {}).items():
        if name not in _FIELDS:
            raise SettingsError(_unknown(name, "argument", _FIELDS))
        if value is not None:
            values[name] = tuple(value) if isinstance(value, list) else value
    return Settings(**values)


def without_password(url: str) -> str:
    """The URL or libpq string as it may be shown: where to and who, no password, no query."""
    scheme, is_url, rest = url.partition("://")
    if not is_url:
        return " ".join(
            f"{key}={value}" for key, value in _LIBPQ_PAIR.findall(url) if key in _SHOWN_LIBPQ_KEYS
        )
    authority, slash, path = rest.partition("?")[0].partition("/")
    user_and_password, _, host = authority.rpartition("@")
    # A password that was not percent-encoded puts its end where the host, the path or the query should be.
    # Where the host was forgotten, it stands for the port.
    if "@" in rest[len(authority) :] or "@" in user_and_password or not _HOSTS.fullmatch(host):
        return f"{scheme}://(unreadable)"
    user = user_and_password.partition(":")[0]
    return f"{scheme}://{user}{'@' if user else ''}{host}{slash}{path}"


def source(
    *, environ: Mapping[str, str] | None = None, config_file: str | os.PathLike[str] | None = None
) -> tuple[Path | None, list[str]]:
    """Where `load` finds settings: the TOML file, if any, and the names of the environment variables."""
    environ = os.environ if environ is None else environ
    return _config_path(environ, config_file), sorted(name for name in environ if name.startswith(ENV_PREFIX))


def exposed_secrets(path: Path) -> list[str]:
    """The settings of a TOML file that hold a secret, where every user of the machine may read the file.

    Raises:
        SettingsError: The file cannot be read.
    """
    values = _from_file(path)
    if not path.stat().st_mode & stat.S_IROTH:
        return []
    secret = {name for name in values if not _FIELDS[name].repr}
    return sorted(name for name in secret if name == "hash_key" or _PASSWORD.search(values[name]))


def _config_path(environ: Mapping[str, str], config_file: str | os.PathLike[str] | None) -> Path | None:
    named = config_file or environ.get(f"{ENV_PREFIX}CONFIG")
    if named:
        return Path(named)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in _FIELDS:
            raise SettingsError(_unknown(name, f"setting in {path}", _FIELDS))
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable == f"{ENV_PREFIX}CONFIG":
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name not in _FIELDS:
            known = [ENV_PREFIX + each.upper() for each in _FIELDS]
            raise SettingsError(_unknown(variable, "environment variable", known))
        if _is_table(_TYPES[name]):
            raise SettingsError(
                f"environment variable {variable}: the environment cannot hold a table;"
                f" write [{name}.<name>] into {CONFIG_FILE} instead"
            )
        try:
            values[name] = _parse(text, _TYPES[name])
        except ValueError as error:
            raise SettingsError(f"environment variable {variable}: {error}") from error
    return values


def _unknown(name: str, what: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else "; see the list of settings in the README"
    return f"unknown {what} {name}{hint}"


def _parse_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _parse_number(kind: type[int] | type[float], text: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be a {'whole ' if kind is int else ''}number") from None


def _parse(text: str, kind: Any) -> Any:
    parsers: dict[Any, Callable[[str], Any]] = {
        bool: _parse_bool,
        int: lambda value: _parse_number(int, value),
        float: lambda value: _parse_number(float, value),
        tuple: lambda value: tuple(part.strip() for part in value.split(",") if part.strip()),
    }
    return parsers.get(typing.get_origin(kind) or kind, str)(text)


def _problem(each: "dataclasses.Field[Any]", value: Any) -> str | None:
    """Why the value cannot be used, or None. Never repeats a value, which may be a secret."""
    kind = _TYPES[each.name]
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        return None if value in choices else f"must be one of {', '.join(choices)}"
    expected = typing.get_origin(kind) or kind
    fits = isinstance(value, (int, float)) if expected is float else isinstance(value, expected)
    if not fits or (isinstance(value, bool) and expected is not bool):
        return f"must be {_KIND_NAMES[expected]}"
    if expected is tuple:
        return _list_problem(each, value)
    if expected is Mapping:
        return _table_problem(value)
    return _number_problem(each, value) if expected in (int, float) else None


def _list_problem(each: "dataclasses.Field[Any]", value: tuple[Any, ...]) -> str | None:
    if not all(isinstance(part, str) for part in value):
        return "must be a list of texts"
    allowed = each.metadata.get("choices")
    return f"may hold only {', '.join(allowed)}" if allowed and not set(value) <= set(allowed) else None


def _is_table(kind: Any) -> bool:
    return typing.get_origin(kind) is Mapping


def _table_problem(value: Mapping[str, Any]) -> str | None:
    # Which names and values there are is known where they are used, which an application has no need to load.
    wrong = [name for name, table in value.items() if not isinstance(table, Mapping)]
    return f"{wrong[0]} must be a table, as in [rules.{wrong[0]}]" if wrong else None


def _number_problem(each: "dataclasses.Field[Any]", value: float) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    smallest, largest = each.metadata.get("min"), each.metadata.get("max")
    if smallest is not None and value < smallest:
        return f"must be at least {smallest:g}"
    if largest is not None and value > largest:
        return f"must be at most {largest:g}"
    return None


_KIND_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list of texts",
    Mapping: "a table",
}
_FIELDS: Final = {each.name: each for each in dataclasses.fields(Settings)}
_TYPES: Final = typing.get_type_hints(Settings)
