"""What the package is made of: the lock is exact, licences are known, nothing runs what came from outside."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from program import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = PROJECT["name"]
EXTRAS = PROJECT["optional-dependencies"]
AT_RUN_TIME = ("fastapi", "postgres", "worker", "cli", "api")
PINNED = re.compile(r"[a-z0-9.-]+==[^\s;*]+( ; .+)?")
FREE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "PSF-2.0", "Zlib",
    "ISC License (ISCL)", "MIT License",
}  # fmt: skip
LINKED = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
"""Used as they are, which is what this licence asks for; whoever changes them has to pass that on."""
RUNS_WHAT_IT_GETS = (
    "S102,S301,S302,S307,S324,S323,S501,S502,S503,S505,S506,S507,S602,S604,S605,S609,S701,S702"
)
"""Of ruff: exec, eval, pickle, marshal, weak hashes and TLS, unsafe YAML, shells, unescaped templates."""


def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines], lines


def test_the_lock_names_one_version_of_each_package_and_no_place():
    requirements, lines = locked()
    assert not [line for line in lines if not PINNED.fullmatch(line)]
    names = [canonicalize_name(each.name) for each in requirements]
    assert names == sorted(names)
    # Of another version for another Python there may be one more.
    twice = [each for each in requirements if names.count(canonicalize_name(each.name)) > 1]
    assert all(each.marker for each in twice), twice


def test_the_lock_has_all_that_is_asked_for():
    versions = {canonicalize_name(each.name): next(iter(each.specifier)).version for each in locked()[0]}
    asked = [Requirement(text) for text in sum(EXTRAS.values(), PROJECT["dependencies"])]
    asked = [each for each in asked if each.name != NAME]
    assert len(asked) > 30
    for each in asked:
        version = versions[canonicalize_name(each.name)]
        assert each.specifier.contains(version, prereleases=True), each


def at_run_time(name, extras):
    """The names of what is installed for it, itself included."""
    seen, todo = set(), [(name, extras)]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            markers = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(needed.marker.evaluate(each) for each in markers):
                todo.append((canonicalize_name(needed.name), tuple(sorted(needed.extras))))
    return {name for name, _ in seen}


def licences(name):
    about = metadata(name)
    if expression := about.get("License-Expression"):
        return set(re.split(r" AND | OR ", expression))
    classifiers = about.get_all("Classifier") or ()
    named = {each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")}
    return named or {about["License"]}


def test_every_licence_of_what_runs_is_free_for_every_use():
    names = at_run_time(NAME, AT_RUN_TIME)
    assert {"redis", "psycopg-binary", "opentelemetry-sdk", "numpy", "starlette"} <= names
    for name in names:
        found = licences(name)
        assert found, name
        assert found <= FREE | {LINKED.get(name)}, name


def test_no_code_of_ours_runs_or_unpacks_what_comes_from_outside():
    folders = ("otel_analytics", "exporters", "deploy", "docs", "bench")
    command = [Path(sys.executable).with_name("ruff"), "check", "--isolated", "--ignore-noqa"]
    done = subprocess.run(
        [*command, "--select", RUNS_WHAT_IT_GETS, *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("code", ["import pickle\npickle.loads(b'')\n", "eval(input())\n"])
def test_that_check_finds_what_it_is_for(tmp_path, code):
    (tmp_path / "bad.py").write_text(code)
    command = [Path(sys.executable).with_name("ruff"), "check", "--isolated", "--no-cache"]
    done = subprocess.run(
        [*command, "--select", RUNS_WHAT_IT_GETS, tmp_path], capture_output=True, check=False
    )
    assert done.returncode == 1
