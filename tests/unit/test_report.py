"""The page of the report: rows in, HTML out."""

import datetime as dt
import re
from html.parser import HTMLParser
from itertools import pairwise

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.present.advice import AdviceRow
from otel_analytics.present.question_rows import ErrorRow, SlowRow, WeekRow
from otel_analytics.present.report import Contents, Part, html_page
from otel_analytics.present.report.charts import Line, curves, sparkline
from otel_analytics.present.report.contents import Advised, Rules, Unpromising
from otel_analytics.present.report.markup import Html, element, text
from otel_analytics.present.report.tables import heat_map
from otel_analytics.present.rows import AbsoluteRow, RelativeRow, SavingsRow
from otel_analytics.present.simulation import SimulationRow

NOW = dt.datetime(2026, 11, 24, 12, 30, tzinfo=dt.UTC)
HOSTILE = "/<script>alert(1)</script>'\"&lt;--><img src=x onerror=alert(2)>\x1b]0;x\x07\u202e{id}\ud800"
NOTHING = Part([], "No figures yet.")


def simulated(ttl, *, saved, stale, hits=100, **fields):
    values = dict.fromkeys(SimulationRow._fields, 0) | {
        "route": "/items",
        "method": "GET",
        "query_params_normalized": {},
        "ttl_seconds": ttl,
        "requests": 200,
        "hits": hits,
        "hit_ratio": hits / 200,
        "saved_seconds": saved * 100,
        "saved_share_of_seconds": saved,
        "staleness": stale / hits if hits else None,
        "compared_hits": hits,
        "stale_hits": stale,
        "peak_memory_bytes": 2_200,
        "caveats": ["long ttl"] if ttl > 1_000 else [],
    }
    return SimulationRow(**(values | fields))


def make_contents(name="/items", params=None, **parts):
    params = params or {}
    ladder = [
        simulated(ttl, saved=share, stale=stale, route=name, query_params_normalized=params)
        for ttl, share, stale in ((1.0, 0.1, 0), (60.0, 0.5, 1), (3_600.0, 0.9, 40))
    ]
    absolute = AbsoluteRow(
        name, "GET", params, 20.0, 200.0, 5.0, 202.5, 0.9871, 80, 300.0, 201.5, 4, True, True
    )
    relative = RelativeRow(
        name, "GET", params, 20.0, 200.0, 90.0, 99.9, 50.0, 100.0, 1.0, 80, 5.0, 300.0, None, 4, True
    )
    saving = SavingsRow(
        name,
        "GET",
        params,
        1.5,
        60.0,
        "shared",
        0.5,
        3.0,
        2_200,
        0.01,
        200,
        100,
        50.0,
        0.5,
        100,
        1,
        0,
        0,
        0.4,
        [],
    )
    values = {
        "made_at": NOW,
        "version": "0.1.0",
        "days": 7,
        "rules": Rules(10, 100, 50, 0.01, 1),
        "requests": 1_234,
        "coverage": 0.99999,
        "absolute": Part([absolute], "Based on 80 requests."),
        "relative": Part([relative], "Based on 80 requests."),
        "savings": Part([saving], "Based on 200 requests. Not ranked: 1 pattern."),
        "advised": [Advised(False, ladder[1], ladder)],
        "unpromising": [Unpromising(absolute, f"Not ranked {name}.")],
        "replay_basis": "Based on 200 requests.",
        "findings": Part(
            [
                AdviceRow(
                    rule, severity, name, "GET", None, f"Found {name}.", "Do it.", {}, f"SELECT '{name}'"
                )
                for rule, severity in (("never-share", "high"), ("cold-data", "info"))
            ],
            "Based on 200 requests of 1 routes.",
        ),
        "replayed_seconds": 100.0,
        "saved_seconds": 50.0,
        "week": Part([WeekRow(1, 0, 12.5, 50, 4)], "Based on 50 requests."),
        "slow": Part([SlowRow(name, "GET", 80, 1.0, 2.0, None, 0.1, 1.0)], "Based on 80 requests."),
        "courses": [[1.0, None, 2.0]],
        "errors": Part(
            [ErrorRow(name, "GET", 80, 2, 0.025, 1, 0.0125, None, [{"error_type": name, "requests": 2}])],
            "Based on 80 requests.",
        ),
    }
    return Contents(**(values | parts))


EMPTY = {
    **dict.fromkeys(("absolute", "relative", "savings", "findings", "week", "slow", "errors"), NOTHING),
    **dict.fromkeys(("advised", "unpromising", "courses"), ()),
    "replay_basis": "Based on nothing.",
    "requests": 0,
    "coverage": None,
    "replayed_seconds": 0.0,
    "saved_seconds": 0.0,
}


