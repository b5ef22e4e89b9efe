"""Who may come in: the check that every start makes, against a cluster that lets anybody in."""

import asyncio
import os
import subprocess
import sys

import psutil
import pytest

from actors.cluster import Cluster, head_said
from actors.head import PORT_OPTIONS, RunFolder, free_ports, head_command
from actors.layout import Layout
from tests.places import ROOT


@pytest.fixture
def open_head():
    """The address of a head that asks for no token, and our guardian, which keeps it and takes it
    away with its input's end."""
    run, ports = RunFolder(), free_ports(len(PORT_OPTIONS))
    folder = run.path
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    guardian = subprocess.Popen(
        [
            *(sys.executable, "-m", "actors.guardian", folder, ""),
            *head_command(folder, ports, Layout()),
        ],
        cwd=ROOT,
        env={**environment, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert guardian.stdin is not None and guardian.stdout is not None
    try:
        assert guardian.stdout.readline() == b"ready\n"
        yield f"127.0.0.1:{ports[0]}", guardian
    finally:
        guardian.stdin.close()
        guardian.wait(60)
        run.remove()


def test_a_stranger_let_in_is_found_out_and_a_raylet_that_ends_is_the_end_of_the_head(open_head):
    address, guardian = open_head
    assert not asyncio.run(Cluster(address, RunFolder(), None).refuses_strangers())
    # the same head, once more: Ray's own start command stays when its raylet was asked to end
    assert guardian.poll() is None
    tree = psutil.Process(guardian.pid).children(recursive=True)
    next(child for child in tree if child.name() == "raylet").terminate()
    assert guardian.wait(20) == 0, "so that the run makes a new cluster"


def test_a_cluster_that_does_not_answer_counts_as_unsafe(monkeypatch):
    for name in ("py_gcs_connect", "gcs_rpc_server_connect", "gcs_rpc_server_reconnect"):
        monkeypatch.setenv(f"RAY_{name}_timeout_s", "1")  # of Ray's own patience, half a minute
    (port,) = free_ports(1)
    assert not asyncio.run(Cluster(f"127.0.0.1:{port}", RunFolder(), None).refuses_strangers())


def test_a_head_that_does_not_start_is_heard_without_its_traceback():
    said = 'File "node.py", line 440, in __init__ raise Exception( Exception: it timed out.'
    assert head_said(said) == "it timed out." and head_said("") == "it said nothing"
