"""`python -m data_utils`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from data_utils.cli import main
        from data_utils.streams import install_safe_streams

        install_safe_streams()
        sys.exit(main())
    except KeyboardInterrupt:  # while it was being imported
        sys.exit(130)
