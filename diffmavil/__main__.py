"""``python -m diffmavil``: the same command as ``diffmavil``."""

import sys

from diffmavil.cli import main

if __name__ == "__main__":
    sys.exit(main())
