"""P1 and P2: what a request costs more with each peer in the application, in process.

One process a subject; in each round every one of them answers some requests, in an order that moves on, and
each ratio is that within a round. Processor time is that of all threads, with what the background has to do
for these requests done on the spot; beside it stands the time on the thread that serves.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from figures import Figure, compared
from peers import POSTING, Subject, Surroundings, installed, surroundings
from subjects import BARE, BESIDE, NATIVE, OURS

ROUTES: Final = (10, 100, 500, 1_000)
ROUNDS: Final = 15
REQUESTS: Final = 300
"""In a round; as many with many routes as with few, since the first ones find nothing in the caches."""
AIMS: Final = {
    "FastAPIInstrumentor": "<= 0.6 x",
    "Apitally": "<= 0.4 x",
    "prometheus-fastapi-instrumentator": "< 1 x",
}

Rounds = dict[str, dict[str, list[float]]]
"""Microseconds a request: by kind of time, by subject, one a round."""


def run() -> Iterator[Figure]:
    """P1 with ten routes, then P2 with more of them."""
    names = installed()
    growth: dict[int, Rounds] = {}
    with surroundings() as around:
        growth[ROUTES[0]] = measure(names, ROUTES[0], around)
        yield from costs(growth[ROUTES[0]])
        growing = [name for name in names if name not in (NATIVE, BESIDE)]
        for routes in ROUTES[1:]:
            growth[routes] = measure(growing, routes, around)
        for name, path in POSTING.items():
            assert name not in names or around.posts[path], f"{name} has sent nothing"
    for routes in ROUTES[1:]:
        yield from grown(routes, growth[routes], growth[ROUTES[0]])


def measure(names: Sequence[str], routes: int, around: Surroundings) -> Rounds:
    """Rounds of all subjects."""
    rounds: Rounds = {}
    with ExitStack() as stack:
        subjects = [Subject(name, routes, around) for name in names]
        for subject in subjects:
            stack.callback(subject.stop)
        for subject in subjects:
            assert subject.answer() == "ready\n", f"{subject.name} does not start"
        for number in range(ROUNDS):
            first = number % len(subjects)
            for subject in subjects[first:] + subjects[:first]:
                answer = ask(subject, REQUESTS)
                for kind in ("processor", "thread"):
                    rounds.setdefault(kind, {}).setdefault(subject.name, []).append(answer[kind])
    return rounds


def ask(subject: Subject, requests: int) -> dict[str, float]:
    """One round of one subject, which must have taken note of every request."""
    subject.input.write(f"{requests}\n")
    subject.input.flush()
    answer: dict[str, float] = json.loads(subject.answer())
    assert subject.name == BARE or answer["counted"] == answer["asked"], (subject.name, answer)
    return answer


def costs(rounds: Rounds) -> Iterator[Figure]:
    """What each subject adds to a request, ours against each of the others."""
    processor = rounds["processor"]
    yield Figure("P1", "a request to bare FastAPI", statistics.median(processor[BARE]), "us")
    added = over(processor, BARE)
    part = statistics.median(over(processor, NATIVE)[OURS])
    beside = statistics.median(over(processor, NATIVE)[BESIDE])
    yield compared("P1", "added by native spans", added[NATIVE], "us", against=BARE, floor=processor[BARE])
    yield Figure("P1", f"ours, more than {NATIVE}", part, "us", aim="<= 20 us")
    yield Figure("P1", f"added to {NATIVE} by ours beside them", beside, "us")
    for kind, where in (("processor", "all threads"), ("thread", "serving thread")):
        added = over(rounds[kind], BARE)
        for name in added:
            if name not in (BARE, OURS, BESIDE):
                against = f"{name}: {statistics.median(added[name]):.0f} us"
                aim = AIMS.get(name, "") if kind == "processor" else ""
                what = f"added by ours, {where}"
                yield compared("P1", what, added[OURS], "us", against=against, floor=added[name], aim=aim)


def grown(routes: int, rounds: Rounds, few: Rounds) -> Iterator[Figure]:
    """What each subject adds with more routes, against what it added with few of them."""
    added, before = over(rounds["processor"], BARE), over(few["processor"], BARE)
    for name in added:
        if name != BARE:
            aim = "<= 1.2 x" if name == OURS and routes == 500 else ""  # noqa: PLR2004 - the aim names it
            earlier = statistics.median(before[name])
            value = statistics.median(added[name])
            # Rounds of one number of routes have nothing to do with those of another.
            low, high = min(added[name]) / earlier, max(added[name]) / earlier
            against = f"with {ROUTES[0]} routes: {earlier:.0f} us"
            what = f"{name}, {routes} routes"
            yield Figure("P2", what, value, "us", against, value / earlier, low, high, aim)


def over(times: dict[str, list[float]], floor: str) -> dict[str, list[float]]:
    """What each subject takes more than one of them, round by round."""
    return {
        name: [value - under for value, under in zip(values, times[floor], strict=True)]
        for name, values in times.items()
    }


if __name__ == "__main__":
    for figure in run():
        print(figure)
