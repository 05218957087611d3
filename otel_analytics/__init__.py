"""What to cache, and the proof: request analytics for FastAPI.

from otel_analytics import instrument

instrument(app)
"""

from typing import TYPE_CHECKING, Any, Final

from otel_analytics._version import __version__

if TYPE_CHECKING:
    from otel_analytics.capture.instrument import instrument
    from otel_analytics.capture.observed import set_cache_status, set_user
    from otel_analytics.settings import Settings

__all__ = ["Settings", "__version__", "instrument", "set_cache_status", "set_user"]

_HOMES: Final = {
    "instrument": "otel_analytics.capture.instrument",
    "set_cache_status": "otel_analytics.capture.observed",
    "set_user": "otel_analytics.capture.observed",
    "Settings": "otel_analytics.settings",
}


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the command line needs none of what an application needs.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
