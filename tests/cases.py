"""What people meet, kind by kind, and the tests that hold each: ``python -m tests.cases``.

    python -m tests.cases               # all but what takes minutes on purpose
    python -m tests.cases --soak        # that too
    python -m tests.cases 14 27         # some of them

Prints a line a kind: ok, or which test failed or was skipped and why. The exit code is 1 where
anything failed. A test of several kinds runs once.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.case_table import CASES, Case
from tests.places import ROOT


@dataclass
class Outcomes:
    """What became of every test, by its name without parameters. A plug-in of pytest."""

    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for the set-up, the call and the end of every test."""
        name = report.nodeid.split("[")[0]
        if report.failed:
            self.failed.add(name)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self.skipped[name] = str(reason).removeprefix("Skipped: ")
        elif report.when == "call":
            self.passed.add(name)

    def verdict(self, case: Case) -> str:
        """ "ok", or what is missing, in words."""
        said = [f"failed: {name}" for name in names(case) if name in self.failed]
        for name in names(case):
            if name not in self.failed | self.passed:
                said.append(f"not run: {name} ({self.skipped.get(name, 'takes minutes: --soak')})")
        if case.missing:
            said.append(f"missing: {case.missing}")
        return "; ".join(said) or "ok"


def names(case: Case) -> Iterator[str]:
    """pytest's names of a case's tests, without parameters."""
    return (f"tests/test_{name}" for name in case.tests)


def main() -> int:
    """Run them and print the table; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("numbers", nargs="*", type=int, help="lines of the table; default all")
    parser.add_argument("--soak", action="store_true", help="also what takes minutes on purpose")
    options = parser.parse_args()
    chosen = {
        number: case
        for number, case in enumerate(CASES, start=1)
        if not options.numbers or number in options.numbers
    }
    tests = dict.fromkeys(name for case in chosen.values() for name in names(case))
    outcomes, marks = Outcomes(), "not gpu" if options.soak else "not gpu and not soak"
    quiet = ["-q", "--no-header", "--tb=line", "-m", marks, f"--rootdir={ROOT}"]
    pytest.main([*quiet, *(str(ROOT / name) for name in tests)], plugins=[outcomes])
    verdicts = {number: outcomes.verdict(case) for number, case in chosen.items()}
    for number, case in chosen.items():
        print(f"{number:3}  {case.kind}: {verdicts[number]}")
    print(f"{sum(said == 'ok' for said in verdicts.values())} of {len(chosen)} ok")
    return 1 if outcomes.failed else 0


if __name__ == "__main__":
    sys.exit(main())
