"""One person taken out of everything that is stored."""

import datetime as dt
import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.privacy import Privacy
from otel_analytics.record import MAX_TEXT_LENGTH, Event, clean_text
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store import partitions, persons
from otel_analytics.store.connection import Connection
from otel_analytics.stream.persons import PersonsOnStream

DISTINCTIVE_LENGTH: Final = 6
_USER: Final = Event._fields.index("user_id")
_WAIT_SECONDS: Final = 30.0


class Person:
    """A user id in all the forms in which it may be stored.

    Attributes:
        names: What stands in the field `user_id`.
        mention: A regular expression for the id elsewhere, in a path or a parameter; None where that is not
            looked for.
    """

    def __init__(self, user_id: str, settings: Settings, *, mentions: bool | None = None) -> None:
        """Prepare.

        Args:
            user_id: As the application names the user.
            settings: For `hash_key`.
            mentions: Whether to look for the id in what others requested. None: where it is distinctive,
                which is to say `DISTINCTIVE_LENGTH` characters or more and not a mere number.

        Raises:
            OtelAnalyticsError: The id is empty.
        """
        text = clean_text(user_id, MAX_TEXT_LENGTH)
        if not text.strip():
            raise OtelAnalyticsError("the id of the user is empty")
        self.names = Privacy(settings).stored_users(text)
        distinctive = len(text) >= DISTINCTIVE_LENGTH and not text.isdigit()
        self.mention: str | None = None
        if distinctive if mentions is None else mentions:
            spellings = {each for name in self.names for each in _spellings(name)}
            self.mention = "|".join(sorted(map(_escaped, spellings), key=len, reverse=True))

    def is_in(self, payload: bytes) -> bool:
        """Whether events, as they stand on the stream, are the person's or speak of the person."""
        text = payload.decode(errors="replace")
        if self.mention is not None and re.search(self.mention, text, re.IGNORECASE):
            return True
        try:
            events = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return any(_user(event) in self.names for event in events) if isinstance(events, list) else False


@dataclass(frozen=True)
class Forgotten:
    """What was taken away.

    Attributes:
        events: Raw events of the person.
        mentions: Raw events of others in which the person's id was hidden.
        hours: Hours whose figures were recomputed.
        patterns: Rows of hourly figures and kept rankings that named the person.
        entries: Entries taken off the stream, stored ones of other users among them.
        letters: Dead letters discarded.
        file_rewritten: Whether Redis writes its append-only file anew; None where there is no stream.
    """

    events: int
    mentions: int
    hours: int
    patterns: int
    entries: int
    letters: int
    file_rewritten: bool | None


def forget(
    connection: Connection,
    settings: Settings,
    person: Person,
    *,
    now: dt.datetime,
    progress: Callable[[str], None] = lambda _: None,
) -> Forgotten:
    """Take a person out of every table, the stream and the dead letters.

    Each day is a transaction of its own. Doing it again is right, and finds nothing.

    Args:
        connection: Of the role that owns the tables; not inside a transaction.
        settings: For where Redis is, and `max_patterns_per_route`.
        person: Who.
        now: The present.
        progress: Told what is being done.

    Raises:
        OtelAnalyticsError: Workers are not through with what was on the stream; nothing was taken away.
        StreamUnavailable: Redis does not answer, or refuses.
        StoreUnavailable: PostgreSQL does not answer, or refuses.
    """
    if settings.exporter != "redis":
        return _in_tables(connection, settings, person, now, progress)
    with closing(PersonsOnStream(settings.redis_url, key_prefix=settings.key_prefix)) as stream:
        progress("waiting for what is on the stream to be stored")
        last_id = stream.last_id()
        if not stream.wait_until_processed(last_id, _WAIT_SECONDS):
            raise OtelAnalyticsError(
                "entries on the stream are not stored yet, and would come back; run otel-analytics worker"
                " --once, then this again"
            )
        done = _in_tables(connection, settings, person, now, progress)
        progress("the stream and the dead letters")
        entries = stream.remove_entries(person.is_in, last_id)
        letters = stream.purge_letters(person.is_in)
        return Forgotten(
            events=done.events,
            mentions=done.mentions,
            hours=done.hours,
            patterns=done.patterns,
            entries=entries,
            letters=letters,
            file_rewritten=stream.rewrite_file(),
        )


def _in_tables(
    connection: Connection,
    settings: Settings,
    person: Person,
    now: dt.datetime,
    progress: Callable[[str], None],
) -> Forgotten:
    events = mentions = patterns = 0
    for day in sorted(partitions.existing_days(connection)):
        progress(f"events of {day}")
        events += persons.delete_events(connection, person.names, day)
        if person.mention is not None:
            mentions += persons.hide_in_events(connection, person.mention, day)
    progress("recomputing hours")
    hours = rollup_touched(connection, settings, now=now)
    if person.mention is not None:
        patterns = persons.hide_in_figures(connection, person.mention)
    progress("freeing the place of what was deleted")
    persons.vacuum(connection)
    return Forgotten(events, mentions, hours, patterns, entries=0, letters=0, file_rewritten=None)


def _spellings(name: str) -> set[str]:
    """How an id may stand in a path, a query, JSON, and JSON without other than ASCII letters."""
    # A database of the locale C knows of ASCII letters only that they are large or small.
    written = set()
    for text in (name, name.lower(), name.upper()):
        written |= {text, quote(text, safe=""), quote(text), quote_plus(text)}
    return {json.dumps(text, ensure_ascii=only)[1:-1] for text in written for only in (True, False)} | written


def _escaped(text: str) -> str:
    """The text as a regular expression, the same for Python and PostgreSQL."""
    return "".join(c if c.isalnum() or not c.isascii() else f"\\{c}" for c in text)


def _user(event: Any) -> Any:
    if isinstance(event, list) and len(event) > _USER and isinstance(event[_USER], str):
        return event[_USER]
    return None
