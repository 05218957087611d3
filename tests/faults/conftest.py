"""The faults: each test tells what came of it, and the run ends with a table of them."""

import pytest
from scene import Scene


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="inject faults for as long as they are asked for")


@pytest.fixture
def long(request):
    """Whether there is time: `make faults`."""
    return request.config.getoption("--long", default=False)


@pytest.fixture
def scene(tmp_path):
    """Makes scenes: `with scene(claim_idle_seconds=1.0) as here: ...`."""
    return lambda **options: Scene(tmp_path, **options)


@pytest.fixture
def tell(record_property):
    """Enters a row into the table: `tell(3, "SIGSTOP past the claim time", outcome, stall=...)`."""

    def enter(number, fault, outcome=None, **figures):
        row = {"number": number, "fault": fault}
        if outcome is not None:
            row |= {
                "accepted": len(outcome.accepted),
                "stored": len(outcome.stored),
                "dead": len(outcome.dead),
                "dropped": sum(outcome.dropped.values()),
                "lost": len(outcome.lost),
                "duplicates": outcome.duplicates,
                "stall": round(outcome.longest_stall, 1),
            }
        record_property("fault", row | figures)

    return enter


COLUMNS = ("accepted", "stored", "dead", "dropped", "lost", "duplicates", "stall")


def pytest_terminal_summary(terminalreporter):
    rows = [
        (value, report.outcome)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "fault"
    ]
    if not rows:
        return
    terminalreporter.section("what the faults did, in events; the longest stall in seconds")
    terminalreporter.write_line(
        f"{'':>3} {'fault':<58}" + "".join(f"{name:>11}" for name in COLUMNS) + "  promise"
    )
    for row, outcome in sorted(rows, key=lambda each: (each[0]["number"], each[0]["fault"])):
        figures = "".join(f"{row.get(name, ''):>11}" for name in COLUMNS)
        kept = "kept" if outcome == "passed" else "BROKEN"
        terminalreporter.write_line(f"{row['number']:>3} {row['fault']:<58}{figures}  {kept}")
