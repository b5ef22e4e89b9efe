"""The Gymnasium environment over a world with small random weights: checker, determinism, equality
with the stream."""

import copy
import gc
import warnings
import weakref

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra [gym] is not installed")
from gymnasium.utils.env_checker import check_env  # noqa: E402

from configs.errors import UserError  # noqa: E402
from models.controls import LABELS  # noqa: E402
from pipeline.clients.gym_env import DrivingEnv  # noqa: E402
from pipeline.video import read_video  # noqa: E402
from tests.tiny_checkpoint import HEIGHT, PROMPTS, WIDTH  # noqa: E402


@pytest.fixture
def env(model):
    env = DrivingEnv(model, render_mode="rgb_array")
    yield env
    env.close()


def drive(env, actions, **reset):
    frames = [env.reset(**reset)[1]["frames"]]
    return np.concatenate([*frames, *(env.step(action)[4]["frames"] for action in actions)])


def test_gymnasiums_own_checker_is_content(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(
            gymnasium.make(
                "TheMatrix/Drive-v0", model_path=model, render_mode="rgb_array"
            ).unwrapped
        )


def test_spaces_and_what_a_step_gives(env):
    assert env.action_space == gymnasium.spaces.Discrete(9) and env.observation_space.shape == (
        HEIGHT,
        WIDTH,
        3,
    )
    first, info = env.reset(seed=3, options={"prompt": PROMPTS[1]})
    assert (
        first.dtype == np.uint8
        and info["frames"].shape == (4, HEIGHT, WIDTH, 3)
        and info["prompt"] == PROMPTS[1]
    )
    for number, label in enumerate(LABELS):
        picture, reward, terminated, truncated, info = env.step(env.action(label))
        assert (reward, terminated, truncated, info["latent"], info["label"]) == (
            0.0,
            False,
            False,
            number,
            label,
        )
        assert np.array_equal(picture, info["frames"][-1]) and np.array_equal(env.render(), picture)
    assert env.reset()[1]["prompt"] == PROMPTS[1], "the prompt is kept"


def test_seed_prompt_and_actions_decide_everything(env):
    actions = [0, 1, 1, 2, 8, 3]
    first = drive(env, actions, seed=5)
    assert np.array_equal(drive(env, actions, seed=5), first)
    assert not np.array_equal(drive(env, actions, seed=6), first)
    assert not np.array_equal(drive(env, [0, 2, 2, 1, 8, 3], seed=5), first)
    assert not np.array_equal(drive(env, actions, seed=5, options={"prompt": PROMPTS[2]}), first)


def test_it_equals_the_stream_byte_for_byte(env):
    actions = [1, 1, 0, 2, 4]
    mine = drive(env, actions, seed=9, options={"prompt": PROMPTS[0]})[4:]
    world = env.parts.world()
    world.reset(9, PROMPTS[0], env.parts.checkpoint.start_latents(PROMPTS[0]))
    decoder = env.parts.decoder()
    streamed = [decoder.push(world.step([LABELS[action]]).latents) for action in actions]
    assert np.array_equal(mine, np.concatenate(streamed))


def test_a_moment_is_gone_back_to(env):
    drive(env, [0, 1, 1], seed=4, options={"prompt": PROMPTS[1]})
    moment = env.unwrapped.snapshot()
    seen = env.render()
    futures = []
    for actions in ([1, 1, 1, 1], [2, 2, 2, 2], [1, 1, 1, 1]):
        picture, info = env.unwrapped.restore(moment)
        assert np.array_equal(picture, seen) and np.array_equal(env.render(), seen)
        assert (info["latent"], info["label"], info["prompt"]) == (2, "DL", PROMPTS[1])
        futures.append(np.stack([env.step(action)[0] for action in actions]))
    assert np.array_equal(futures[0], futures[2]) and not np.array_equal(futures[0], futures[1])
    first = env.reset(seed=4)[0]
    start = env.unwrapped.snapshot()
    env.step(3)
    assert np.array_equal(env.unwrapped.restore(start)[0], first)


def test_a_copy_has_a_future_of_its_own(model):
    env = gymnasium.make("TheMatrix/Drive-v0", model_path=model, render_mode="rgb_array")
    env.reset(seed=4)
    env.step(1)
    other = copy.deepcopy(env)
    assert other.unwrapped.parts is env.unwrapped.parts
    mine = [env.step(action)[0] for action in (1, 2, 0)]
    turned = [other.step(action)[0] for action in (2, 2, 2)]
    assert not np.array_equal(mine, turned)
    fresh = gymnasium.make("TheMatrix/Drive-v0", model_path=model, render_mode="rgb_array")
    fresh.unwrapped.restore(env.unwrapped.snapshot())
    assert np.array_equal(fresh.unwrapped.step(1)[0], env.step(1)[0])
    for each in (env, other, fresh):
        each.close()


def test_several_share_one_set_of_weights_and_let_it_go(model):
    envs = gymnasium.make_vec(
        "TheMatrix/Drive-v0", num_envs=3, vectorization_mode="sync", model_path=model
    )
    pictures, _ = envs.reset(seed=[1, 2, 1])
    for _ in range(3):
        pictures = envs.step(np.array([1, 1, 1]))[0]
    assert np.array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])
    assert len({id(env.unwrapped.parts) for env in envs.envs}) == 1
    envs.close()
    held = weakref.ref(envs.envs[0].unwrapped.parts)
    del envs
    gc.collect()
    assert held() is None


