"""`report` as its users run it, and its page as they see it: in a real browser, by eye and by keyboard."""

import datetime as dt
import random
import re
from pathlib import Path

import pytest
from backend import HOUR, make_event
from browser import browser
from program import ROOT, run, sent_to_terminal

from otel_analytics.demo.past import past_events
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

ARTIFACTS = ROOT / ".cache" / "artifacts"
"""What CI keeps."""
HOSTILE = (
    "/evil/<script>document.title='owned'</script>/\x1b]0;owned\x07\u202e/{id}\"><img src=x onerror=alert(1)>"
)
PARAMS = {"q": "<img src=//evil.invalid/x>", "'\"": "</script></table>", "long": "word" * 100}
TAB = ("Tab", 9)
A4 = 700
"""Pixels of the style sheet between the margins of the paper."""

LINKS = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"
FOCUSED = f"""(() => {{
  const now = document.activeElement, box = now.getBoundingClientRect();
  const seen = box.bottom > 0 && box.top < innerHeight;
  return [{LINKS}.indexOf(now), getComputedStyle(now).outlineStyle, seen];
}})()"""
SMALLEST = """Math.min(...[...document.querySelectorAll("p, td, svg text")].map((each) =>
  parseFloat(getComputedStyle(each).fontSize) * (each.ownerSVGElement ? each.getScreenCTM().a : 1)))"""
CONTRASTS = """(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const linear = (v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const { rgb, a } = parse(getComputedStyle(each).backgroundColor);
      if (a === 1) return rgb;
    }
    throw new Error("no background");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("desc, style")) continue;
    const style = getComputedStyle(node);
    const colour = parse(node instanceof SVGElement ? style.fill : style.color).rgb;
    const [light, dark] = [luminance(colour), luminance(behind(node))].sort((a, b) => b - a);
    found.push([(light + 0.05) / (dark + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
})()"""


def stored(dsn, events):
    with connect(dsn) as connection:
        insert_making_partitions(connection, events, first_day=dt.date(2020, 1, 1))
        rollup_touched(connection, Settings(postgres_dsn=dsn), now=dt.datetime.now(dt.UTC))


@pytest.fixture
def dsn(migrated_dsn):
    """A week of the demo's shop, and a route made by somebody who wants to do harm."""
    now = dt.datetime.now(dt.UTC)
    events = list(past_events(now=now, days=7, requests_a_day=3_000, chance=random.Random(1)))
    events += [
        make_event(
            now - HOUR + dt.timedelta(seconds=second),
            route=HOSTILE,
            route_full=f"{HOSTILE}?q=1",
            duration_ms=2_000.0,
            status_code=500 if second % 10 == 0 else 200,
            error_type=HOSTILE if second % 10 == 0 else None,
            query_params=PARAMS,
            query_params_normalized=PARAMS,
            user_id=f"u{second % 3}",
            response_hash=1,
        )
        for second in range(0, 3_000, 2)
    ]
    stored(migrated_dsn, events)
    return migrated_dsn


@pytest.fixture
def page(dsn, tmp_path):
    out, err = run(dsn, "report", "-o", str(tmp_path / "report.html"))
    assert out == ""
    assert re.fullmatch(r"wrote .*report\.html, [\d,]+ kB\n", err)
    return tmp_path / "report.html"


def test_the_page_in_a_browser(page, tmp_path):
    assert page.stat().st_size < 1_000_000
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with browser(tmp_path / "profile") as chromium:
        for scheme in ("light", "dark"):
            chromium.open(page, scheme=scheme)
            chromium.picture(ARTIFACTS / f"report-{scheme}.png")
            worst = sorted(chromium.run(CONTRASTS))
            assert worst[0][0] >= 4.5, worst[:5]
            assert len(worst) > 500

        chromium.open(page, width=390, height=844, mobile=True)
        chromium.picture(ARTIFACTS / "report-phone.png")
        assert chromium.run("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        assert chromium.run(SMALLEST) >= 9

        chromium.open(page, media="print", scheme="dark", width=A4)
        assert chromium.run("document.documentElement.scrollWidth") == A4
        assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert min(chromium.run(CONTRASTS))[0] >= 4.5
        assert chromium.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        chromium.open(page)
        assert chromium.run("document.title").startswith("What to cache")
        assert chromium.run("document.scripts.length + document.images.length") == 0
        assert chromium.run("document.body.textContent.includes('<script>document.title=')")
    assert chromium.complaints == []
    assert set(chromium.requested) == {page.as_uri()}


def test_a_script_does_not_run_in_the_page(page, tmp_path):
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page)
        chromium.run("document.body.append(document.createElement('script'))")
        chromium.run("document.scripts[0].append('window.owned = true')")
        assert chromium.run("document.scripts.length") == 1
        assert chromium.run("'owned' in window") is False


def test_the_page_by_keyboard(page, tmp_path):
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page)
        there = chromium.run(f"{LINKS}.filter((each) => each.checkVisibility()).length")
        reached = []
        for _ in range(there):
            chromium.press(*TAB)
            reached.append(chromium.run(FOCUSED))
        places = [place for place, _, _ in reached]
        assert -1 not in places
        assert places == sorted(set(places))  # in the order of the page
        assert len(places) > 20
        assert {style for _, style, _ in reached} == {"solid"}
        assert all(visible for _, _, visible in reached)

        chromium.open(page)
        chromium.press(*TAB)
        assert chromium.run("document.activeElement.textContent") == "Skip to the content"
        chromium.press("Enter", 13, text="\r")
        assert chromium.run("document.activeElement.id") == "content"
        chromium.press(*TAB)
        assert chromium.run("document.activeElement.closest('main') !== null")
        chromium.run("document.querySelector('summary').focus()")
        chromium.press("Enter", 13, text="\r")
        assert chromium.run("document.querySelector('details').open")


def test_standard_output_holds_the_page_and_nothing_else(dsn):
    out, err = run(dsn, "report", "-o", "-", "-n", "2", "--days", "1")
    assert out.startswith("<!DOCTYPE html>\n")
    assert out.endswith("</html>\n")
    assert err == ""
    assert "By the requests of the last day" in out
    assert "\x1b" not in out


def test_an_empty_database_is_an_answer(migrated_dsn, tmp_path):
    (tmp_path / "report.html").write_text("old")
    run(migrated_dsn, "report", "--output", str(tmp_path / "report.html"))
    assert "No figures yet: nothing was stored." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("where", ["missing/report.html", "", "file/report.html"])
def test_a_bad_path_is_said_before_the_work(tmp_path, where):
    (tmp_path / "file").write_text("kept")
    out, err = run("postgresql://127.0.0.1:1/nowhere", "report", "-o", str(tmp_path / where), code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert "PostgreSQL" not in err
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_page(tmp_path):
    (tmp_path / "report.html").write_text("old")
    target = str(tmp_path / "report.html")
    _, err = run("postgresql://user:hidden@127.0.0.1:1/nowhere", "report", "-o", target, code=1)
    assert err.count("\n") == 1
    assert "hidden" not in err
    assert (tmp_path / "report.html").read_text() == "old"


def test_progress_shows_on_a_terminal(dsn, tmp_path):
    assert "Replaying requests" in sent_to_terminal(dsn, 80, "report", "-o", str(tmp_path / "r.html"))
    assert Path(tmp_path / "r.html").exists()
