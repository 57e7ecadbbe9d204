"""The contract of a task: what its docstring says holds, for a task written from it and for seeds and copies."""

import copy
import importlib.util
import inspect
import pickle
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.registry import REGISTRIES, Choice, NoOptions
from flp_tf.tasks import SPLITS, TASKS, Episode, Sine, Task

# A task as a user writes it in a file of his own, from the docstring of `Task` alone.
PLANES = '''
import tensorflow as tf

from flp_tf.tasks import SPLITS, Episode, Task


class Planes(Task):
    """y = w x of two inputs and three outputs."""

    input_shape = (2,)
    num_outputs = 3
    num_concepts = 2
    steps = 6
    batch_size = 4
    query_examples = 10

    def sample_lifetime(self, seed, split):
        seeds = tf.unstack(tf.random.split(tf.random.split(seed, 3)[SPLITS.index(split)], 3))
        kernel = tf.random.stateless_normal([2, 3], seeds[0])
        x = tf.random.stateless_normal([6, 4, 2], seeds[1])
        query = tf.random.stateless_normal([10, 2], seeds[2])
        return Episode(x, x @ kernel, query, query @ kernel)
'''


@pytest.fixture
def planes(tmp_path):
    """The class `Planes`, imported from its file."""
    path = tmp_path / "planes.py"
    path.write_text(PLANES)
    spec = importlib.util.spec_from_file_location("planes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Planes


class Toy(Task):
    """A small task whose episodes tests replace."""

    input_shape = (3,)
    num_outputs = 2
    num_concepts = 1
    steps = 5
    batch_size = 4
    query_examples = 6
    shapes = ((5, 4, 3), (5, 4, 2), (6, 3), (6, 2))

    def sample_lifetime(self, seed, split):
        return Episode(*[tf.random.stateless_normal(shape, seed) for shape in self.shapes])


def sample(task, index=0, count=2, split="train", seed=0):
    return task.sample(seed, index, count, split)


def test_a_task_from_a_file_of_its_own(planes):
    task = planes()
    for draw in (sample, lambda task: task.compiled_sample(0, 0, 2, "train")):
        episode = draw(task)
        assert [tuple(part.shape) for part in episode] == [(6, 2, 4, 2), (6, 2, 4, 3), (2, 10, 2), (2, 10, 3), (2, 2)]
        outputs = np.zeros((2, 10, 3), np.float32)
        assert task.error(outputs, episode.query_y).shape == (2,)
        assert task.concept_errors(outputs, episode.query_y).shape == (2, 2)
    assert (task.concept, task.unit) == ("concept", "MSE")
    assert task.with_lifetime(6) is task
    with pytest.raises(InputError, match="--lifetime=12 does not go with Planes.* the legal value is 6"):
        task.with_lifetime(12)
    one = episode.lifetime(1)
    assert [tuple(part.shape) for part in one] == [(6, 1, 4, 2), (6, 1, 4, 3), (1, 10, 2), (1, 10, 3), (1, 2)]
    np.testing.assert_array_equal(one.seed[0], episode.seed[1])
    np.testing.assert_array_equal(one.support_x[:, 0], episode.support_x[:, 1])


def test_the_example_of_the_docstring(monkeypatch):
    """Its lines go through the origin, and the slope is one of the lifetime."""
    monkeypatch.setattr(TASKS, "_components", dict(TASKS._components))
    text = inspect.getdoc(Task).split("has to find:\n")[1]
    exec(textwrap.dedent(text), {"__name__": "example"})
    assert TASKS.options("lines") is NoOptions and TASKS.uses("lines") == ()
    task = Choice(TASKS["lines"], NoOptions())()
    support_x, support_y, query_x, query_y, _ = sample(task, count=3)
    slopes = support_y[0, :, 0] / support_x[0, :, 0]
    assert len(np.unique(slopes)) == 3
    np.testing.assert_allclose(support_y, support_x * slopes[None, :, None], rtol=1e-5)
    np.testing.assert_allclose(query_y, query_x * slopes[:, None], rtol=1e-5)
    assert np.all(sample(task, split="test", count=3).query_x != query_x)


def test_the_registry():
    assert REGISTRIES["task"] is TASKS and TASKS.default == "sine"
    assert set(TASKS) == {"sine", "omniglot", "mini_imagenet", "imitation"}
    task = Choice(TASKS["sine"], TASKS.options("sine")(num_sines=2, lifetime=40))()
    assert isinstance(task, Sine) and (task.num_concepts, task.steps, task.query_examples) == (2, 40, 128)


def test_numpy_arrays_are_welcome():
    class Fixed(Toy):
        def sample_lifetime(self, seed, split):
            return tuple(np.full(shape, i, np.float32) for i, shape in enumerate(self.shapes))

    for episode in (sample(Fixed()), Fixed().compiled_sample(0, 0, 2, "train")):
        assert [float(np.max(part)) for part in episode[:4]] == [0, 1, 2, 3]


def test_unknown_splits_are_told():
    with pytest.raises(InputError, match="split='val' is unknown; legal values: train, validation, test"):
        sample(Toy(), split="val")


def test_seeds_of_lifetimes():
    """All different, by run, split and lifetime, and none that data are drawn from."""
    data = []

    class Recorder(Toy):
        def sample_lifetime(self, seed, split):
            data.append(tuple(np.array(seed)))
            data.extend(map(tuple, tf.random.split(seed, 20).numpy()))
            data.extend(map(tuple, tf.random.split(seed, 20, alg="philox").numpy()))
            return super().sample_lifetime(seed, split)

    task, seeds = Recorder(), []
    for seed in (0, 1, 2**31 - 1):
        for split in SPLITS:
            episode = sample(task, count=10, seed=seed, split=split)
            assert episode.seed.dtype == tf.int32 and episode.seed.shape == (10, 2)
            seeds.extend(map(tuple, episode.seed.numpy()))
    assert len(set(seeds)) == 3 * 3 * 10
    assert not set(seeds) & set(data)


@pytest.mark.parametrize("compiled", [False, True])
def test_seeds_do_not_depend_on_the_meta_batch(compiled):
    task = Toy()
    draw = task.compiled_sample if compiled else task.sample
    together = task.sample(3, 0, 6, "train")
    for index, count in ((0, 1), (1, 3), (5, 1)):
        part = draw(3, tf.constant(index), count, "train")
        np.testing.assert_array_equal(part.seed, together.seed[index : index + count])
        np.testing.assert_allclose(part.support_x, together.support_x[:, index : index + count], rtol=1e-5)
    np.testing.assert_array_equal(draw(3, 2**31 - 2, 1, "train").seed, task.sample(3, 2**31 - 2, 1, "train").seed)


def test_seeds_do_not_depend_on_the_length_of_a_lifetime():
    task = Sine(num_sines=2, lifetime=4)
    np.testing.assert_array_equal(sample(task).seed, sample(task.with_lifetime(8)).seed)


def test_other_seeds_do_not_compile_again():
    traces = []

    class Counted(Toy):
        def sample_lifetime(self, seed, split):
            traces.append(split)
            return super().sample_lifetime(seed, split)

    task = Counted()
    draws = [task.compiled_sample(seed, index, 2, "test") for seed in (0, 1) for index in (0, 4)]
    assert len(traces) == 1
    assert len({float(draw.query_x[0, 0, 0]) for draw in draws}) == 4


def test_episodes_without_seeds():
    """Arrays of a user's own need no seeds."""
    episode = Episode(np.ones((5, 2, 4, 3)), np.ones((5, 2, 4, 2)), np.ones((2, 6, 3)), np.ones((2, 6, 2)))
    assert episode.seed is None and episode.lifetime(1).seed is None
    assert episode.lifetime(1).query_x.shape == (1, 6, 3)


def test_a_picture_is_optional():
    task = Toy()
    outputs = np.zeros((1, 6, 2), np.float32)
    assert task.draw(sample(task, count=1), outputs, outputs) is None


def test_copies_compile_anew():
    """A copy, and a pickled task, take over the attributes alone."""
    task = Sine(num_sines=2, lifetime=4)
    task.compiled_sample(0, 0, 1, "train")
    for twin in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert "compiled_sample" not in vars(twin)
        twin.batch_size = 7
        assert twin.compiled_sample(0, 0, 1, "train").support_x.shape == (4, 1, 7, 3)
    assert task.compiled_sample(0, 0, 1, "train").support_x.shape == (4, 1, 32, 3)
