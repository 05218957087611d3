"""Writes the dashboards as Grafana reads them. Run it with `make dashboards`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.builder import candidates, live, pipeline, route

FOLDER: Final = Path(__file__).parents[1] / "dashboards"
DASHBOARDS: Final[dict[str, Callable[[], Dashboard]]] = {
    "live.json": live.build,
    "route.json": route.build,
    "candidates.json": candidates.build,
    "pipeline.json": pipeline.build,
}


def files() -> dict[str, str]:
    """File name to content, as the code has it."""
    return {
        name: json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, build in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
