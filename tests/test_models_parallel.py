"""The group's exchanges on real gloo ranks."""

import socket
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch

from configs.errors import UserError
from models.parallel import SequenceGroup
from tests.ranks import run_ranks


def test_a_group_of_one_hands_its_argument_back() -> None:
    group = SequenceGroup.single()
    x = torch.randn(2, 3)
    assert group.all_to_all(x, 0, 1) is x and group.all_gather(x, 1) is x
    assert group.all_reduce_sum(x) is x and group.broadcast(x) is x
    left, right = group.halo(x, 1)
    assert left.shape == right.shape == (2, 1) and not left.any() and not right.any()
    assert group.slice_bounds(7) == (0, 7)
    group.close()


def test_shares_cover_everything_and_differ_by_one() -> None:
    assert [SequenceGroup(rank, 4).slice_bounds(18) for rank in range(4)] == [
        (0, 5),
        (5, 10),
        (10, 14),
        (14, 18),
    ]
    assert SequenceGroup(1, 3).share_sizes(2) == [1, 1, 0]


def _exchanges(group: SequenceGroup) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        _exchange(group, dtype)


def _exchange(group: SequenceGroup, dtype: torch.dtype) -> None:
    """Every verb against what slicing one whole tensor gives."""
    whole = torch.arange(7 * 12, dtype=torch.float32).view(7, 12).to(dtype)
    start, stop = group.slice_bounds(7)
    mine = whole[start:stop]
    sizes = group.share_sizes(7)

    swapped = group.all_to_all(mine, 1, 0, gather_sizes=sizes)
    heads = 12 // group.size
    assert torch.equal(swapped, whole[:, group.rank * heads : (group.rank + 1) * heads])
    assert torch.equal(group.all_to_all(swapped, 0, 1, scatter_sizes=sizes), mine)

    assert torch.equal(group.all_gather(mine, 0), whole)
    assert torch.equal(group.all_gather(mine.t(), -1, sizes), whole.t())
    assert torch.equal(group.all_reduce_sum(whole), whole * group.size)
    assert torch.equal(group.broadcast(whole * (group.rank == 1), source=1), whole)

    left, right = group.halo(mine, 0)
    padded = torch.cat([whole.new_zeros(1, 12), whole, whole.new_zeros(1, 12)])
    assert torch.equal(left, padded[start : start + 1]) and torch.equal(
        right, padded[stop + 1 : stop + 2]
    )


@pytest.mark.parametrize("size", [2, 3, 4])
def test_exchanges_equal_slicing(size: int) -> None:
    run_ranks(size, _exchanges)


def _rejoin(group: SequenceGroup, folder: str) -> float:
    group.close()
    group.close()
    with pytest.raises(RuntimeError, match="closed"):
        group.all_reduce_sum(torch.ones(1))
    again = SequenceGroup.join(group.rank, group.size, init_method=f"file://{folder}/second")
    return float(again.all_reduce_sum(torch.ones(1)))


def test_a_closed_group_can_be_joined_anew(tmp_path: Path) -> None:
    assert run_ranks(2, _rejoin, str(tmp_path)) == [2.0, 2.0]


def _over_tcp(group: SequenceGroup, port: int) -> tuple[float, set[str]]:
    other = SequenceGroup.join(group.rank, group.size, init_method=f"tcp://127.0.0.1:{port}")
    total = float(other.all_reduce_sum(torch.ones(1)))
    sockets = psutil.Process().net_connections(kind="inet")
    listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    other.all_reduce_sum(torch.ones(1))  # nobody leaves before everybody has looked
    return total, listening


def test_ranks_meet_over_tcp_and_listen_on_loopback_only() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for total, listening in run_ranks(2, _over_tcp, port):
        assert total == 2.0 and listening == {"127.0.0.1"}
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(UserError, match="cannot listen there"),
    ):
        SequenceGroup.join(0, 2, init_method=f"tcp://127.0.0.1:{port}")


def _wait_for_a_silent_peer(group: SequenceGroup, folder: str) -> str:
    brief = SequenceGroup.join(
        group.rank, group.size, init_method=f"file://{folder}/third", timeout_seconds=1.0
    )
    message = ""
    if group.rank == 0:
        start = time.monotonic()
        with pytest.raises(RuntimeError) as error:
            brief.all_reduce_sum(torch.ones(1))
        assert time.monotonic() - start < 15
        message = str(error.value)
    group.all_reduce_sum(torch.ones(1))  # rank 1 sits here meanwhile
    return message


def test_a_silent_peer_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    assert run_ranks(2, _wait_for_a_silent_peer, str(tmp_path))[0]


@pytest.mark.parametrize(
    "method", ["", "env://", "file:///no/such/folder/x", "tcp://host", "tcp://:1"]
)
def test_a_bad_meeting_point_is_refused(method: str) -> None:
    with pytest.raises(UserError, match="init method"):
        SequenceGroup.join(0, 2, init_method=method)


def test_bad_rank_and_backend_are_refused() -> None:
    with pytest.raises(UserError, match="rank must be"):
        SequenceGroup.join(2, 2, init_method="file:///tmp/x")
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.raises(UserError, match="gloo, nccl or xfuser"),
    ):
        SequenceGroup.join(0, 2, init_method=f"file://{folder}/x", backend="mpi")
