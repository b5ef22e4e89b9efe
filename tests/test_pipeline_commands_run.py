"""``run`` as people run it: a real launcher, its page, signals at any moment, and nothing left
behind."""

import asyncio
import itertools
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from pipeline.clients.client import Frame, connect
from pipeline.clients.lobby import Lobby
from pipeline.video import decode_jpeg, encode_jpeg, read_video
from pipeline.web.messages import parse_replay
from tests.head import running_head
from tests.launcher import HANGS, Launcher, assert_nothing_left, measure_dit
from tests.stranger import SERVICES, answers, web_status
from tests.test_actors_session import ENGINE, directly
from tests.tiny_checkpoint import PROMPTS

# Ray's choice where grpcio is installed, the same for every cluster of a machine
RAY_CLIENT_PORT = 10001


@pytest.fixture(scope="module")
def neighbour():
    """Somebody else's cluster on this machine, which must not notice anything (running_head checks
    that)."""
    with running_head() as head:
        yield head


def get(url, token=None):
    request = urllib.request.Request(
        url, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def listeners(family):
    """(address, port) of every TCP socket that these processes listen on."""
    found = set()
    for process in family:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.add((connection.laddr.ip, connection.laddr.port))
    return found


def test_a_run_shows_its_page_at_once_plays_records_and_leaves_nothing(
    model, neighbour, temporary, tmp_path
):
    launch = Launcher(
        *("--port", "0", "--record", tmp_path / "drive.mp4"),
        *("--summary", tmp_path / "summary.json"),
        MODEL_PATH=str(model),
        MATRIX_TOKEN="a-token-that-was-chosen",
        RAY_ADDRESS=neighbour.address,
    )
    url = launch.wait_for(r"open (http://127\.0\.0\.1:\d+)/\?token=(\S+)")
    page, token = url.groups()
    assert token == "a-token-that-was-chosen"
    launch.wait_for(r"starting Ray")
    address, keys = launch.wait_for(r"Ray at (\S+), token in (\S+);").groups()
    assert get(f"{page}/healthz")[0] == 200 and get(f"{page}/readyz")[0] == 503
    launch.wait_for(r"first frame shown")
    assert get(f"{page}/readyz")[0] == 200
    assert 'matrix_state{state="playing",world="first"} 1.0' in get(f"{page}/metrics", token)[1]
    assert get(f"{page}/metrics")[0] in (401, 403)
    family = launch.family()
    names = " ".join(" ".join(process.cmdline()) for process in family if process.is_running())
    assert "DitWorker" in names and "VaeWorker" in names and "gcs_server" in names
    assert_workers_get_their_cores(family)
    assert_a_dit_group_of_its_own_fits_in(model, address, keys)
    assert get(f"{page}/readyz")[0] == 200
    assert_strangers_get_nothing(family, int(page.rsplit(":", 1)[1]), Path(keys).read_text())
    time.sleep(2)
    code, out = launch.end(signal.SIGINT)
    assert code == 130
    assert_nothing_left(family, temporary)
    frames, fps = read_video(tmp_path / "drive.mp4")
    log = (tmp_path / "drive.jsonl").read_text().splitlines()
    assert fps == 16 and len(frames) >= 24 and len(log) in (len(frames) // 4, len(frames) // 4 + 1)
    assert set(out.split()) == {str(tmp_path / "drive.mp4"), str(tmp_path / "summary.json")}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {
        *("frames", "seconds", "fps_generated", "fps_shown", "first_frame_seconds", "engine"),
        *("control_to_frame_ms", "step_ms", "decode_ms", "peak_rss_mb"),
        *("stalls", "late_slots", "restarts", "drops"),
    }
    assert summary["frames"] == len(frames) and summary["restarts"] == 0
    assert neighbour.keeper.is_running() and neighbour.folder.exists()


async def driven(url, labels, prompt):
    """Drive a world with each label in turn and change its prompt: the frames that came, and the
    drive."""
    async with await connect(url) as client:
        frames = aiter(client)
        seen = [await anext(frames)]
        for label in labels:
            client.hold(label)
            until = seen[-1].header.frame + 12
            while seen[-1].header.frame < until:
                seen.append(await anext(frames))
            if label == labels[0]:
                client.set_prompt(prompt)
        client.ask_take()
        return seen, parse_replay(await client.message("take"))


def assert_frames_of(model, seen, take):
    """Every frame that a client got is that of a world that runs alone, byte for byte before JPEG's
    loss, which is the same for both."""
    alone = directly(model, take.seed, take.labels, take.prompts)
    of_take = [frame for frame in seen if frame.header.frame < len(alone)]
    assert len(of_take) > 30 and len(set(take.labels)) > 2 and len(set(take.prompts)) == 2
    for frame in of_take:
        expected = decode_jpeg(encode_jpeg(alone[frame.header.frame], frame.header.quality))
        assert (frame.image == expected).all(), frame.header


async def two_worlds(url, model):
    """One launcher, two worlds: each has its own frames; one is flooded and ends, the other goes
    on."""
    lobby = Lobby(url)
    card = await lobby.new_world(PROMPTS[1], seed=9, name="Ann")
    (first, take), (other, other_take) = await asyncio.gather(
        driven(url, ("DL", "B", "DR"), PROMPTS[1]),
        driven(card.driver, ("DR", "DL", "N"), PROMPTS[0]),
    )
    assert (take.seed, other_take.seed) == (42, 9)
    assert_frames_of(model, first, take)
    assert_frames_of(model, other, other_take)
    async with await connect(url) as client, await connect(card.driver) as hostile:
        frames, seen = aiter(client), list[Frame]()
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            hostile.reset(len(seen))
            hostile.hold(("DL", "DR")[len(seen) % 2])
            hostile.set_prompt(PROMPTS[len(seen) % 3])
            seen.append(await anext(frames))
        await lobby.end(card.id)
        while time.monotonic() - begun < 4:
            seen.append(await anext(frames))
        gaps = [b.received - a.received for a, b in itertools.pairwise(seen)]
        assert max(gaps) < 2.0 and len({frame.header.epoch for frame in seen}) == 1
    assert [one.id for one in await lobby.worlds()] == ["first"]


def test_two_worlds_of_one_launcher_are_those_that_run_alone(model, neighbour, tmp_path):
    launch = Launcher(
        *("--port", "0", "--ray-address", neighbour.address, "--engine", ENGINE),
        *("--summary", tmp_path / "summary.json"),
        MODEL_PATH=str(model),
        **neighbour.environment,
    )
    url = launch.wait_for(r"open (http://127\.0\.0\.1:\d+/\?token=\S+)").group(1)
    launch.wait_for(r"first frame shown")
    try:
        asyncio.run(two_worlds(url, model))
    finally:
        code, _ = launch.end(signal.SIGINT)
    assert code == 130, launch.lines
    assert any("Ann: begins with seed 9" in line for line in launch.lines)
    worlds = json.loads((tmp_path / "summary.json").read_text())["worlds"]
    assert {world["name"]: world["restarts"] for world in worlds} == {
        "the first world": 0,
        "Ann": 0,
    }


def assert_workers_get_their_cores(family):
    """Ray would lower their priority by 15, and threads that wait for their peers would burn the
    core of those."""
    # one that ended meanwhile has no words
    workers = [process for process in family if "Worker" in "".join(process.cmdline()[:1])]
    assert {process.nice() for process in workers} == {family[0].nice()}
    assert {process.environ()["OMP_WAIT_POLICY"] for process in workers} == {"PASSIVE"}


def assert_a_dit_group_of_its_own_fits_in(model, address, keys):
    """``start_dit.sh`` within the cluster of a running session, which goes on."""
    measure_dit(
        *("1", model, "--ray-address", address, "--duration", "2.5"),
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=keys,
    )


def assert_strangers_get_nothing(family, page_port, token):
    """Every socket that our processes listen on turns a connection without token away.

    The same calls with the token are answered, by each kind of process: so it is the token that
    they were refused for."""
    sockets = {(address, port) for address, port in listeners(family) if port != page_port}
    assert RAY_CLIENT_PORT not in {port for _, port in sockets}
    with_token: dict[str, str] = {}
    web: dict[int | None, int] = {}
    for address, port in sockets:
        host = "127.0.0.1" if address in ("::", "0.0.0.0") else address.removeprefix("::ffff:")
        refused = answers(host, port)
        assert set(refused.values()) <= {"UNAUTHENTICATED"}, (address, port, refused)
        answered = answers(host, port, token)
        assert answered.keys() == refused.keys()
        with_token |= answered
        assert web_status(host, port) in (None, 401, 403), (address, port)
        web[web_status(host, port, token)] = port
        with socket.create_connection((host, port), timeout=5) as stranger:
            stranger.settimeout(3)
            stranger.sendall(
                b"GET /get_or_create_runtime_env HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            try:
                answer = stranger.recv(4096)
            except (TimeoutError, ConnectionError):
                continue
            assert not answer.startswith(b"HTTP/1.1 2"), (address, port, answer[:200])
    # grpcio is installed here, and still no server for remote drivers is there
    assert with_token.keys() == SERVICES.keys() - {"client server"}, with_token
    assert "UNAUTHENTICATED" not in with_token.values(), with_token
    assert {with_token[name] for name in ("head", "head's store", "jobs", "node", "objects")} == {
        "OK"
    }
    assert web.keys() - {None, 401, 403}, "the agent answers nobody at all"


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [
        ("open http", 0.0),
        pytest.param("starting Ray", 0.0, marks=pytest.mark.soak),
        ("starting Ray", 0.05),
        pytest.param("starting Ray", 0.5, marks=pytest.mark.soak),
        ("loading", 0.5),
    ],
)
def test_sigterm_while_starting_leaves_nothing(stage, seconds, model, temporary):
    launch = Launcher("--port", "0", MODEL_PATH=str(model))
    launch.wait_for(stage)
    time.sleep(seconds)
    family = launch.family()
    assert launch.end(signal.SIGTERM)[0] == 143
    assert_nothing_left(family, temporary)


def test_a_launcher_killed_while_it_starts_takes_everything_with_it(model, temporary):
    launch = Launcher("--headless", MODEL_PATH=str(model))
    launch.wait_for(r"starting Ray")
    time.sleep(1.0)
    family = launch.family()
    assert launch.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert_nothing_left(family, temporary)
    assert not [line for line in launch.lines if "Traceback" in line or "Error" in line]


def test_a_killed_launcher_takes_everything_with_it(model, temporary, tmp_path):
    """With two ranks and two shards, which the variables ask for, and its lines as JSON."""
    workers = {"NUM_GPUS_DIT": "2", "NUM_GPUS_VAE": "2"}
    launch = Launcher(
        "--headless",
        "--record",
        tmp_path / "drive.mp4",
        "--json-logs",
        MODEL_PATH=str(model),
        **workers,
    )
    launch.wait_for(r"first frame shown")
    time.sleep(2.5)
    family = launch.family()
    names = [process.cmdline()[0] for process in family]
    assert [sum(name in title for title in names) for name in ("DitWorker", "VaeWorker")] == [2, 2]
    assert launch.end(signal.SIGKILL)[0] == -signal.SIGKILL
    said = [json.loads(line) for line in launch.lines]
    assert "devices: DiT 2 + VAE 2 CPU workers" in [line["message"] for line in said]
    assert all({"time", "event", "message"} <= set(line) for line in said)
    assert_nothing_left(family, temporary)
    assert len(read_video(tmp_path / "drive.mp4")[0]) >= 16


def test_a_killed_head_is_replaced_and_nothing_of_either_is_left(model, temporary):
    launch = Launcher("--headless", MODEL_PATH=str(model))
    launch.wait_for(r"first frame shown")
    family = launch.family()
    next(process for process in family if "gcs_server" in " ".join(process.cmdline())).kill()
    launch.wait_for(r"the Ray head of this run ended")
    launch.wait_for(r"the world goes on after")
    family += launch.family()
    launch.process.send_signal(signal.SIGTERM)
    assert launch.process.wait(HANGS) == 128 + signal.SIGTERM
    assert_nothing_left(family, temporary)


def test_a_replayed_log_makes_the_same_video(model, tmp_path):
    def run(name, *arguments):
        Launcher(
            "--headless", "--record", tmp_path / f"{name}.mp4", *arguments, MODEL_PATH=str(model)
        ).process.wait(HANGS)
        return (tmp_path / f"{name}.mp4").read_bytes()

    first = run(
        "first", "--controls", "D*4,DL*3,DR*2", "--seed", "5", "--prompt", "a car in green hills"
    )
    with (tmp_path / "first.jsonl").open("a") as log:
        log.write('{"index": 9, "label": "D", "pro')  # a torn last line
    assert run("again", "--replay", tmp_path / "first.jsonl") == first
