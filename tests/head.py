"""A Ray cluster for tests, in a process of its own: ``python -m tests.head NODES`` prints one JSON
line and ends with its input. Ray fixes how to authenticate when it is imported, so a process can
never use two clusters."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from actors.cluster import Cluster
from actors.groups import ATTEMPTS
from actors.head import RunFolder, secrets_of, worker_environment, write_token
from actors.layout import Layout


@dataclass(frozen=True)
class RunningHead:
    """Where it listens, its folder, the variables that let a process in, and the process that keeps
    it."""

    address: str
    folder: Path
    environment: dict[str, str]
    keeper: psutil.Process


@contextmanager
def running_head(nodes: int = 1) -> Iterator[RunningHead]:
    """A cluster with room for six workers on one node, or one and five on two. Afterwards nothing
    of it is left."""
    command = [sys.executable, "-m", "tests.head", str(nodes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    said = json.loads(process.stdout.readline())
    head = RunningHead(
        said["address"], Path(said["folder"]), said["environment"], psutil.Process(said["keeper"])
    )
    family = head.keeper.children(recursive=True)
    daemons = [member for member in family if member.name() in ("gcs_server", "raylet")]
    try:
        yield head
        assert (
            head.keeper.is_running() and daemons and all(member.is_running() for member in daemons)
        )
    finally:
        process.stdin.close()
        process.wait(60)
    psutil.wait_procs(family, timeout=10)
    assert not head.keeper.is_running() and not head.folder.exists()


def say(address: str, folder: Path, keeper: int) -> None:
    said = {
        "address": address,
        "folder": str(folder),
        "environment": secrets_of(folder),
        "keeper": keeper,
    }
    print(json.dumps(said), flush=True)


async def started() -> Cluster:
    """A cluster, after as many attempts as a run makes on a busy machine."""
    for _ in range(ATTEMPTS - 1):
        with suppress(RuntimeError):
            return await Cluster.start(Layout(2, 2))
    return await Cluster.start(Layout(2, 2))


async def one_node() -> None:
    cluster = await started()
    assert cluster._guardian is not None and await cluster.refuses_strangers()
    say(cluster.address, cluster.folder, cluster._guardian.pid)
    await asyncio.to_thread(sys.stdin.read)
    await cluster.close()


def two_nodes() -> None:
    run = RunFolder()
    folder = run.path
    write_token(folder)
    os.environ |= secrets_of(folder) | worker_environment(Layout())
    # it notes the cluster's address there, not where other clusters look
    os.environ["RAY_TMPDIR"] = str(folder)
    # Ray fixes how to authenticate when it is imported
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(
        initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": str(folder / "ray")}
    )
    nodes.add_node(num_cpus=5)
    say(nodes.address, folder, os.getpid())
    sys.stdin.read()
    nodes.shutdown()
    run.remove()


if __name__ == "__main__":
    if sys.argv[1] == "1":
        asyncio.run(one_node())
    else:
        two_nodes()
