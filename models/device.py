"""The one place that picks devices, number formats, thread counts and the kernels that suit a
device."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from configs.errors import UserError

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".

    Raises UserError when the device does not exist on this machine.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if present else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not (number.isascii() and number.isdecimal())):
        raise UserError(f"device {name[:40]!a}: expected auto, cpu, cuda or cuda:N")
    index = int(number or 0)
    if index >= present:
        raise UserError(
            f"device {name}: this machine has {present} CUDA devices; use cpu or an index below that"
        )
    return torch.device("cuda", index)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number format called `name`; "auto" is bfloat16 on CUDA and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {str(name)[:40]!a}: expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices faster than float32 ones: CUDA, a CPU with AMX
    or AVX512-BF16."""
    return (
        device.type == "cuda"
        or torch.cpu._is_amx_tile_supported()
        or torch.cpu._is_avx512_bf16_supported()
    )


def cores() -> int:
    """CPU cores of this process."""
    return len(os.sched_getaffinity(0))


def cores_of_each(workers: int) -> int:
    """Cores of each of so many workers that compute at the same time; at least one."""
    return max(1, cores() // workers)


def host_memory() -> int:
    """Bytes of this machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processor() -> str:
    """What this machine computes with: the CPU's name and flags, and how many cores are ours."""
    return f"{_cpu_lines()} {cores()}"


def processor_name() -> str:
    """What people call the CPU; "" where nothing says."""
    return _cpu_told("model name")


def processor_flags() -> Sequence[str]:
    """The instructions that the CPU has, as Linux calls them."""
    return _cpu_told("flags").split()


def _cpu_told(what: str) -> str:
    lines = (line.partition(":") for line in _cpu_lines())
    return next((value.strip() for key, _, value in lines if key.startswith(what)), "")


def _cpu_lines() -> list[str]:
    """Name and flags of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return [line for line in lines if line.startswith(("model name", "flags"))][:2]


def pick_decoder_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return what a tiny decoder computes in: "auto" is bfloat16 wherever that is faster, also on a
    CPU.

    On a CPU with AMX units that takes a third of the time, with AVX512-BF16 half of it. Frames have
    eight bits and nothing is fed back from them; the transformer, whose output is its next input,
    stays in float32 there."""
    return torch.bfloat16 if name == "auto" and has_bfloat16(device) else pick_dtype(name, device)


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Within the block, matrices are multiplied in bfloat16 where that is faster; weights keep
    theirs. For training.

    That is any CUDA device, and a CPU with bfloat16 units: with AMX an autoencoder step takes a
    third of the time, where such units are missing ten times as long. Attention is then spelled out
    on a CPU: PyTorch's fused bfloat16 kernel takes three times as long backwards as plain matrix
    products do.
    """
    fast = has_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        if device.type == "cuda" or not fast:
            yield
            return
        before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


@dataclass(frozen=True)
class Paths:
    """Which fast paths a model takes; none by default, since none has been seen on a device.

    fused: q, k and v in one product. float8: linear maps in 8-bit floats. compiled: blocks through
    torch.compile. graph: the call captured once and replayed. channels_last: the full decoder's
    maps in that order, its cache allocated once. attention: the backend's name, auto lets PyTorch
    choose. docs/gpu.md says of each what was seen.
    """

    fused: bool = False
    float8: bool = False
    compiled: bool = False
    graph: bool = False
    channels_last: bool = False
    attention: str = "auto"

    @staticmethod
    def parse(text: str) -> "Paths":
        """From names joined by commas, such as "fused,graph,cudnn"; "plain" is none of them."""
        names = [name for name in text.split(",") if name and name != "plain"]
        switches = [field.name for field in fields(Paths) if field.name != "attention"]
        backends = [name for name in names if name in BACKENDS]
        for name in names:
            if name not in switches and name not in BACKENDS:
                expected = ", ".join(("plain", *switches, *BACKENDS))
                raise UserError(f"path {name[:40]!a}: expected some of {expected}")
        if len(backends) > 1:
            raise UserError(f"paths {text[:80]!a}: one attention backend at most")
        chosen = {name: True for name in names if name in switches}
        return Paths(**chosen, attention=backends[0] if backends else "auto")


def has_float8(device: torch.device) -> bool:
    """Whether a device multiplies matrices of 8-bit floats (compute capability 8.9 and later)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


@contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Within the block, scaled-dot-product attention runs on this backend alone; "auto" lets
    PyTorch choose. RuntimeError where a device does not have it."""
    if name == "auto":
        yield
        return
    with sdpa_kernel(BACKENDS[name]):
        yield


def capture(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what repeats `work`, which reads and writes the same tensors every time. On CUDA that
    is a graph: captured once, after three runs on a stream of its own, then replayed without the
    host. Elsewhere it is `work` itself."""
    if device.type != "cuda":
        return work
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Lane:
    """A queue of work beside the device's main one; on a CPU, work is done where it is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def follow(self) -> None:
        """What is put on this lane from now on waits for what the main queue holds now, and for
        nothing that comes later there."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work within the block goes on this lane."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Wait until this lane has done everything."""
        if self._stream is not None:
            self._stream.synchronize()


def peak_device_memory(device: torch.device) -> int:
    """Bytes allocated on a CUDA device at most since the last call; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def device_name(device: torch.device) -> str:
    """What people call a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def use_threads(count: int | None = None) -> int:
    """Bind torch to `count` CPU threads (all cores of this process when None) and return the
    number.

    One thread per rank keeps results byte-identical from run to run, whatever the machine's core
    count."""
    number = count or cores()
    torch.set_num_threads(number)
    return number


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, torch computes with `count` CPU threads; the caller's number is kept."""
    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        use_threads(before)


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` is done (timing needs it); a CPU has nothing to wait
    for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tanh_gelu(x: Tensor) -> Tensor:
    """Return GELU in its tanh form, x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).

    PyTorch's CPU kernel computes that tanh slowly; without gradients the equal x sigmoid(2 u) takes
    half the time."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    twice = 2 * math.sqrt(2 / math.pi)
    return (x * x).mul_(0.044715 * twice).add_(twice).mul_(x).sigmoid_().mul_(x)


def gpu_names() -> list[str]:
    """What the visible GPUs are called."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
