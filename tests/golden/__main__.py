"""``python -m tests.golden [DIR]``: run every golden case of a directory and print how close we
come."""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.golden.cases import CASES, Comparison, is_absent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    own = Path(__file__).parent
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=own,
        metavar="DIR",
        help="default: the copy in the tests",
    )
    folder = parser.parse_args().folder
    if not (folder / "cases").is_dir():
        print(
            f"error: {folder}: no cases/ there; expected a directory of golden numbers",
            file=sys.stderr,
        )
        return 2
    passed = failed = 0
    print(f"{'case':<44} {'max_error':>10} {'tolerance':>10}")
    for name in CASES:
        if is_absent(folder, name):
            print(f"{name:<44} {'absent':>10}")
            continue
        for result, reason in _results(folder, name):
            passed, failed = passed + result.ok, failed + (not result.ok)
            verdict = "ok" if result.ok else f"FAIL{reason}"
            print(f"{result.case:<44} {result.error:10.2e} {result.tolerance:10.2e}  {verdict}")
    return 1 if failed or not passed else 0


def _results(folder: Path, name: str) -> Iterator[tuple[Comparison, str]]:
    """A case's comparisons; one that cannot be computed is a failed one, with the reason."""
    try:
        yield from ((result, "") for result in CASES[name](folder))
    except Exception as error:  # whatever it is: the other cases still run
        yield (
            Comparison(name, math.inf, 0.0),
            f" ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
        )


sys.exit(main())
