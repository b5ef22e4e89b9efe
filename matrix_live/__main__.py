"""The program ``the-matrix``: what ``python -m pipeline`` does, in any folder. The process is ours, so
our packages come first in it, whatever else is called models or configs."""

import sys

from matrix_live.house import HOUSE


def main() -> int:
    """Run one command; the exit code."""
    sys.path.insert(0, str(HOUSE))
    # only now is ours what is found by that name
    from pipeline.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
