"""The report: rows in, one page of HTML out. Pure; no network, no script."""

from otel_analytics.present.report.contents import Contents, Part
from otel_analytics.present.report.page import html_page
from otel_analytics.present.report.sections import CURVES

__all__ = ["CURVES", "Contents", "Part", "html_page"]
