"""`python -m distill_cli` is `distill`."""

import sys

from distill_cli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
