"""Replays recorded requests through a cache model: what a cache would have saved, and at what price.

The interface, which is stable:

    model = CacheModel(ttls=(60.0,), per_user=False, single_flight=False)
    replay = Replay(model)
    for chunk in chunks:                 # RequestColumns, in the order of time
        replay.feed(chunk)
    for found in replay.result():        # GroupReplay: group, evidence, outcomes (one for each TTL)
        outcome = best(found.outcomes, staleness_limit=0.01)

A *group* is a route, method and parameter pattern, as a number; who makes the columns knows what it stands
for. `Evidence` says what was seen of it, `Outcome` what the cache would have done at one time to live,
`caveats()` what to bear in mind with that. `BoundedReplay` is the same for one cache of limited memory that
all groups share. `otel_analytics.simulation.simulate()` does all of this from the raw table and names the
groups. The rules are in docs/replay.md.

Pure: numpy and nothing else, no input or output.
"""

from otel_analytics.analyze.replay.bounded import POLICIES, BoundedOutcome, BoundedReplay, Policy
from otel_analytics.analyze.replay.caveats import MEANINGS, Caveat, History, caveats
from otel_analytics.analyze.replay.engine import Replay
from otel_analytics.analyze.replay.model import LADDER, MOST_TTLS, CacheModel
from otel_analytics.analyze.replay.results import Evidence, GroupReplay, Outcome, best

__all__ = [
    "LADDER",
    "MEANINGS",
    "MOST_TTLS",
    "POLICIES",
    "BoundedOutcome",
    "BoundedReplay",
    "CacheModel",
    "Caveat",
    "Evidence",
    "GroupReplay",
    "History",
    "Outcome",
    "Policy",
    "Replay",
    "best",
    "caveats",
]
