"""The only door to OpenVINO, an optional package: graphs built from its operations, compiled for the
CPU, called with tensors.

Nothing is converted: the converter reports its use over the network, operations and inference do
not. What is built here reads no file, runs no extension and opens no connection.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from openvino import Core, InferRequest
    from openvino import Node as Node

TELEMETRY = "openvino_telemetry"


def present() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


def version() -> str:
    """Its version; "" where it is not installed."""
    return importlib.metadata.version("openvino") if present() else ""


@functools.cache
def _package() -> ModuleType:
    """Imported as where `openvino_telemetry` is not installed: else to import it is reported to its
    makers, and a number for this person is written into the home folder."""
    telemetry = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino  # optional, and a second to import: only where it computes
    finally:
        del sys.modules[TELEMETRY]
        if telemetry is not None:
            sys.modules[TELEMETRY] = telemetry
    return openvino


@functools.cache
def _core() -> Core:
    """One for the life of the process. Its plugin for CPUs gives the thread that loads it a stack for
    signals of its own; of two plugins, the older one to go left a stack that is no more, and the next
    signal (Ctrl-C) ended the process with a segmentation fault."""
    return _package().Core()


def operations() -> ModuleType:
    """OpenVINO's operations, by name."""
    operations: ModuleType = _package().opset13
    return operations


@functools.cache
def multiplies_bytes() -> bool:
    """Whether this CPU has instructions for int8 products; without them int8 is slower than
    float32."""
    return "INT8" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def constant(value: Tensor | Sequence[int] | int | float) -> Node:
    """A constant: tensors and floats as float32, whole numbers as shapes or axes."""
    ops = operations()
    if isinstance(value, Tensor):
        return ops.constant(value.detach().float().contiguous().cpu().numpy())
    if isinstance(value, float):
        return ops.constant(np.float32(value))
    return ops.constant(np.array(value, np.int64))


def parameter(shape: Sequence[int], integers: bool = False) -> Node:
    """An input of a graph: float32, or whole numbers."""
    return operations().parameter(list(shape), np.int64 if integers else np.float32)


class Graph:
    """A compiled graph of fixed shapes. `threads` is what it computes with; the same bytes come out
    of any number."""

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node], threads: int) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # else the plugin takes bfloat16 where flags show it
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # every process would be pinned to the same cores
        }
        results = [operations().result(node) for node in outputs]
        model = _package().Model(results, list(inputs), "graph")
        self._compiled = _core().compile_model(model, "CPU", settings)

    def request(self) -> Caller:
        """Something that can be called, with inputs of its own."""
        return Caller(self._compiled.create_infer_request())


class Caller:
    """One caller of a graph: inputs stay bound until others are."""

    def __init__(self, request: InferRequest) -> None:
        self._request = request
        self._kept: dict[int, Tensor] = {}  # OpenVINO looks at their memory

    def bind(self, index: int, value: Tensor) -> None:
        """Let input `index` be this tensor's memory from now on."""
        value = value.detach().contiguous()
        self._kept[index] = value
        self._request.set_input_tensor(index, _package().Tensor(value.numpy(), shared_memory=True))

    def __call__(self) -> list[Tensor]:
        """Compute; returns copies of all outputs."""
        self._request.infer()
        return [torch.from_numpy(output.data.copy()) for output in self._request.output_tensors]
