"""The ranking by savings: what it proposes, what it refuses and why, on traces small enough to check."""

import random

import pytest
from replay_traces import Request, trace

from otel_analytics.analyze.replay import CacheModel, History, Replay
from otel_analytics.analyze.savings import Terms, best, pattern, personal, rank, refusal, refusals
from otel_analytics.present.explanations import savings_sentence
from otel_analytics.request_columns import KEYED, STORABLE, GroupName

TTLS = (1.0, 10.0, 60.0)
HISTORY = History(asked_seconds=86_400, seconds=86_400, requests=1, coverage=1.0)
TERMS = Terms(staleness_limit=0.01, min_evidence_requests=100, history=HISTORY)


def patterns(requests, ttls=TTLS):
    """Each group of the requests with all ways to cache it."""
    columns = trace(sorted(requests, key=lambda each: each.start))
    shared = Replay(CacheModel(ttls=ttls, latency_ms=0))
    per_user = Replay(CacheModel(ttls=ttls, latency_ms=0, per_user=True))
    shared.feed(columns)
    per_user.feed(columns)
    return [
        pattern(GroupName(f"/{one.group}", "GET", "{}"), one, own)
        for one, own in zip(shared.result(), per_user.result(), strict=True)
    ]


def one(requests, **more):
    (only,) = patterns(requests, **more)
    return only


def asked(times, every, **fields):
    """So many requests, one every so many seconds; a field may be made from the number and the moment."""
    return [
        Request(
            start=n * every,
            duration=0.1,
            **{name: value(n, n * every) if callable(value) else value for name, value in fields.items()},
        )
        for n in range(times)
    ]


def users(n, _moment):
    return 1 + n % 7


def test_a_page_that_is_the_same_for_all_is_shared_as_long_as_it_stays_fresh():
    # Another body every 1,000 s: at 60 s 5 to 6 % are stale, at 10 s 0.9 % of those that could be.
    found = best(one(asked(6_000, 1.0, user=users, body=lambda _, at: 1 + int(at // 1_000))), TERMS)
    assert (found.option.per_user, found.option.outcome.ttl_seconds) == (False, 10.0)
    assert 0 < found.option.outcome.stale <= 0.01 * found.option.outcome.compared


def test_what_takes_longest_in_all_comes_first_and_equals_by_name():
    busy = asked(400, 1.0, body=1, group=2, key=2)
    slow = [Request(n * 2.0, 1.0, body=1, group=0, key=3) for n in range(200)]
    like_busy = asked(400, 1.0, body=1, group=1, key=4)
    names = [each.pattern.name.route for each in rank(patterns([*busy, *slow, *like_busy]), TERMS)]
    assert names == ["/0", "/1", "/2"]


def test_a_personal_page_is_never_shared():
    def own(n, _):
        return 100 + n % 7

    theirs = one(asked(2_000, 0.5, user=users, body=own))
    found = best(theirs, TERMS)
    assert found.option.per_user
    assert all(each.per_user for each in found.admissible)
    for limit in (0.5, 0.99):
        assert best(theirs, TERMS._replace(staleness_limit=limit)).option.per_user


def test_a_personal_page_whose_visitors_only_ever_meet_their_own_copies_is_not_shared_either():
    # Each user comes twice within a second, then somebody else after ten minutes: no hit is ever stale.
    twice = [
        Request(600.0 * n + pause, 0.1, user=1 + n % 50, body=100 + n % 50)
        for n in range(200)
        for pause in (0.0, 0.5)
    ]
    found = best(one(twice), TERMS)
    assert found.option.per_user


def test_a_page_that_is_personal_for_few_is_not_shared_once_that_is_known():
    few = one(asked(3_000, 1.0, user=lambda n, _: 1 + n % 300, body=lambda n, _: 1 + (n % 300 == 7)))
    long_lived = few._replace(options=few.options[2:3] + few.options[5:])
    assert 0 < few.options[2].outcome.foreign_stale <= 0.01 * few.options[2].outcome.foreign
    assert not best(long_lived, TERMS).option.per_user
    known = personal(long_lived)
    assert best(known, TERMS) is None
    assert refusal(known, TERMS) == "differs between users"
    assert "users were seen to keep a body while others got another one" in savings_sentence(known, [], TERMS)


def test_where_no_user_is_known_bodies_alone_decide():
    assert not best(one(asked(500, 1.0, body=1)), TERMS).option.per_user
    mixed = one(asked(500, 1.0, body=lambda n, _: 1 + n % 3))
    assert best(mixed, TERMS) is None
    assert refusal(mixed, TERMS) == "stale"


@pytest.mark.parametrize(
    ("requests", "why"),
    [
        (asked(500, 1.0, body=1, flags=KEYED | STORABLE), "unsafe method"),
        (asked(99, 1.0, body=1), "few requests"),
        (asked(500, 100.0, body=1), "no gain"),
        (asked(500, 1.0, key=lambda n, _: n, body=1), "no gain"),
        (asked(500, 1.0, body=0), "bodies unknown"),
        (asked(500, 1.0, body=lambda n, _: n % 5 != 0), "bodies unknown"),
        (asked(500, 1.0, user=users, body=lambda n, _: 1 + n), "stale"),
        (asked(110, 1.0, key=lambda n, _: n if n < 90 else 0, body=1), "few hits"),
        (asked(500, 1.0, user=lambda n, _: 1 if n != 250 else 2, body=1), None),
    ],
)
def test_what_cannot_be_judged_is_not_proposed(requests, why):
    found = one(requests)
    if why is None:  # one user, so hardly any hit tells whether it can be shared
        assert best(found, TERMS).option.per_user
        return
    assert best(found, TERMS) is None
    assert refusal(found, TERMS) == why
    assert refusals([found], [], TERMS) == {why: 1}


def test_no_time_to_live_is_proposed_that_is_longer_than_the_history():
    found = one(asked(500, 1.0, body=1))
    assert best(found, TERMS).option.outcome.ttl_seconds == 60
    short = TERMS._replace(history=HISTORY._replace(seconds=59.0))
    assert best(found, short).option.outcome.ttl_seconds == 10
    assert best(found, TERMS._replace(history=HISTORY._replace(seconds=0.5))) is None


def test_a_history_shorter_than_an_hour_is_not_made_out_to_be_one():
    assert TERMS.hours == 24
    assert TERMS._replace(history=HISTORY._replace(seconds=60.0)).hours == 1


def test_of_planted_personal_pages_none_is_proposed_for_sharing():
    chance = random.Random(3)
    requests = []
    for group in range(20):
        personal, visitors = group % 2 == 0, chance.choice([2, 10, 100])
        for _ in range(chance.randrange(200, 1_500)):
            user = chance.randrange(1, visitors + 1) if chance.random() < 0.8 else 0
            body = 1_000 + user if personal else 1
            start = chance.random() * 20_000
            requests.append(Request(start, 0.1, key=group, user=user, body=body, group=group))
    shared = {
        int(each.pattern.name.route[1:])
        for each in rank(patterns(requests, ttls=(1.0, 60.0, 3_600.0)), TERMS)
        if any(not way.per_user for way in each.admissible)
    }
    assert shared
    assert all(group % 2 for group in shared)
