"""The library against the original implementation's numbers, in float64 (`golden/*.npz`)."""

from pathlib import Path

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    REGRESSION,
    assert_close,
    gradients_by_layer,
    in_mode,
    kernels_of,
    meta_gradient,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.feedback import DirectFeedback
from flp_tf.learners import FeedbackLearner
from flp_tf.networks import Dense, build
from flp_tf.tasks import Episode

NAMES = ("classification_oja_plastic2", "regression_oja_plastic2", "regression_oja_plastic4")
# Segment length and mode; 5 leaves a shorter last segment where T is 12. XLA gets two
# equal segments, which halves the time to compile.
ENGINES = {
    "plain": (lifetime.PLAIN, "graph"),
    "checkpointed": (5, "eager"),
    "traced": (5, "graph"),
    "compiled": ("half", "xla"),
}
# Every file by the engine, and each of the other ways with one of them.
FOUND_BY = [(name, "checkpointed") for name in NAMES] + [("regression_oja_plastic2", "traced")]
FOUND_BY += [("regression_oja_plastic2", "plain"), ("classification_oja_plastic2", "compiled")]
TRACED_IN = [(name, "eager") for name in NAMES]
TRACED_IN += [("regression_oja_plastic4", "graph"), ("classification_oja_plastic2", "xla")]


class Golden:
    """One file: the learner and the episode that it describes, and what they must give."""

    def __init__(self, name: str):
        self.values = dict(np.load(Path(__file__).parent / "golden" / f"{name}.npz"))
        self.classification = "multiplier" in self.values
        self.task = CLASSIFICATION if self.classification else REGRESSION
        self.sizes = [self.values[f"W{i}"].shape[1] for i in range(self.depth)]
        self.learner = self._learner()

    @property
    def depth(self) -> int:
        return sum(name[0] == "W" and name[1:].isdigit() for name in self.values)

    @property
    def plastic(self) -> int:
        return int(self.values["plastic"])

    def _learner(self) -> FeedbackLearner:
        signal_size = self.values["B0"].shape[0]

        def plastic_options(is_output):
            clamped = is_output and self.classification
            scale = 1.0 if is_output or not self.classification else float(self.values["multiplier"])
            feedback = None if clamped else DirectFeedback(signal_size, dtype="float64")
            return {"feedback": feedback, "plasticity_scale": scale}

        hidden = [Dense(size) for size in self.sizes[:-1]]
        inputs = self.values["W0"].shape[:1]
        network = build(hidden, inputs, self.sizes[-1], self.plastic, plastic_options, dtype="float64")
        signal = "target" if self.classification else "error"
        learner = FeedbackLearner(network, signal, clamp_output=self.classification)
        tf.nest.map_structure(
            lambda weight, value: weight.assign(value), weights_by_layer(learner), self.weights(learner)
        )
        return learner

    def weights(self, learner, prefix: str = ""):
        """Returns the file's weights, or with the prefix "d" their meta-gradients."""

        def values(i, layer):
            names = {"W": "W", "b": "b", "a": "alpha", "B": "B", "c": "c", "beta": "beta"}
            arrays = {name: self.values[f"{prefix}{names[name]}{i}"] for name in layer}
            arrays |= {name: [arrays[name]] for name in arrays.keys() & {"B", "c"}}
            return arrays | {name: arrays[name][0] for name in arrays.keys() & {"beta"}}

        return [values(i, layer) for i, layer in enumerate(weights_by_layer(learner))]

    @property
    def episode(self) -> Episode:
        def targets(y):
            return np.eye(self.sizes[-1])[y] if self.classification else y

        values = self.values
        support = values["xs"][:, None], targets(values["ys"])[:, None]
        return Episode(*map(tf.constant, (*support, values["xq"][None], targets(values["yq"])[None])))

    @property
    def final_weights(self) -> tuple[np.ndarray, ...]:
        return tuple(self.values[f"W{i}_final"] for i in range(self.depth - self.plastic, self.depth))


@pytest.fixture
def golden(request):
    return Golden(request.param)


@pytest.mark.parametrize(("golden", "mode"), TRACED_IN, indirect=["golden"])
def test_outputs_before_each_update(golden, mode):
    """Traced outputs of every inner step, and final fast weights, against the original's."""

    def run(episode):
        return lifetime.run(golden.learner, episode, trace=lambda t, state, x, y, new: golden.learner.predict(state, x))

    state, outputs = in_mode(run, mode)(golden.episode)
    assert_close(outputs[:, 0], golden.values["outputs"])
    assert_close(tuple(fast[0] for fast in kernels_of(golden.learner, state)), golden.final_weights)


@pytest.mark.parametrize(("golden", "engine"), FOUND_BY, indirect=["golden"])
def test_lifetime_and_meta_gradients(golden, engine):
    """Final fast weights, query outputs, loss and all meta-gradients against the original's."""
    segment_length, mode = ENGINES[engine]
    segment_length = len(golden.values["xs"]) // 2 if segment_length == "half" else segment_length
    learner = golden.learner

    def run(episode):
        state = lifetime.run(learner, episode, segment_length=segment_length).state
        outputs = lifetime.query(learner, state, episode)
        return state, outputs, meta_gradient(learner, golden.task, episode, segment_length)

    state, outputs, (loss, _, gradients) = in_mode(run, mode)(golden.episode)
    assert_close(tuple(fast[0] for fast in kernels_of(learner, state)), golden.final_weights)
    assert_close(outputs[0], golden.values["query_output"])
    assert_close(loss, golden.values["loss"])
    assert_close(gradients_by_layer(learner, gradients), golden.weights(learner, "d"))


@pytest.mark.parametrize("golden", NAMES, indirect=True)
def test_numpy_reference(golden):
    """The NumPy reference of the other tests against the original, too."""
    weights = to_numpy(weights_by_layer(golden.learner))
    settings = {}
    if golden.classification:
        settings = {"feedback_signal": "target", "clamp_output": True}
        settings["hidden_plasticity_factor"] = golden.values["multiplier"]
    episode = to_numpy(golden.episode)
    result = numpy_reference.lifetime(weights, episode.support_x[:, 0], episode.support_y[:, 0], **settings)
    assert_close(result.outputs, golden.values["outputs"])
    assert_close(tuple(result.fast[-golden.plastic :]), golden.final_weights)
