"""``python -m tests.golden [DIR]``: run every golden case of a directory and print how close we come."""

import argparse
import sys
from pathlib import Path

from tests.golden.cases import CASES, is_absent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    own = Path(__file__).parent
    parser.add_argument(
        "folder", nargs="?", type=Path, default=own, metavar="DIR", help="default: the copy in the tests"
    )
    folder = parser.parse_args().folder
    if not (folder / "cases").is_dir():
        print(f"error: {folder}: no cases/ there; expected a directory of golden numbers", file=sys.stderr)
        return 2
    failed = 0
    print(f"{'case':<44} {'max_error':>10} {'tolerance':>10}")
    for name, run in CASES.items():
        if is_absent(folder, name):
            print(f"{name:<44} {'absent':>10}")
            continue
        for result in run(folder):
            failed += not result.ok
            print(f"{result.case:<44} {result.error:10.2e} {result.tolerance:10.2e}  {'ok' if result.ok else 'FAIL'}")
    return 1 if failed else 0


sys.exit(main())
