"""What a run says of itself: its first line, the time it takes, and the hook at evaluations."""

import types

import commands
import pytest

import flp_tf
from flp_tf.meta.lengths import Lengths
from flp_tf.meta.options import OuterLoop
from flp_tf.runs.interruption import Stopped
from flp_tf.runs.progress import Pace, description, duration
from flp_tf.tasks import Sine, Task

pytestmark = pytest.mark.slow


def trainer_of(config, apply_seconds=0.0):
    """Returns what progress sees of a trainer."""
    outer = config.options("outer")
    lengths = Lengths(config.make_task(), outer, outer.episodes // outer.meta_batch, config.seed)
    return types.SimpleNamespace(lengths=lengths, ahead=lengths.ahead, apply_seconds=apply_seconds, outer=outer)


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3500, "58 min"),
        (3590, "1 h 0 min"),
        (19800, "5 h 30 min"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_pace_predicts_phases_that_were_not_measured():
    """With steps of 0.1 s + 1 ms per inner step, of which 0.1 s are the optimizers'."""
    config = flp_tf.configure(task="sine", episodes=100, curriculum="100:60,200:30", lifetime=400)
    pace = Pace(trainer_of(config, apply_seconds=0.1))
    assert pace.left(0) is None
    pace.record(0, 25.0)  # Compiles.
    assert pace.left(1) is None
    for step in range(1, 5):
        pace.record(step, 0.2)
    assert pace.measured == 4
    assert pace.left(5) == pytest.approx(55 * 0.2 + 30 * 0.3 + 10 * 0.5)
    # What is measured counts instead; the first step of a length does not.
    pace.record(60, 30.0)
    assert pace.left(61) == pytest.approx(29 * 0.3 + 10 * 0.5)
    pace.record(61, 0.4)
    assert pace.left(62) == pytest.approx(28 * 0.4 + 10 * (0.1 + 0.3 * 2))


def test_inner_steps_of_a_curriculum():
    lengths = Lengths(Sine(lifetime=400), OuterLoop(episodes=10, curriculum="100:6,200:2"), 10, 0)
    assert [lengths.inner_steps(step) for step in (0, 3, 6, 7, 10)] == [0, 300, 600, 800, 1800]


def test_description():
    paper = flp_tf.configure(task="sine", continual=True, recipe="paper")
    assert description(trainer_of(paper), paper) == (
        "flp(2) on sine, continual: recipe paper, 20,000 lifetimes of 400 steps"
    )
    other = paper.replace(curriculum="100:7000,200:1200", episodes=8800, slow_optimizer="adamax", meta_batch=2)
    assert description(trainer_of(other), other) == (
        "flp(2) on sine, continual: recipe paper with --meta_batch=2 --slow_optimizer=adamax, "
        "7,000 lifetimes of 100 steps, 1,200 of 200, 600 of 400"
    ).replace("--meta_batch=2 --slow_optimizer=adamax", " ".join(sorted_as(other)))


def sorted_as(config):
    """Returns the two flags in the order of the configuration."""
    flags = {"meta_batch": "--meta_batch=2", "slow_optimizer": "--slow_optimizer=adamax"}
    return [flags[name] for name in config.to_dict() if name in flags]


def test_a_run_says_what_it_is_and_how_long_it_takes(bare, tmp_path, capsys):
    commands.run(*commands.TINY, "--eval_every=100", f"--logdir={tmp_path}")
    out, err = capsys.readouterr()
    first = out.splitlines()[0]
    assert first.startswith("flp(2) on sine, continual: recipe paper with ") and "--slow_rate=0.01" in first
    assert "6 lifetimes of 8 steps; about 1 s on this machine" in first
    assert "lifetime 6/6" in err and "query_loss=" in err


def test_the_caller_ends_a_run_which_goes_on_later(finished_run, bare, tmp_path):
    config = flp_tf.load(finished_run.path).config
    points = []

    def stop(point):
        points.append(point)
        return point.episodes == 3

    with pytest.raises(Stopped) as stopped:
        flp_tf.meta_train(config, tmp_path, progress=False, on_evaluation=stop)
    assert stopped.value.episodes == 3 and not (tmp_path / "result.json").exists()
    flp_tf.meta_train(config, tmp_path, progress=False, on_evaluation=points.append)
    assert [point.episodes for point in points] == [3, 6] and [point.inner_steps for point in points] == [24, 48]
    assert all(point.error > 0 for point in points) and 0 < points[0].seconds < points[1].seconds
    mine, theirs = (commands.meta_test(path / "result.json") for path in (tmp_path, finished_run.path))
    assert mine == theirs


@pytest.mark.parametrize(
    "lifetime, num_sines, lengths", [(400, 10, [100, 200, 400]), (60, 10, [10, 30, 60]), (10, 10, [10] * 3)]
)
def test_shares_of_a_lifetime_are_lengths_that_the_task_can_have(lifetime, num_sines, lengths):
    task = Sine(num_sines=num_sines, lifetime=lifetime)
    found = Lengths(task, OuterLoop(episodes=10, curriculum="25%:40%,50%:30%"), 10, 0)
    assert [found.task(step).steps for step in (0, 3, 4, 6, 7, 9)] == [length for length in lengths for _ in range(2)]


def test_a_task_of_one_length_has_it_throughout():
    task = flp_tf.configure(task="sine").make_task()
    task.with_lifetime = lambda steps: Task.with_lifetime(task, steps)
    found = Lengths(task, OuterLoop(episodes=10, curriculum="25%:40%"), 10, 0)
    assert [found.task(step).steps for step in (0, 9)] == [400, 400]
