"""The route that serves the live metrics, unless the application has one of its own at that path."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.types import Scope

Scrape = Callable[[str], tuple[bytes, str]]
"""Gets the header Accept; gives the body and its content type."""

_FAST: Final = 1
"""Level of compression: the page repeats itself so much that higher ones only take longer."""


class MetricsRoute(Route):
    """Stands first, so that no catch-all route hides it, and lets pass what the application answers itself.

    That is looked up when the path is asked for, as the application may add its routes at any time.
    """

    def __init__(self, app: Any, path: str, scrape: Scrape) -> None:
        """The route; it is still to be added.

        Args:
            app: Whose routes come first.
            path: Where the metrics are.
            scrape: What they are.
        """

        def metrics(request: Request) -> Response:
            body, content_type = scrape(request.headers.get("accept", ""))
            headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
            if "gzip" in request.headers.get("accept-encoding", ""):
                body, headers["content-encoding"] = gzip.compress(body, _FAST), "gzip"
            return Response(body, headers=headers)

        super().__init__(path, metrics, methods=["GET"], include_in_schema=False)
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """GET and HEAD of the path only."""
        if not scope["path"].endswith(self.path):  # as of nearly all requests; it stands before all routes
            return Match.NONE, {}
        match, child_scope = super().matches(scope)
        if match is Match.FULL and not self.gives_way():
            return match, child_scope
        return Match.NONE, {}

    def gives_way(self) -> bool:
        """Whether the application has a route or a mount of its own at the path."""
        own = self.path.rstrip("/")  # a missing slash is what Starlette redirects for
        others = (route for route in self._app.routes if route is not self)
        return any(path.rstrip("/") == own for path in _paths(others))


def _paths(routes: Iterable[Any]) -> Iterator[str]:
    for route in routes:
        # Since 0.137 FastAPI keeps an included router as one route; prefixes are in the contexts of its own.
        contexts = getattr(route, "effective_route_contexts", None)
        for context in (route,) if contexts is None else contexts():
            each = getattr(context, "starlette_route", None) or context
            path = getattr(each, "path", None)
            if not isinstance(path, str):
                continue
            yield path
            if isinstance(each, Mount):
                yield from (path + inner for inner in _paths(each.routes or ()))
