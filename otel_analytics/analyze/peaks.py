"""When there is most to do: by hour of the day, and by hour of the week. Times are UTC."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otel_analytics.figures import HourOfDayFigures


class Peak(NamedTuple):
    """A route at an hour of the day, and how many times its average hour that is."""

    figures: HourOfDayFigures
    times_average: float


class WeekHour(NamedTuple):
    """One of the 168 hours of a week.

    Attributes:
        weekday: 1 is Monday, 7 Sunday.
        hour_of_day: From 0 to 23.
        hours: How often the hour came by with figures; 1 or more.
        total_requests: In all of them.
    """

    weekday: int
    hour_of_day: int
    hours: int
    total_requests: int

    @property
    def avg_requests(self) -> float:
        """Requests when the hour comes by."""
        return self.total_requests / self.hours


def peaks(figures: Iterable[HourOfDayFigures]) -> list[Peak]:
    """Every route and hour of the day, the busiest first, equals by name.

    Args:
        figures: All the hours of the day of each route, as the route's average is taken over them.
    """
    figures = list(figures)
    requests: defaultdict[str, int] = defaultdict(int)
    hours: defaultdict[str, int] = defaultdict(int)
    for each in figures:
        requests[each.route] += each.total_requests
        hours[each.route] += each.active_days
    found = [
        Peak(each, each.avg_hourly_requests * hours[each.route] / requests[each.route]) for each in figures
    ]
    return sorted(
        found,
        key=lambda peak: (-peak.figures.avg_hourly_requests, peak.figures.route, peak.figures.hour_of_day),
    )


def week(hour_totals: Mapping[dt.datetime, int]) -> list[WeekHour]:
    """The hours of the week that have figures, from Monday's first on.

    Args:
        hour_totals: The beginning of an hour to its requests.
    """
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for hour, requests in hour_totals.items():
        utc = hour.astimezone(dt.UTC)
        places[utc.isoweekday(), utc.hour].append(requests)
    return [WeekHour(*place, len(found), sum(found)) for place, found in sorted(places.items())]
