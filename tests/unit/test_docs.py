"""The pages that follow from the code are what the code says, and links lead somewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_analytics import settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def built():
    """The pages as the code has them, made in a process of its own: typer wraps help when it is imported."""
    code = "import json, runpy; print(json.dumps(runpy.run_path('docs/build.py')['pages']()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("page", ["cli.md", "fields.md", "rules.md", "settings.md"])
def test_a_page_made_from_the_code_is_up_to_date(built, page):
    assert (ROOT / "docs" / page).read_text() == built[page], "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [each for each in targets if "://" not in each and not (page.parent / each).exists()]
    assert missing == []


def test_the_readme_names_commands_and_targets_that_exist():
    readme = (ROOT / "README.md").read_text()
    said = r"(?:^|`|\$ )"
    commands = set(re.findall(said + r"otel-analytics (\w+)", readme, re.MULTILINE)) - {"tells"}
    documented = re.findall(r"^## otel-analytics (\w+)", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    assert commands
    assert commands - set(documented) == {"has"}  # a sentence that begins with the name
    targets = set(re.findall(said + r"make ([a-z-]+)", readme, re.MULTILINE))
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert targets - set(made) == set()


def test_the_settings_shown_in_the_readme_can_be_used(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "otel-analytics.toml"
    file.write_text(block)
    loaded = settings.load(environ={}, config_file=file)
    assert loaded.excluded_paths == ("/healthz",)
    assert (loaded.raw_retention_days, loaded.top_n_routes) == (30, 20)
