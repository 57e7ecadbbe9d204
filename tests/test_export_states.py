"""Methods of the user's own are exported, whatever their state is; where that fails, the run still has its result."""

import collections
import json

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import SHORT, TINY, meta_test

import flp_tf
from flp_tf import learners
from flp_tf.export import Functions, export, litert
from flp_tf.learners import METHODS, FeedbackLearner
from flp_tf.runs import training

pytestmark = pytest.mark.slow

Pair = collections.namedtuple("Pair", ["x", "self"])

# How a state holds two tensors, and their names.
FORMS = {
    "list": (lambda a, b: [a, b], ["state_0", "state_1"]),
    "tuple in a list": (lambda a, b: [(a, b)], ["state_0_0", "state_0_1"]),
    "named tuple": (Pair, ["state_x", "state_self"]),
    "x and y": (lambda a, b: {"x": a, "y": b}, ["state_x", "state_y"]),
    "self and outputs": (lambda a, b: {"outputs": a, "self": b}, ["state_outputs", "state_self"]),
    "words of Python": (lambda a, b: {"None": a, "lambda": b}, ["state_None", "state_lambda"]),
    "other characters": (lambda a, b: {"a b": a, "a-b": b}, ["a_b_0", "a_b_1"]),
    "upper case": (lambda a, b: {"W": a, "w": b}, ["W_0", "w_1"]),
    "no letters": (lambda a, b: {"": a, "_": b}, ["state_0", "state_1"]),
    "beyond ASCII": (lambda a, b: {"β": a, "größe": b}, ["gr__e", "state"]),
    "numbers": (lambda a, b: {7: a, 11: b}, ["state_7", "state_11"]),
    "self in a list, a word of Python": (lambda a, b: [{"self": a}, {"None": b}], ["state_0_self", "state_1_None"]),
    "outputs, beyond ASCII": (lambda a, b: {"outputs": a, "größe": b}, ["gr__e", "state_outputs"]),
    "steps": (lambda a, b: {"steps": a, "state": b}, ["state", "steps"]),
}


class Formed(FeedbackLearner):
    """FLP whose state has another form."""

    def __init__(self, learner, form):
        super().__init__(learner.network)
        self._form = form

    def _packed(self, state):
        return self._form(*(layer["kernel"] for layer in state.values()))

    def _unpacked(self, state):
        # By shape, because a structure of TensorFlow sorts its keys.
        return {layer.name: {"kernel": part} for layer, part in zip(self.network.head, self._order(state))}

    def _order(self, state):
        parts = {tuple(part.shape[1:]): part for part in tf.nest.flatten(state)}
        return [parts[tuple(layer.kernel.shape)] for layer in self.network.head]

    def initial_state(self, seeds=None):
        return self._packed(super().initial_state(seeds))

    def learn(self, state, features, y):
        return self._packed(super().learn(self._unpacked(state), features, y))

    def predict(self, state, features):
        return super().predict(self._unpacked(state), features)


def flp():
    """Returns FLP that learns within a lifetime, and an episode."""
    sizes = {"num_sines": 2, "lifetime": 4, "batch_size": 4, "query_size": 2, "network": "8"}
    config = flp_tf.configure(**sizes, plasticity_scale=0.01, output_plasticity_init=1.0)
    task = config.make_task()
    return learners.build(config, task), task.sample(3, 0, 1, "test")


@pytest.fixture(scope="module")
def plain_and_episode():
    """FLP that learns within a lifetime, and an episode; to be read only."""
    return flp()


@pytest.mark.parametrize("form", FORMS)
def test_names_of_any_form_of_a_state(form, plain_and_episode):
    make, names = FORMS[form]
    assert sorted(Functions(Formed(plain_and_episode[0], make)).state) == sorted(names)


@pytest.mark.parametrize("form", ["self in a list, a word of Python", "outputs, beyond ASCII"])
def test_any_form_of_a_state_is_exported(form, plain_and_episode, tmp_path):
    """What the SavedModel and the LiteRT file predict after a lifetime is what FLP does, with its own names."""
    make, names = FORMS[form]
    plain, episode = plain_and_episode
    learner = Formed(plain, make)
    state = plain.initial_state(tf.zeros([1, 2], tf.int32))
    export(learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    files = [litert.Interpreted(litert.write(learner, tmp_path / "litert"))] if litert.has_interpreter() else []
    passed = model.signatures["initial_state"]()
    assert sorted(passed) == sorted(names)
    for x, y in zip(episode.support_x[:, 0], episode.support_y[:, 0]):
        state = plain.learn(state, plain.encode(x[None]), y[None])
        passed = model.signatures["learn_from"](**passed, x=x, y=y)
        model.learn(x, y)
        for file in files:
            file.learn(x.numpy(), y.numpy())
    query = episode.query_x[0]
    expected = plain.predict(state, plain.encode(query[None]))[0]
    found = [model.predict(query), model.signatures["predict_from"](**passed, x=query)["outputs"]]
    for outputs in [*found, *(file.predict(query.numpy()) for file in files)]:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("signature", ["learn", "learn_from"])
def test_a_saved_model_refuses_examples_without_targets(signature, tmp_path):
    learner, episode = flp()
    export(learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    state = model.signatures["initial_state"]() if signature == "learn_from" else {}
    x, y = episode.support_x[0, 0], episode.support_y[0, 0]
    model.signatures[signature](x=x, y=y, **state)
    for rows in (1, 3):
        with pytest.raises(tf.errors.InvalidArgumentError, match="x and y need as many rows as each other"):
            model.signatures[signature](x=x, y=y[:rows], **state)


class Unexportable(FeedbackLearner):
    """FLP whose state has no place for a lifetime without seeds of its own."""

    def initial_state(self, seeds=None):
        if seeds is not None and not tf.is_symbolic_tensor(seeds):
            raise ValueError("there are\ntwo lines")
        return super().initial_state(seeds)


@pytest.fixture
def unexportable():
    METHODS.register("unexportable")(Unexportable)
    yield "--method=unexportable"
    del METHODS._components["unexportable"]


def test_a_run_that_cannot_be_exported_has_its_result(unexportable, finished_run, tmp_path, capsys):
    commands.run(*TINY, unexportable, f"--logdir={tmp_path}")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["not_exported"] == "ValueError: there are two lines"
    assert result["meta_test"] == meta_test(finished_run.path / "result.json")
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if "exported" in line]
    assert f"flp_tf: the network could not be exported, so {tmp_path / 'export'} is not of this run" in line
    assert f"(ValueError: there are two lines); --mode=export --logdir={tmp_path} shows where" in line
    assert "Meta-test" in said.out and not (tmp_path / "export").exists()
    with pytest.raises(ValueError, match="two lines"):
        commands.run("--mode=export", f"--logdir={tmp_path}")


def test_an_export_without_room_ends_the_run_without_a_result(eager, tmp_path, monkeypatch):
    """The same command ends it, as soon as there is room."""

    def full(*_):
        raise flp_tf.errors.InputError("export cannot be written: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(training, "export", full)
        assert "no space left" in commands.refusal(*SHORT, "--episodes=1", f"--logdir={tmp_path}")
    assert not (tmp_path / "result.json").exists()
    commands.run(*SHORT, "--episodes=1", f"--logdir={tmp_path}")
    assert "not_exported" not in json.loads((tmp_path / "result.json").read_text())
    assert (tmp_path / "export" / "saved_model.pb").exists()
