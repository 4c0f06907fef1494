"""`python -m data_utils`: the same as `islr-data`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from data_utils.cli import main

        main()
    except KeyboardInterrupt:  # while it was being imported
        sys.exit(130)
