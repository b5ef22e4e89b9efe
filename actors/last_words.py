"""What a worker process said last: Ray keeps the standard error of each in a file named by its
process id, which goes with the cluster's folder."""

import re
from pathlib import Path
from typing import Final

FATAL: Final = "Fatal Python error:"  # how Python's fault handler begins
# Ray's own marks, and the list that the fault handler ends with
NOT_WORDS: Final = re.compile(r":(job_id|actor_name|task_name):|\s|\[|Extension modules:|Stack ")
READ_BYTES: Final = 1 << 16


def last_words(logs: Path, pid: int) -> str | None:
    """The line by which process ``pid`` named its end, "" if it said nothing, None if there is no
    log of it (its node is another one, or the cluster was not started by us)."""
    files = list(logs.glob(f"worker-*-{pid}.err"))
    if not files:
        return None
    lines = files[0].read_bytes()[-READ_BYTES:].decode(errors="replace").splitlines()
    fatal = [line for line in lines if line.startswith(FATAL)]
    spoken = [line for line in lines if line and not NOT_WORDS.match(line)]
    return (fatal[:1] or spoken[-1:] or [""])[0].strip()


def pid_of(error: BaseException) -> int:
    """The process that Ray's error about a dead actor names; 0 if it names none."""
    named = re.search(r"pid[:=]\s*(\d+)", str(error))
    return int(named[1]) if named else 0
