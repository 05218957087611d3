"""The template of the route that served a request, from what routing left in the ASGI scope. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_BELOW_A_MOUNT: Final = "/{path}"


def template_of(scope: Mapping[str, Any]) -> str | None:
    """The route's template with every prefix; None where the scope does not tell.

    FastAPI and Starlette put the route they chose into the scope. Of a mount, the path it matched ends up in
    `root_path`, with parameters filled in; they are turned back into their names.

    Args:
        scope: After the request was served.
    """
    route = scope.get("route")
    root_path = str(scope.get("root_path", ""))
    mounted = root_path[len(str(scope.get("app_root_path", root_path))) :]
    is_mount = hasattr(route, "app") and not hasattr(route, "endpoint")
    if route is None or is_mount:  # and nothing below it was chosen
        return _with_names(root_path, mounted, scope, ()) + _BELOW_A_MOUNT if mounted else None
    path = _path_of(scope, route)
    if path is None:
        return None
    return _with_names(root_path, mounted, scope, getattr(route, "param_convertors", ())) + path


def _path_of(scope: Mapping[str, Any], route: Any) -> str | None:
    # Since 0.137 FastAPI leaves the routes of an included router as they are; the prefix is in their context.
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    if context is None or getattr(context, "original_route", None) is not route:
        context = route
    path = getattr(context, "path_format", None) or getattr(context, "path", None)
    return path if isinstance(path, str) else None


def _with_names(root_path: str, mounted: str, scope: Mapping[str, Any], own: Any) -> str:
    prefix = root_path.rstrip("/")
    if not mounted:
        return prefix
    names = {str(value): name for name, value in scope.get("path_params", {}).items() if name not in own}
    if not names:
        return prefix
    outer = root_path[: len(root_path) - len(mounted)].rstrip("/")
    return outer + "/".join(f"{{{names[part]}}}" if part in names else part for part in mounted.split("/"))
