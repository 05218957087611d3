"""All benchmarks, one after the other, as a table and as JSON. Run it with `make bench`.

Arguments: names of benchmarks; all of them where none is given. The JSON goes to .cache/benchmarks.json.
"""

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from figures import Figure

BENCHMARKS: Final = ("request", "http_load", "export", "ingest", "rollup", "rank", "size", "replay", "growth")
OUTPUT: Final = Path(".cache/benchmarks.json")


def main() -> None:
    """Run them."""
    unknown = set(sys.argv[1:]) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    began = time.monotonic()
    print(f"{machine()}; medians, and in brackets the spread of the ratio over the rounds\n")
    print(line(("", "what", "", "against", "ratio", "aim")))
    figures: list[Figure] = []
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"... {name}", end="\r", file=sys.stderr, flush=True)
        for figure in import_module(name).run():
            figures.append(figure)
            print(line(cells(figure)), flush=True)
    seconds = time.monotonic() - began
    print(f"\nAll of it took {seconds / 60:.1f} minutes.")
    save(figures, seconds)


def machine() -> str:
    """What it runs on."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"


def cells(figure: Figure) -> tuple[str, ...]:
    """One row of the table."""
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
    if figure.low is not None and figure.high is not None:
        ratio += f" [{figure.low:.2f}-{figure.high:.2f}]"
    return (
        figure.number,
        figure.what,
        f"{shown(figure.value)} {figure.unit}",
        figure.against,
        ratio,
        figure.aim,
    )


def shown(value: float) -> str:
    """A number with three digits or more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def line(columns: Sequence[str]) -> str:
    """The columns, each with its room."""
    rooms = (4, 48, 18, 44, 20, 0)
    return " ".join(f"{text:<{room}}" for text, room in zip(columns, rooms, strict=True)).rstrip()


def save(figures: Sequence[Figure], seconds: float) -> None:
    """Write all of it for programs."""
    OUTPUT.parent.mkdir(exist_ok=True)
    document = {
        "machine": machine(),
        "seconds": round(seconds, 1),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    OUTPUT.write_text(json.dumps(document, indent=2) + "\n")
    print(f"As JSON: {OUTPUT}")


if __name__ == "__main__":
    main()
