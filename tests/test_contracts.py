"""What `check_contracts` refuses of a user's learner or task, before anything is trained or written."""

import keras
import pytest
import tensorflow as tf
from helpers import METHODS as EVERY_METHOD

import flp_tf
from flp_tf import learners
from flp_tf.errors import ContractError
from flp_tf.learners import METHODS, FeedbackLearner
from flp_tf.lifetime import check_contracts

pytestmark = pytest.mark.slow

TINY = {
    "task": "sine",
    "num_sines": 2,
    "network": "8-8",
    "num_plastic_layers": 1,
    "lifetime": 4,
    "batch_size": 2,
    "query_size": 3,
    "episodes": 2,
    "eval_episodes": 2,
}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Forgets what a test registers."""
    monkeypatch.setattr(METHODS, "_components", dict(METHODS._components))


def build(**flags):
    """Returns a learner of a tiny network, and its task."""
    config = flp_tf.configure(**{**TINY, **flags})
    task = config.make_task()
    return learners.build(config, task), task


def weight(shape=()):
    return keras.Variable(tf.ones(shape), name="hidden_gain")


class Helper:
    """An object that is none of Keras's, and holds a weight."""

    def __init__(self):
        self.gain = weight()


class Hidden(FeedbackLearner):
    """Outputs times a weight, which subclasses put where it is not found."""

    def predict(self, state, features):
        return self.gain() * super().predict(state, features)


class PlainVariable(Hidden):
    """The weight is a `tf.Variable`."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.variable = tf.Variable(1.0, name="hidden_gain")

    def gain(self):
        return self.variable


class Underscored(Hidden):
    """The weight is in an attribute with an underscore."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._hidden = weight()

    def gain(self):
        return self._hidden.value


class InHelper(Hidden):
    """The weight belongs to an object of another kind."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.helper = Helper()

    def gain(self):
        return self.helper.gain.value


class OfPenalty(FeedbackLearner):
    """The weight has a price, and does nothing else."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._hidden = weight()

    def penalty(self):
        return tf.square(self._hidden.value)


class OfStep(FeedbackLearner):
    """The inner step alone computes with the weight."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._hidden = weight()

    def learn(self, state, features, y):
        return super().learn(state, features, self._hidden.value * y)


def of_class(cls):
    """Returns a learner of class `cls` with a tiny network, and its task."""
    learner, task = build()
    return cls(learner.network), task


def message_of(learner, task) -> str:
    """Returns what `check_contracts` says, which is one line."""
    with pytest.raises(ContractError) as error:
        check_contracts(learner, task)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("cls", [PlainVariable, Underscored, InHelper, OfPenalty, OfStep])
def test_a_weight_that_is_not_found_is_named(cls):
    """It would neither be trained nor saved."""
    learner, task = of_class(cls)
    assert not any("hidden" in path or "gain" in path for path in learner.variables)
    message = message_of(learner, task)
    assert message.startswith(f"{cls.__name__} computes with ")
    assert "hidden_gain" in message and "keras.Variable, in attributes without an underscore" in message


class Found(Hidden):
    """The weight is where it is found."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.found = weight()

    def gain(self):
        return self.found.value


def test_a_weight_that_is_found_is_welcome():
    learner, task = of_class(Found)
    assert "found" in learner.variables
    check_contracts(learner, task)


def test_a_step_that_adds_to_the_state_is_refused():
    class Counting(FeedbackLearner):
        def learn(self, state, features, y):
            return super().learn(state, features, y) | {"steps": tf.zeros([1])}

    assert message_of(*of_class(Counting)).startswith("learn was given a state of {")


def test_a_step_with_a_hidden_random_state_is_refused():
    class Noisy(FeedbackLearner):
        def learn(self, state, features, y):
            return super().learn(state, features, y + tf.random.normal(y.shape))

    assert message_of(*of_class(Noisy)).startswith("learn is no pure function: it runs RandomStandardNormal")


def test_outputs_of_another_shape_are_refused():
    class Wide(FeedbackLearner):
        def predict(self, state, features):
            return tf.repeat(super().predict(state, features), 2, -1)

    learner, task = of_class(Wide)
    size, outputs = task.query_examples, task.num_outputs
    expected = f"Wide.predict returned shape [2, {size}, {2 * outputs}]; expected [2, {size}, {outputs}]"
    assert message_of(learner, task) == expected


CHANGES = {
    "inputs of another size": lambda episode: episode._replace(support_x=episode.support_x[..., :1]),
    "a step less": lambda episode: episode._replace(support_x=episode.support_x[1:]),
    "another number of queries": lambda episode: episode._replace(query_y=episode.query_y[1:]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_episode_of_other_shapes_than_declared_is_refused(kind, monkeypatch):
    learner, task = build()
    sample = type(task).sample_lifetime
    monkeypatch.setattr(type(task), "sample_lifetime", lambda *arguments: CHANGES[kind](sample(*arguments)))
    assert type(task).__name__ in message_of(learner, task)


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_methods_of_the_library_pass(name):
    flags = EVERY_METHOD[name]
    check_contracts(*build(**flags))


def test_nothing_runs():
    """The check traces a graph, which takes no step."""
    ran = []

    class Watching(FeedbackLearner):
        def learn(self, state, features, y):
            tf.py_function(lambda: ran.append(1), [], [])
            return super().learn(state, features, y)

    message_of(*of_class(Watching))
    assert not ran


@pytest.mark.parametrize("cls", [Underscored, PlainVariable])
def test_a_refused_learner_leaves_no_folder(cls, tmp_path):
    METHODS.register("refused")(cls)
    config = flp_tf.configure(**TINY, method="refused")
    with pytest.raises(ContractError, match="hidden_gain"):
        flp_tf.meta_train(config, tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


def test_draws_from_hidden_states_are_refused_everywhere():
    class First(FeedbackLearner):
        def initial_state(self, seeds=None):
            state = super().initial_state(seeds)
            return tf.nest.map_structure(lambda part: part + tf.random.normal(part.shape), state)

    class Last(FeedbackLearner):
        def predict(self, state, features):
            outputs = super().predict(state, features)
            return outputs + tf.random.normal(tf.shape(outputs))

    for method in (First, Last):
        assert message_of(*of_class(method)).startswith(f"{method.__name__} is no pure function: it runs Random")
    learner, task = of_class(FeedbackLearner)
    sample = task.sample_lifetime
    task.sample_lifetime = lambda seed, split: sample(tf.random.uniform([2], maxval=9, dtype=tf.int32), split)
    assert "Sine.sample_lifetime is no pure function: it runs RandomUniformInt" in message_of(learner, task)


def test_states_without_an_axis_of_lifetimes_are_refused():
    class Counting(FeedbackLearner):
        def initial_state(self, seeds=None):
            return {**super().initial_state(seeds), "count": tf.constant(0)}

    assert "Counting.initial_state returned a tensor of shape () for 2 lifetimes" in message_of(*of_class(Counting))


def test_a_step_that_returns_nothing_is_refused():
    class Silent(FeedbackLearner):
        def learn(self, state, features, y):
            super().learn(state, features, y)

    assert "and returned None" in message_of(*of_class(Silent))


def test_errors_by_concept_have_their_shape():
    learner, task = of_class(FeedbackLearner)
    task.concept_errors = lambda outputs, y: tf.zeros([7])
    assert "Sine.concept_errors returned shape [7]; expected [2, 2]" in message_of(learner, task)
