"""The template of the route that served a request, from what routing left in the ASGI scope. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_BELOW_A_MOUNT: Final = "/{path}"


def template_of(scope: Mapping[str, Any], routes: Iterable[Any]) -> str | None:
    """The route's template with every prefix; None where the scope does not tell.

    FastAPI and Starlette put the route they chose into the scope, or at least its endpoint. Of a mount, the
    path it matched ends up in `root_path`, with parameters filled in; the mount's own template is found again
    among the routes.

    Args:
        scope: After the request was served.
        routes: Of the application.
    """
    root_path = str(scope.get("root_path", ""))
    outer = str(scope.get("app_root_path", root_path))
    # Starlette notes the outer path where a mount matched, even one at the root, which adds nothing to it.
    in_a_mount = "app_root_path" in scope
    prefix, below = _mount_of(root_path[len(outer) :], routes) if in_a_mount else ("", routes)
    path = _path_chosen(scope, below)
    if path is None and in_a_mount:
        path = _BELOW_A_MOUNT
    return None if prefix is None or path is None else outer.rstrip("/") + prefix + path


def template_for(path: str, method: str, routes: Iterable[Any]) -> str | None:
    """The template of the route that would have served a request.

    For one that was answered before it came to the routing, such as by a cache in a middleware.

    Args:
        path: Below the root path.
        method: As sent.
        routes: Of the application.
    """
    for route in _flat(routes):
        match = _match(route, path)
        if match is None:
            continue
        if _is_mount(route):
            below = template_for("/" + match["path"], method, route.routes or ())
            return str(route.path_format).removesuffix(_BELOW_A_MOUNT) + (below or _BELOW_A_MOUNT)
        if not route.methods or method in route.methods:
            return str(route.path_format)
    return None


def _path_chosen(scope: Mapping[str, Any], routes: Iterable[Any]) -> str | None:
    route = scope.get("route")
    if route is None or _is_mount(route):
        return _path_of_endpoint(scope, routes)
    # Since 0.137 FastAPI leaves the routes of an included router as they are; the prefix is in their context.
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    if context is None or getattr(context, "original_route", None) is not route:
        context = route
    path = getattr(context, "path_format", None) or getattr(context, "path", None)
    return path if isinstance(path, str) else None


def _path_of_endpoint(scope: Mapping[str, Any], routes: Iterable[Any]) -> str | None:
    """By what it calls, which is all that FastAPI says of a route of Starlette's own kind."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    path = str(scope.get("path", "")).removeprefix(str(scope.get("root_path", "")))
    for route in _flat(routes):
        if getattr(route, "endpoint", None) is endpoint and _match(route, path):
            return str(route.path_format)
        if _is_mount(route) and route.app is endpoint:  # a mount of the root leaves no trace in root_path
            return _BELOW_A_MOUNT
    return None


def _mount_of(mounted: str, routes: Iterable[Any]) -> tuple[str | None, Iterable[Any]]:
    """The template of the mounts that matched a path, and the routes below; None where none is found."""
    for mount in filter(_is_mount, _flat(routes)):
        match = mount.path_regex.match(mounted + "/")
        if match is None:
            continue
        template = mount.path_format.removesuffix(_BELOW_A_MOUNT)
        rest = match["path"].rstrip("/")
        if not rest:
            return template, mount.routes or ()
        inner, below = _mount_of("/" + rest, mount.routes or ())
        if inner is not None:
            return template + inner, below
    return None, ()


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """The routes as they match a path; those of routers that FastAPI included by their contexts."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            yield from (getattr(each, "starlette_route", None) or each for each in contexts())


def _match(route: Any, path: str) -> Any:
    regex = getattr(route, "path_regex", None)
    return None if regex is None else regex.match(path)


def _is_mount(route: Any) -> bool:
    # Most routes have an endpoint, so that is asked first.
    return not hasattr(route, "endpoint") and hasattr(route, "path_regex") and hasattr(route, "app")
