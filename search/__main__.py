"""`python -m search`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from search.cli import main

        main()
    except KeyboardInterrupt:  # while it was being imported
        sys.exit(130)
