"""Where the program starts: Ctrl-C is quiet even while the rest of it is being imported."""

import sys
from typing import Final

_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit."""
    try:
        from otel_analytics.cli.__main__ import main as run
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    run()
