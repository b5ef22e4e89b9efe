"""Why a worker died, from the file that Ray keeps of its standard error."""

from pathlib import Path

import pytest

from actors.last_words import last_words, pid_of

MARKS = ":job_id:01000000\n:actor_name:DitWorker\n"
FAULT_HANDLER = """Fatal Python error: Segmentation fault

Stack (most recent call first):
  File "models/world.py", line 12 in step
  File "ray/_private/workers/default_worker.py", line 323 in <module>

Extension modules: msgpack._cmsgpack, psutil._psutil_linux (total: 31)
"""
TRACEBACK = """Exception raised in creation task: The actor died because of an error
  File "actors/worker.py", line 20, in __init__
    raise MemoryError("no room for 3 GB")
MemoryError: no room for 3 GB
"""
NOISE = "[2026-11-27 02:09:04,115 W 23448 23448] core_worker.cc:987: something of Ray's own\n"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (FAULT_HANDLER, "Fatal Python error: Segmentation fault"),
        (TRACEBACK, "MemoryError: no room for 3 GB"),
        (TRACEBACK + NOISE, "MemoryError: no room for 3 GB"),
        ("libfoo: cannot open device\n", "libfoo: cannot open device"),
        ("", ""),
    ],
)
def test_the_line_that_names_the_cause(tmp_path: Path, written: str, words: str) -> None:
    (tmp_path / "worker-1438f5a6-01000000-23448.err").write_text(MARKS + written)
    (tmp_path / "worker-1438f5a6-01000000-2344.err").write_text("somebody else\n")
    assert last_words(tmp_path, 23448) == words


def test_no_log_is_no_news(tmp_path: Path) -> None:
    assert last_words(tmp_path, 23448) is None
    assert last_words(tmp_path / "absent", 23448) is None


def test_rays_error_names_the_process() -> None:
    assert pid_of(RuntimeError("The actor died.\n\tclass_name: W\n\tpid: 23448\n\tip: x")) == 23448
    assert pid_of(RuntimeError("ray::W.__init__() (pid=23508, ip=192.0.2.2)")) == 23508
    assert pid_of(RuntimeError("the cluster is gone")) == 0
