"""``python -m tso3``: the same as ``tso3``."""

import sys

from tso3.cli import main

if __name__ == "__main__":
    sys.exit(main())
