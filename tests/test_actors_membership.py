"""What a worker may import: our packages, whatever lies in the launcher's current folder."""

import subprocess
import sys

from tests.places import ROOT

# Ray extends the search path by the current folder, then serialises it. In a process of its own:
# importing Ray fixes how this one would authenticate.
PROGRAM = """
from ray.core.generated.common_pb2 import JobConfig
from actors.membership import OwnPackagesOnly
config = OwnPackagesOnly()
config._serialize()
config._py_driver_sys_path.extend(["/home/somebody", "."])
print(list(JobConfig.FromString(config._serialize()).py_driver_sys_path))
"""


def test_workers_look_for_packages_here_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == str([str(ROOT)])
