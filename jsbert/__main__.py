"""`python -m jsbert`: the command line."""

import sys

from jsbert.cli import main

if __name__ == "__main__":
    sys.exit(main())
