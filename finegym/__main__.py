"""`finegym`, and `python -m finegym`."""

import sys

from finegym.commands.line import main


if __name__ == "__main__":
    sys.exit(main())
