"""The rules: small pure functions over what is known of a route, that find something or are silent.

`registry.configured()` takes the setting `rules`, `registry.findings()` runs the rules over the facts that
`otel_analytics.advice` gathers. A rule's docstring is its documentation: docs/rules.md is made of it. False
alarms are worse than silence.
"""

from otel_analytics.analyze.rules.caching import proposed_ttl
from otel_analytics.analyze.rules.model import (
    SEVERITIES,
    Finding,
    ParameterFacts,
    PatternReplay,
    Proof,
    RouteFacts,
    Severity,
    Whole,
)
from otel_analytics.analyze.rules.registry import RULES, Active, Said, chosen, configured, findings
from otel_analytics.analyze.rules.sharing import Sharing, is_doubtful, sharing

__all__ = [
    "RULES",
    "SEVERITIES",
    "Active",
    "Finding",
    "ParameterFacts",
    "PatternReplay",
    "Proof",
    "RouteFacts",
    "Said",
    "Severity",
    "Sharing",
    "Whole",
    "chosen",
    "configured",
    "findings",
    "is_doubtful",
    "proposed_ttl",
    "sharing",
]