class Seen(HTMLParser):
    """What a page is made of: its tags, its ids and what they are referred to by, its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.referred, self.attributes, self.text = [], [], set(), [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in {"aria-labelledby", "aria-describedby", "for"}:
                self.referred.update(value.split())
            elif name == "href" and value.startswith("#"):
                self.referred.add(value[1:])

    def handle_data(self, data):
        self.text += data


@given(st.text(), st.text())
def test_text_stays_text(content, attribute):
    seen = Seen(element("p", content, title=attribute))
    assert seen.tags == ["p"]
    assert [name for name, _ in seen.attributes] == ["title"]
    assert seen.text.replace("\n", "").isprintable() or "\xa0%" in seen.text
    if content.isprintable():
        assert seen.text.replace("\xa0%", " %") == content


def test_markup_is_only_what_was_built():
    assert element("p", "<b>", Html("<i></i>"), None, "a & b") == "<p>&lt;b&gt;<i></i>a &amp; b</p>"
    assert element("a", href='"><script>', aria_label=None, class_="x") == (
        '<a href="&quot;&gt;&lt;script&gt;" class="x"></a>'
    )
    assert text("12 %") == "12&nbsp;%"


@pytest.mark.parametrize(
    "contents", [make_contents(), make_contents(**EMPTY), make_contents(HOSTILE, {HOSTILE: [HOSTILE]})]
)
def test_the_page_is_valid_and_its_references_lead_somewhere(contents):
    page = html_page(contents)
    html5lib.HTMLParser(strict=True).parse(page)
    seen = Seen(page)
    assert len(seen.ids) == len(set(seen.ids))
    assert seen.referred <= set(seen.ids)
    assert seen.tags.count("h1") == 1
    levels = [int(tag[1]) for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert seen.tags.count("table") == seen.tags.count("caption")


@pytest.mark.parametrize("contents", [make_contents(), make_contents(HOSTILE, {HOSTILE: [HOSTILE]})])
def test_nothing_from_outside_gets_into_the_markup(contents):
    plain, seen = Seen(html_page(make_contents())), Seen(html_page(contents))
    assert set(seen.tags) == set(plain.tags)
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    page = html_page(contents)
    assert not set(page) - set("\n") & {chr(code) for code in (*range(32), 127, 0x202E)}
    page.encode()


def test_the_page_needs_nothing_beside_itself():
    page = html_page(make_contents())
    loads = {"src", "srcset", "data", "action", "poster", "xlink:href"}
    assert not [name for name, _ in Seen(page).attributes if name in loads]
    assert set(re.findall(r'href="([^"]*)"', page)) - {f"#{each}" for each in Seen(page).ids} == {"data:,"}
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_what_is_advised_says_what_it_rests_on():
    words = " ".join(Seen(html_page(make_contents())).text.split()).replace("\xa0", " ")
    assert (
        "Keep answers for 1 minute, one copy for all users. Of 200 requests, 100 (50.0 %) would have been"
        " answered from the cache, saving 50.0 s of work (50.0 % of the time they all took)."
        " 1 (1 %) would have been stale." in words
    )
    assert words.count("Based on 200 requests.") == 3
    assert words.count("Based on 80 requests.") == 4
    assert "99.99 %" in words  # 99.999 is not all
    assert "long ttl: the time to live is more than a tenth of the history." in words


def test_a_flood_of_findings_does_not_make_the_page_large():
    row = AdviceRow("error-prone", "high", "/items", "GET", None, "Found.", "Do it.", {}, "SELECT 1")
    page = html_page(make_contents(findings=Part([row] * 5_000, "Based on 200 requests.")))
    assert len(page) < 200_000
    assert "4,950 more are left out here" in page


def test_without_data_every_section_says_why():
    words = Seen(html_page(make_contents(**EMPTY))).text
    assert words.count("No figures yet.") >= 6
    assert "unknown" in words


def test_a_curve_breaks_where_nothing_is_known():
    chart = curves(
        ["1s", "1m", "1h", "1d"],
        [Line("saved", [0.0, 0.5, 1.0, 1.0]), Line("stale", [0.1, None, 0.2, 0.3])],
        marked=2,
        label_id="x",
        description="d",
    )
    saved, stale = re.findall(r'<path d="([^"]*)"', chart)
    assert (saved.count("M"), saved.count("L")) == (1, 3)
    assert (stale.count("M"), stale.count("L")) == (2, 1)
    assert chart.count("<circle") == 4
    assert chart.count("<rect") == 3
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert ys == [186, 102, 18, 18]  # from 0 to 100 % of the height
    assert "best: 1h" in chart


def test_a_sparkline_begins_at_zero():
    path = re.search(r'd="([^"]*)"', sparkline([0.0, 5.0, None, 10.0], "x"))[1]
    assert path == "M2.5 19.5h0L32.8 11M93.5 2.5h0"
    assert "NaN" not in sparkline([], "x") + sparkline([0.0], "x") + sparkline([None], "x")


def test_the_heat_map_is_a_table_with_every_figure():
    table = heat_map(
        "w", [WeekRow(1, 0, 0.0, 0, 4), WeekRow(1, 1, 600.0, 600, 1), WeekRow(7, 23, 1_234.0, 1_234, 1)]
    )
    seen = Seen(table)
    assert (seen.tags.count("tr"), seen.tags.count("td")) == (8, 7 * 24)
    assert table.count('<td class="none">') == 7 * 24 - 3
    assert '<td class="level0"><span>0</span></td><td class="level2"><span>600</span></td>' in table
    assert '<td class="level5"><span>1.2k</span></td>' in table
