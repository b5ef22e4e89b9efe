"""``run`` as people run it: a real launcher, its page, signals at any moment, and nothing left
behind."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from actors.layout import Layout, visible_gpus
from configs.errors import UserError
from pipeline.__main__ import main
from pipeline.clients.client import Frame, connect
from pipeline.clients.lobby import Lobby
from pipeline.video import decode_jpeg, encode_jpeg, read_video
from pipeline.web.messages import parse_replay
from tests.head import running_head
from tests.stranger import SERVICES, answers, web_status
from tests.test_actors_session import ENGINE, directly
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
HANGS = 300.0  # seconds; everything here takes a few on an idle machine
GONE_SECONDS = 10.0
RAY_CLIENT_PORT = (
    10001  # Ray's choice where grpcio is installed, the same for every cluster of a machine
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4")


@pytest.fixture(scope="module")
def neighbour():
    """Somebody else's cluster on this machine, which must not notice anything (running_head checks
    that)."""
    with running_head() as head:
        yield head


@pytest.fixture
def temporary(monkeypatch):
    """An empty place for temporary files, with a path short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


class Launch:
    """A launcher whose lines on stderr are read as they come."""

    def __init__(self, *arguments, **environment) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{plain['PATH']}"
        self.process = subprocess.Popen(
            ["bash", ROOT / "run_interactive.sh", *map(str, arguments)],
            env={**plain, "PATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_for(self, pattern):
        """Read until a line matches; returns the match."""
        for line in self.process.stderr or ():
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")

    def family(self):
        """The launcher and everything below it."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def end(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=HANGS)
        self.lines += err.splitlines(keepends=True)
        return self.process.returncode, out


def assert_nothing_left(family, temporary):
    """No process, no folder, and so no port: within ten seconds."""
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not list(temporary.glob("matrix-*"))


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
    launch = Launch(
        *(
            "--port",
            "0",
            "--record",
            tmp_path / "drive.mp4",
            "--summary",
            tmp_path / "summary.json",
        ),
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
        *(
            "frames",
            "seconds",
            "fps_generated",
            "fps_shown",
            "control_to_frame_ms",
            "step_ms",
            "decode_ms",
        ),
        *(
            "first_frame_seconds",
            "stalls",
            "late_slots",
            "restarts",
            "drops",
            "peak_rss_mb",
            "engine",
        ),
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
        assert max(gaps) < 2.0 and {frame.header.epoch for frame in seen} == {0}
    assert [one.id for one in await lobby.worlds()] == ["first"]


def test_two_worlds_of_one_launcher_are_those_that_run_alone(model, neighbour, tmp_path):
    launch = Launch(
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
    done = subprocess.run(
        ["bash", ROOT / "start_dit.sh", "1", model, "--ray-address", address, "--duration", "1"],
        env=os.environ
        | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": keys}
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and re.search(
        r"[\d.]+ latents/s, step p50 [\d.]+ ms", done.stderr
    ), done.stderr


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
    assert with_token.keys() == SERVICES.keys() and "UNAUTHENTICATED" not in with_token.values(), (
        with_token
    )
    assert {with_token[name] for name in ("head", "head's store", "jobs", "node", "objects")} == {
        "OK"
    }
    assert web.keys() - {None, 401, 403}, "the agent answers nobody at all"


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [
        ("open http", 0.0),
        ("starting Ray", 0.0),
        ("starting Ray", 0.05),
        ("starting Ray", 0.5),
        ("loading", 0.5),
    ],
)
def test_sigterm_while_starting_leaves_nothing(stage, seconds, model, temporary):
    launch = Launch("--port", "0", MODEL_PATH=str(model))
    launch.wait_for(stage)
    time.sleep(seconds)
    family = launch.family()
    assert launch.end(signal.SIGTERM)[0] == 143
    assert_nothing_left(family, temporary)


def test_a_launcher_killed_while_it_starts_takes_everything_with_it(model, temporary):
    launch = Launch("--headless", MODEL_PATH=str(model))
    launch.wait_for(r"starting Ray")
    time.sleep(1.0)
    family = launch.family()
    assert launch.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert_nothing_left(family, temporary)
    assert not [line for line in launch.lines if "Traceback" in line or "Error" in line]


def test_a_killed_launcher_takes_everything_with_it(model, temporary, tmp_path):
    """With two ranks and two shards, which the variables ask for, and its lines as JSON."""
    workers = {"NUM_GPUS_DIT": "2", "NUM_GPUS_VAE": "2"}
    launch = Launch(
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
    launch = Launch("--headless", MODEL_PATH=str(model))
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
        Launch(
            "--headless", "--record", tmp_path / f"{name}.mp4", *arguments, MODEL_PATH=str(model)
        ).process.wait(HANGS)
        return (tmp_path / f"{name}.mp4").read_bytes()

    first = run(
        "first", "--controls", "D*4,DL*3,DR*2", "--seed", "5", "--prompt", "a car in green hills"
    )
    with (tmp_path / "first.jsonl").open("a") as log:
        log.write('{"index": 9, "label": "D", "pro')  # a torn last line
    assert run("again", "--replay", tmp_path / "first.jsonl") == first


GOOD = ["--headless", "--duration", "1"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--controls", "D,UP"], {}, "'UP'"),
        (["--controls", "D,,D"], {}, "item 2 is empty"),
        (["--controls", "D,"], {}, "item 2 is empty"),
        (["--seed", "-1"], {}, "seed"),
        (["--seed", "2.5"], {}, "--seed"),
        (["--duration", "nan"], {}, "duration"),
        (["--port", "70000"], {}, "port"),
        (["--prompt", " "], {}, "prompt"),
        (["--record", "/nonexistent/drive.mp4"], {}, "/nonexistent"),
        (["--summary", "."], {}, "--summary"),
        (["--replay", "/nonexistent.jsonl"], {}, "replay"),
        (["--ray-address", "auto"], {}, "HOST:PORT"),
        (["--vae", "big", "x"], {}, "vae"),
        (["--durration", "1"], {}, "'--duration'"),
        ([], {"NUM_GPUS_DIT": "abc"}, "NUM_GPUS_DIT"),
        ([], {"NUM_GPUS_DIT": "0"}, "num_gpus_dit"),
        ([], {"NUM_GPUS_DIT": "3"}, "possible numbers are 1, 2, 4"),
        ([], {"NUM_GPUS_VAE": "08"}, "NUM_GPUS_VAE"),
        ([], {"NUM_GPUS_VAE": "7"}, "6 latent columns"),
        ([], {"MODEL_PATH": "/nonexistent"}, "/nonexistent"),
        ([], {"CUDA_VISIBLE_DEVICES": "zero"}, "CUDA_VISIBLE_DEVICES"),
        ([], {"CUDA_VISIBLE_DEVICES": "0,97"}, "of these GPUs can be used here"),
        ([], {"MATRIX_TOKEN": "short"}, "MATRIX_TOKEN"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(
    arguments, environment, said, model, monkeypatch, capsys
):
    for name, value in {"MODEL_PATH": str(model), **environment}.items():
        monkeypatch.setenv(name, value)
    children = psutil.Process().children(recursive=True)
    assert main(["run", *GOOD, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert len(psutil.Process().children(recursive=True)) == len(children)


def broken(folder, name, content):
    """Put ``content`` (None: half of what is there) in the place of a file."""
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: broken(folder, WEIGHTS, None), "truncated: expected"),
        (lambda folder: broken(folder, WEIGHTS, LFS), "Git-LFS pointer"),
        (lambda folder: broken(folder, WEIGHTS, b""), "the file is empty"),
        (
            lambda folder: broken(folder, "vae/diffusion_pytorch_model.safetensors", None),
            "truncated: expected",
        ),
        (lambda folder: broken(folder, "text_encoder/model.safetensors", LFS), "Git-LFS pointer"),
        (
            lambda folder: broken(folder, "tokenizer/spiece.model", b"no model"),
            "not a SentencePiece model",
        ),
        (
            lambda folder: (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin")),
            "never opened",
        ),
        (lambda folder: other_shapes(folder), "missing"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae missing"),
    ],
    ids=[
        "truncated",
        "pointer",
        "empty",
        "decoder",
        "text",
        "tokenizer",
        "pickled",
        "shapes",
        "part",
    ],
)
def test_broken_weights_are_one_line_before_anything_starts(
    damage, said, model, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "weights"
    shutil.copytree(model, folder)
    damage(folder)
    monkeypatch.setenv("MODEL_PATH", str(folder))
    before = set(psutil.Process().children(recursive=True))
    assert main(["run", *GOOD, "--record", str(tmp_path / "drive.mp4")]) == 2
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.startswith("error: ")
        and err.count("\n") == 1
        and said in err
        and str(folder) in err
    )
    assert (
        set(psutil.Process().children(recursive=True)) <= before
        and not (tmp_path / "drive.mp4").exists()
    )


def other_shapes(folder):
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "num_layers": config["num_layers"] + 1}))


def test_a_port_in_use_is_told_and_nothing_is_written(model, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MODEL_PATH", str(model))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ["--port", str(taken.getsockname()[1]), "--record", str(tmp_path / "drive.mp4")]
        assert main(["run", *arguments]) == 2
    assert "in use" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["abc", "0", "-2", "1.5", "08", "", "a[$(touch PWNED)]"])
def test_the_launchers_never_compute_with_what_is_no_number(number, tmp_path):
    for command in (["run_interactive.sh"], ["start_dit.sh", number, "."]):
        done = subprocess.run(
            ["bash", ROOT / command[0], *command[1:]],
            env={"PATH": "/usr/bin:/bin", "NUM_GPUS_DIT": number},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (
            done.returncode == 2 and done.stderr.count("\n") == 1 and "NUM_GPUS_DIT" in done.stderr
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wanted", "pool", "expected"),
    [
        ((None, None), (), Layout(1, 1)),
        ((2, 2), (), Layout(2, 2)),
        ((None, None), ("3",), Layout(1, 1, 1, ("3",))),
        ((None, None), ("0", "1", "2"), Layout(1, 2, 3, ("0", "1", "2"))),
        ((None, None), tuple("01234567"), Layout(1, 3, 4, tuple("0123"))),
        ((5, 3), tuple("01234567"), Layout(5, 3, 8, tuple("01234567"))),
        ((4, 0), tuple("01234567"), Layout(4, 0, 4, tuple("0123"))),
    ],
)
def test_workers_fit_the_machine(wanted, pool, expected):
    dit, vae = wanted
    assert Layout.plan(dit, vae, pool) == expected


def test_more_workers_than_gpus_are_refused():
    with pytest.raises(UserError, match="need 4 GPUs, 2 are visible"):
        Layout.plan(1, 3, ("0", "1"))
    assert visible_gpus(()) == ()


def test_gpus_that_are_not_there_are_refused():
    with pytest.raises(
        UserError, match="CUDA_VISIBLE_DEVICES=0,97,98: . of these GPUs can be used here"
    ):
        visible_gpus(("0", "97", "98"))


def test_the_dit_group_alone_prints_its_speed(model):
    launch = subprocess.Popen(
        ["bash", ROOT / "start_dit.sh", "2", model],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(
        re.search(r"[\d.]+ latents/s, step p50 [\d.]+ ms", line) for line in launch.stderr or ()
    )
    family = psutil.Process(launch.pid).children(recursive=True)
    assert sum("DitWorker" in " ".join(process.cmdline()) for process in family) == 2
    launch.send_signal(signal.SIGINT)
    assert launch.wait(HANGS) == 130
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """A current folder that has packages of our packages' names, and is on the path too."""
    folder = tmp_path / "crowded"
    for name in ("configs", "models", "actors", "pipeline", "training"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_death_is_told_with_its_cause_and_the_logs_are_kept(model, temporary, tmp_path, crowded):
    """A worker that crashes: the first line of why in the terminal. A killed launcher: the logs of
    everybody are there all the same. All this among packages of somebody else's."""
    kept = tmp_path / "logs"
    launch = Launch(
        *("--headless", "--duration", "600", "--keep-logs", kept, "--log-level", "info"),
        MODEL_PATH=str(model),
        CUDA_VISIBLE_DEVICES="",
    )
    launch.wait_for("first frame shown")
    family = launch.family()
    worker = next(process for process in family if "DitWorker" in process.cmdline()[0])
    worker.send_signal(signal.SIGSEGV)
    told = launch.wait_for("a worker process died")
    assert "(Fatal Python error: Segmentation fault" in told.string
    launch.wait_for("the world goes on after")
    family = launch.family()
    launch.end(signal.SIGKILL)
    assert_nothing_left(family, temporary)
    log = (kept / "launcher.log").read_text()
    assert "actors.repair: what broke, in full\nTraceback" in log and "settings: RunConfig(" in log
    (head,) = kept.glob("matrix-*")
    assert "Ray runtime started" in (head / "head.log").read_text()
    said = [path.read_text() for path in head.glob(f"ray/worker-*-{worker.pid}.err")]
    assert len(said) == 1 and "Fatal Python error: Segmentation fault" in said[0]
    secrets = [path for path in kept.rglob("*") if path.is_file() and path.name == "token"]
    assert not secrets


def test_logs_are_kept_in_a_folder_of_their_own(model, tmp_path):
    (tmp_path / "mine.txt").touch()
    launch = Launch("--headless", "--keep-logs", tmp_path, MODEL_PATH=str(model))
    _, err = launch.process.communicate(timeout=HANGS)
    assert launch.process.returncode == 2 and err.count("\n") == 1
    assert f"--keep-logs {tmp_path}: expected a new or an empty folder" in err