def test_what_is_made_can_do_all_that_the_class_can(model):
    env = gymnasium.make("TheMatrix/Drive-v0", model_path=model)
    assert env.action("DL") == LABELS.index("DL")
    assert env.get_action_meanings() == list(LABELS)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.close()


def test_one_frame_a_step_shows_every_frame_of_the_same_drive(env, model):
    actions = [1, 2, 0]
    expected = drive(env, actions, seed=5)
    single = gymnasium.make(
        "TheMatrix/Drive-v0", model_path=model, render_mode="rgb_array", frames_per_step=1
    )
    assert single.metadata["render_fps"] == 16 and env.metadata["render_fps"] == 4
    single.reset(seed=5)
    steps = [single.step(action) for action in np.repeat(actions, 4)]
    assert np.array_equal(np.stack([picture for picture, *_ in steps]), expected[4:])
    assert all(len(info["frames"]) == 1 for *_, info in steps)
    single.step(1)
    assert np.array_equal(single.reset(seed=5)[0], expected[3])  # nothing of the last is shown
    assert np.array_equal(single.step(1)[0], expected[4])


def test_the_real_recorder_keeps_every_frame_at_16_a_second(model, tmp_path):
    pytest.importorskip("moviepy", reason="the extra [gym] is not installed")
    env = gymnasium.make(
        "TheMatrix/Drive-v0", model_path=model, render_mode="rgb_array", frames_per_step=1
    )
    recorder = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos"))
    shown = [recorder.reset(seed=3)[0], *(recorder.step(1)[0] for _ in range(8))]
    recorder.close()
    (file,) = (tmp_path / "videos").glob("*.mp4")
    frames, fps = read_video(file)
    assert fps == 16 and len(frames) == 9
    error = np.abs(frames.astype(int) - np.stack(shown)).mean()
    assert error < 20  # the codec's; another frame's is larger
    assert error < np.abs(frames[:-1].astype(int) - np.stack(shown[1:])).mean()


def test_a_person_can_look_on(model, monkeypatch):
    pytest.importorskip("pygame", reason="the extra [gym] is not installed")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make(
        "TheMatrix/Drive-v0", model_path=model, render_mode="human", frames_per_step=1
    )
    env.reset(seed=3)
    env.step(0)
    assert env.window is not None
    env.close()


def test_mistakes_are_one_line(env, model):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=1)
    for action in (9, -1, 1.5, "DL", None):
        with pytest.raises(UserError, match="action"):
            env.step(action)
    with pytest.raises(UserError, match="reset options"):
        env.reset(options={"promt": "x"})
    with pytest.raises(UserError, match="prompt"):
        env.reset(options={"prompt": ""})
    with pytest.raises(UserError, match="render_mode"):
        DrivingEnv(model, render_mode="human")
    with pytest.raises(UserError, match="frames_per_step: expected 1 or 4, got 3"):
        DrivingEnv(model, frames_per_step=3)
