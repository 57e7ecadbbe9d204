"""What is checked of a task that a user wrote: every message says what to change."""

import numpy as np
import pytest
import tensorflow as tf

from flp_tf import losses
from flp_tf.errors import InputError
from flp_tf.tasks import Episode, Task
from flp_tf.tasks.checks import SHAPES

ATTRIBUTES = ("input_shape", "num_outputs", "num_concepts", "steps", "batch_size", "query_examples")


class Toy(Task):
    """A task whose attributes and episodes tests replace."""

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


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_missing_attributes_are_told(name):
    attributes = {key: value for key, value in vars(Toy).items() if not key.startswith("__") and key != name}
    task = type("Incomplete", (Task,), attributes)()
    with pytest.raises(TypeError, match=f"Incomplete has no attribute {name}; expected .*positive integer"):
        sample(task)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("input_shape", 3, "Changed.input_shape is 3; expected a tuple of positive integers"),
        ("input_shape", [3], "Changed.input_shape is .3.; expected a tuple"),
        ("input_shape", (3, None), "Changed.input_shape is .3, None.; expected a tuple"),
        *(
            (name, value, f"Changed.{name} is {value}; expected a positive integer")
            for name in ATTRIBUTES[1:]
            for value in (0, 2.0, True)
        ),
        ("num_concepts", 4, "Changed.query_examples is 6; expected a multiple of num_concepts, 4"),
        ("concept", None, "Changed has no attribute concept; expected a text"),
        ("unit", 1, "Changed.unit is 1; expected a text, the unit of the error"),
        ("loss", "mse", "Changed.loss is 'mse'; expected a function of .outputs, y."),
        (
            "loss",
            losses.mean_squared_error,
            r"Changed.loss does not take \(outputs, y\); .* needs staticmethod\(loss\)",
        ),
        ("error", lambda task, outputs: 0.0, None),
        (
            "error",
            staticmethod(lambda outputs, y: tf.reduce_mean((outputs - y) ** 2)),
            r"Changed.error gives shape \[\] for outputs \[2, 6, 2\]; expected one number .*, shape \[2\]",
        ),
        ("loss", staticmethod(lambda outputs, y: (outputs - y) ** 2), r"Changed.loss gives shape \[2, 6, 2\] for"),
        ("loss", staticmethod(lambda outputs, y: None), "Changed.loss gives None for"),
    ],
)
def test_wrong_attributes_are_told(name, value, message):
    task = type("Changed", (Toy,), {name: value})()
    message = message or r"Changed.error does not take \(outputs, y\)"
    with pytest.raises((TypeError, ValueError), match=message) as error:
        sample(task)
    assert "\n" not in str(error.value)


def test_losses_may_be_methods_and_numbers_those_of_numpy():
    class Weighted(Toy):
        num_outputs = np.int64(2)
        weight = 3.0

        def loss(self, outputs, y):
            return self.weight * losses.mean_squared_error(outputs, y)

    assert sample(Weighted()).query_y.shape == (2, 6, 2)


@pytest.mark.parametrize("field", SHAPES)
@pytest.mark.parametrize("compiled", [False, True])
def test_wrong_shapes_are_told(field, compiled):
    """One axis of another size, one too many and one too few, for each field."""
    i = list(SHAPES).index(field)
    shape = Toy.shapes[i]
    for wrong in ((*shape[:-1], 7), (7, *shape[1:]), (*shape, 1), shape[1:]):
        shapes = (*Toy.shapes[:i], wrong, *Toy.shapes[i + 1 :])
        task = type("Wrong", (Toy,), {"shapes": shapes})()
        words = ", ".join(SHAPES[field]).replace("*", r"\*")
        message = (
            rf"Wrong.sample_lifetime: {field} has shape \[{', '.join(map(str, wrong))}\]; "
            rf"expected \[{words}\] = \[{', '.join(map(str, shape))}\]"
        )
        with pytest.raises(ValueError, match=message) as error:
            (task.compiled_sample if compiled else task.sample)(0, 0, 2, "train")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", SHAPES)
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: tf.cast(x, tf.float64), "has type float64; expected float32"),
        (lambda x: np.ones(x.shape, np.int64), "has type int64; expected float32"),
        (lambda x: tf.cast(x, tf.int32), "has type int32; expected float32"),
        (lambda x: None, "is None; expected a float32 tensor"),
        (lambda x: {"x": x}, "is a dict; expected a float32 tensor"),
    ],
)
def test_wrong_types_are_told(field, change, message):
    class Wrong(Toy):
        def sample_lifetime(self, seed, split):
            episode = super().sample_lifetime(seed, split)
            return episode._replace(**{field: change(getattr(episode, field))})

    with pytest.raises(TypeError, match=f"Wrong.sample_lifetime: {field} {message}") as error:
        sample(Wrong())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "returned, what", [(None, "None"), ((1, 2), "a tuple of 2"), ({}, "a dict"), (np.ones(3), r"shape \[3\]")]
)
def test_what_is_no_episode_is_told(returned, what):
    class Wrong(Toy):
        def sample_lifetime(self, seed, split):
            return returned

    message = rf"Wrong.sample_lifetime returned {what}; expected Episode\(support_x, support_y, query_x, query_y\)"
    with pytest.raises(TypeError, match=message):
        sample(Wrong())


def test_shapes_that_are_not_static():
    """Are made static, as XLA needs them; a wrong one is told with the field's name when it is known."""

    class Dynamic(Toy):
        def sample_lifetime(self, seed, split):
            episode = super().sample_lifetime(seed, split)
            return episode._replace(query_x=tf.boolean_mask(episode.query_x, tf.range(6) < 6))

    task = Dynamic()

    @tf.function(autograph=False)
    def draw():
        episode = sample(task)
        assert all(part.shape.is_fully_defined() for part in episode)
        return episode

    np.testing.assert_array_equal(draw().query_x, sample(task).query_x)

    class Short(Toy):
        def sample_lifetime(self, seed, split):
            episode = super().sample_lifetime(seed, split)
            return episode._replace(query_x=tf.boolean_mask(episode.query_x, tf.range(6) < 5))

    with pytest.raises(tf.errors.InvalidArgumentError, match="query_x"):
        Short().compiled_sample(0, 0, 2, "train")


def test_arrays_of_numpy_are_taken_as_float32():
    class Arrays(Toy):
        def sample_lifetime(self, seed, split):
            return Episode(*[np.full(shape, 0.5) for shape in self.shapes])

    episode = sample(Arrays())
    assert episode.query_y.dtype == tf.float32 and np.all(episode.query_y == 0.5)


def test_no_lifetimes_are_refused():
    with pytest.raises(InputError, match="count=0 is too small"):
        sample(Toy(), count=0)
