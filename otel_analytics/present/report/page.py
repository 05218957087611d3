"""The page: its head, its outline and its look."""

import math
from importlib.resources import files
from typing import Final

from otel_analytics.present.report import sections, words
from otel_analytics.present.report.contents import Contents
from otel_analytics.present.report.markup import Html, element
from otel_analytics.present.tables import percent

_TITLE: Final = "What to cache"
_ICON: Final = "data:,"
"""None, so that no browser asks for one."""

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""Should text ever become markup, a browser still runs no script and asks nobody for anything."""

_SECTIONS: Final = (
    ("first", "What to cache first", sections.first),
    ("curves", "Savings by time to live", sections.savings),
    ("findings", "Findings", sections.findings),
    ("by-savings", "Ranking by savings", sections.by_savings),
    ("by-traffic", "Ranking by traffic and latency", sections.absolute),
    ("against-others", "Ranking against all others", sections.relative),
    ("traffic", "Traffic by hour and weekday", sections.week),
    ("slow-routes", "Slow routes", sections.slow),
    ("failing-routes", "Failing routes", sections.errors),
    ("reading", "How to read this", sections.reading),
)


def html_page(contents: Contents) -> str:
    """The whole page; it needs nothing beside itself."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"otel-analytics {contents.version}"),
        element("title", f"{_TITLE}, {contents.made_at:%Y-%m-%d}"),
        element("link", rel="icon", href=_ICON),
        _style(),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", _TITLE), _subtitle(contents), _tiles(contents), class_="page"),
        element(
            "nav",
            element(
                "ul", *(element("li", element("a", title, href=f"#{key}")) for key, title, _ in _SECTIONS)
            ),
            aria_label="Sections",
        ),
        element(
            "main",
            *(
                element(
                    "section",
                    element("h2", title, id=f"{key}-title"),
                    build(contents),
                    id=key,
                    aria_labelledby=f"{key}-title",
                    tabindex=-1,
                )
                for key, title, build in _SECTIONS
            ),
            id="content",
            tabindex=-1,
        ),
        element(
            "footer", element("p", f"Made by otel-analytics {contents.version}. This page needs no network.")
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _style() -> Html:
    css = files("otel_analytics.present.report").joinpath("style.css").read_text(encoding="utf-8")
    return element("style", Html(css))  # our own file, without a < in it


def _subtitle(contents: Contents) -> Html:
    days = f"the last {contents.days} days" if contents.days > 1 else "the last day"
    made = f"{contents.made_at:%Y-%m-%d %H:%M}"
    return element("p", f"By the requests of {days}, as of {made} UTC", class_="subtitle")


def _tiles(contents: Contents) -> Html:
    # Rounded down, so that 100 % is said only of all.
    coverage = "unknown" if contents.coverage is None else f"{math.floor(contents.coverage * 1e4) / 100:g} %"
    tiles = [(f"{contents.requests:,}", "requests looked at"), (coverage, "coverage: events not lost")]
    if contents.replayed_seconds:
        share = contents.saved_seconds / contents.replayed_seconds
        tiles += [
            (words.duration(contents.replayed_seconds), "of work, in the requests replayed"),
            (words.duration(contents.saved_seconds), f"of it saved by a cache: {percent(share)} %"),
        ]
    return element(
        "dl",
        *(element("div", element("dt", what), element("dd", figure)) for figure, what in tiles),
        class_="tiles",
    )
