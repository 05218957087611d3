"""Builds HTML in which text cannot become markup: only `Html` goes in as it is, all else is escaped.

A template engine would do the same for one more package to install and to keep up with; a page without
conditions for designers to edit needs none.
"""

import re
from html import escape
from typing import Final

from otel_analytics.present.text import harmless

_VOID: Final = frozenset({"meta", "link", "br", "circle", "line", "path", "rect", "wbr"})
"""Elements that hold nothing; those of SVG must be closed all the same."""
_PERCENT: Final = re.compile("(?<=[0-9]) %")
"""A figure and its sign stay on one line."""

Attribute = str | int | float | None


class Html(str):
    """Markup. Only this module makes it from text, and escapes the text."""

    __slots__ = ()


Child = Html | str | None


def text(value: str) -> Html:
    """Text from anywhere: escaped, and without characters that could hide or turn round other text."""
    return Html(_PERCENT.sub("&nbsp;%", escape(harmless(value, keep="\n"))))


def join(*children: Child) -> Html:
    """One after the other; None is nothing."""
    return Html("".join(each if isinstance(each, Html) else text(each) for each in children if each))


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element.

    Args:
        name: Of the element.
        children: What it holds.
        attributes: With `_` for `-`, and one at the end where Python knows the word (`class_`). None leaves
            the attribute out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(harmless(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}/>")
    return Html(f"<{name}{given}>{join(*children)}</{name}>")
