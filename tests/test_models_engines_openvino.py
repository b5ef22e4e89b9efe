"""The door to OpenVINO: graphs compute what they say, keep what is bound, call nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.engines.openvino import (
    Graph,
    constant,
    multiplies_bytes,
    operations,
    parameter,
    present,
    version,
)
from tests.places import ROOT

pytest.importorskip("openvino")
CALLS_NOBODY = """
import socket, sys
import torch  # its CUDA build asks the system for libraries when it is imported

def listen(event, arguments):
    if event == "socket.getaddrinfo":
        raise SystemExit(f"asked for the address of {arguments[0]}")
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        raise SystemExit(f"connected to {arguments[1]}")
    if event == "subprocess.Popen":
        raise SystemExit(f"started {arguments[0]}")

sys.addaudithook(listen)
from models.engines.decoder import GraphDecoder, convolutions
from models.tae import TinyVAE, TinyVAEConfig

config = TinyVAEConfig((4, 4, 4, 4), (8, 8, 4, 4), latent_channels=4)
decoder = GraphDecoder(TinyVAE(config), dict.fromkeys(convolutions(), 1.0))
print(decoder.stream().push(torch.zeros(2, 4, 2, 2)).shape)
"""
INTERRUPTED = """
import os, signal
from models.engines.openvino import Graph, constant, operations, parameter

def graph():
    value = parameter((3,))
    return Graph([value], [operations().add(value, constant(1.0))], 1)

graphs = [graph(), graph()]
del graphs[0], graphs[0]  # the older one first
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_a_graph_computes_in_float32_with_what_is_bound() -> None:
    left, right = parameter((1, 64)), parameter((64, 64))
    graph = Graph([left, right], [operations().matmul(left, right, False, False)], 1)
    values, matrix = torch.randn(1, 64), torch.randn(64, 64)
    one, other = graph.request(), graph.request()
    one.bind(1, matrix)
    other.bind(1, 2 * matrix)
    for factor in (1.0, 3.0):
        for request in (one, other):
            request.bind(0, factor * values)
        # Products of bfloat16, which the plugin takes by itself on some CPUs, are 1e-2 away.
        assert torch.allclose(one()[0], factor * values @ matrix, atol=1e-4)
        assert torch.allclose(other()[0], 2 * factor * values @ matrix, atol=1e-4)


def test_results_are_copies() -> None:
    value = parameter((3,))
    request = Graph([value], [operations().add(value, constant(1.0))], 1).request()
    request.bind(0, torch.zeros(3))
    first = request()[0]
    request.bind(0, torch.ones(3))
    request()
    assert first.tolist() == [1, 1, 1]


def test_the_package_is_found_without_being_imported() -> None:
    code = "import sys; from models.engines.openvino import present, version; "
    code += "print(present(), version(), 'openvino' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert made.stdout.split() == [str(present()), version(), "False"], made.stderr


def test_int8_needs_instructions_for_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if flags & {"avx512_vnni", "avx_vnni"}:
        assert multiplies_bytes()


def test_signals_are_heard_when_graphs_have_gone() -> None:
    """OpenVINO gives the thread that loads its plugin a stack for signals and takes it back in the
    order that suits it: the next signal of Python's found none, which ended the process."""
    made = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True
    )
    assert (made.stdout.split(), made.returncode) == (["heard"], 0), made.stderr


def test_nobody_is_called(tmp_path: Path) -> None:
    """The package reports that it is imported and used; here it must not, nor leave a number of
    this person in the home folder."""
    made = subprocess.run(
        [sys.executable, "-c", CALLS_NOBODY],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert made.stdout.strip() == "(8, 16, 16, 3)", made.stdout + made.stderr
    assert not (tmp_path / "intel").exists()
