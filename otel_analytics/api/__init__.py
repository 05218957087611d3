"""The answers over HTTP: a router for the application to include, closed unless it says who may ask."""

from otel_analytics.api.router import PATHS, analytics_router

__all__ = ["PATHS", "analytics_router"]
