"""`python -m search`: the same as `islr-search`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python looks for packages in the working folder first, where `model` may be somebody else's.
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
        del sys.path[0]
    try:
        from search.cli import main

        main()
    except KeyboardInterrupt:  # while it was being imported
        sys.exit(130)
