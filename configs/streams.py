"""Standard input, output and error of a process that was started without some of them (``>&-``)."""

import os
import sys


def open_streams() -> None:
    """Let each of the three that is closed lead nowhere, for this process and its children. Python has
    None in their place, and the next file or socket would get their number."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - for as long as we live
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
