"""The lifetime engine: whatever it does about memory, the numbers are those of the plain loop."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CLASSIFICATION,
    METHODS,
    REGRESSION,
    assert_close,
    build_learner,
    in_mode,
    in_order,
    meta_gradient,
    random_episode,
    to_numpy,
)

from flp_tf import lifetime

STEPS = 6
SEGMENT_LENGTHS = {"1": 1, "not_dividing": 4, "whole": STEPS, "auto": lifetime.AUTO}
TRUNK = {"hoisted": math.inf, "per_segment": 0}
# Every learner in one segment, and in several with a shorter last one, which differ in all
# that the engine does; what remains to combine does not depend on the learner.
CUTS = [(name, *cut) for name in METHODS for cut in (("not_dividing", "per_segment"), ("whole", "hoisted"))]
CUTS += [("flp", "not_dividing", "hoisted"), ("gradient_second_order", "whole", "per_segment")]
CUTS += [("flp", "1", "hoisted"), ("oml", "1", "per_segment")]
CUTS += [("gradient_second_order", "auto", "hoisted"), ("flp", "auto", "per_segment")]
# Inside a `tf.function`, with a shorter last segment. All others are compiled by XLA.
GRAPHS = [("flp", "hoisted"), ("recurrent", "hoisted"), ("gradient_second_order", "per_segment")]


@pytest.fixture
def checkpointed(monkeypatch):
    """Makes AUTO cut small lifetimes into segments, too."""
    monkeypatch.setattr(lifetime.engine, "KEPT_BYTES", 0)


def learn_in_python(learner, episode):
    """Returns the states before, between and after all inner steps, without the engine."""
    states = [learner.initial_state(episode.seed)]
    for x, y in zip(episode.support_x, episode.support_y):
        states.append(learner.learn(states[-1], learner.encode(x), y))
    return states


@functools.cache
def plain_meta_gradient(name):
    """Returns a learner, an episode and their meta-gradient by a Python loop under a tape."""
    learner = build_learner(**METHODS[name])
    episode = random_episode(steps=STEPS)
    with tf.GradientTape() as tape:
        outputs = learner.predict(learn_in_python(learner, episode)[-1], learner.encode(episode.query_x))
        loss = tf.reduce_mean(REGRESSION.loss(outputs, episode.query_y))
    gradients = tape.gradient(loss, [weight.value for weight in learner.trainable.values()])
    assert all(np.any(gradient) for gradient in gradients)
    return learner, episode, (loss, *gradients)


def loss_and_gradients(learner, estimate):
    """Returns an estimate in the form of `plain_meta_gradient`."""
    return (estimate.loss, *in_order(learner, estimate.gradients))


@pytest.mark.parametrize(("name", "segments", "trunk"), CUTS)
def test_checkpointed_meta_gradients(name, segments, trunk, float64, checkpointed, monkeypatch):
    """Loss and meta-gradients of every learner, cut in any way, against a Python loop."""
    monkeypatch.setattr(lifetime.engine, "HOISTED_BYTES", TRUNK[trunk])
    learner, episode, expected = plain_meta_gradient(name)
    found = meta_gradient(learner, REGRESSION, episode, SEGMENT_LENGTHS[segments])
    assert_close(loss_and_gradients(learner, found), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "trunk"), GRAPHS)
def test_checkpointed_meta_gradients_in_a_graph(name, trunk, float64, monkeypatch):
    """The same inside a `tf.function`, where gradients are taken another way."""
    monkeypatch.setattr(lifetime.engine, "HOISTED_BYTES", TRUNK[trunk])
    learner, episode, expected = plain_meta_gradient(name)
    found = in_mode(lambda e: meta_gradient(learner, REGRESSION, e, 4), "graph")(episode)
    assert_close(loss_and_gradients(learner, found), expected)


# Learners in one segment, and a local one and one of second order in two: what a loop over
# segments adds, which takes twice as long to compile, does not depend on the learner.
COMPILED = [("flp", 3), ("gradient_second_order", 3)]
COMPILED += [(name, STEPS) for name in ("feature_reuse", "dfa", "recurrent", "gradient_first_order", "oml")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segment_length"), COMPILED)
def test_compiled_meta_gradients(name, segment_length, float64):
    """The same compiled by XLA."""
    learner, episode, expected = plain_meta_gradient(name)
    found = in_mode(lambda e: meta_gradient(learner, REGRESSION, e, segment_length), "xla")(episode)
    assert_close(loss_and_gradients(learner, found), expected)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_plain_meta_gradients(mode, float64):
    """The plain `tf.while_loop` against a Python loop."""
    learner, episode, expected = plain_meta_gradient("flp")
    found = in_mode(lambda e: meta_gradient(learner, REGRESSION, e, lifetime.PLAIN), mode)(episode)
    assert_close(loss_and_gradients(learner, found), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_meta_batch_is_a_mean(name, float64):
    """Loss, error and meta-gradients of two lifetimes side by side, in segments, against the mean of single ones."""
    learner = build_learner(CLASSIFICATION, **METHODS[name])
    episode = random_episode(CLASSIFICATION, steps=2)
    together = meta_gradient(learner, CLASSIFICATION, episode, 1)
    alone = [meta_gradient(learner, CLASSIFICATION, episode.lifetime(i), 1) for i in range(2)]
    assert_close(together, tf.nest.map_structure(lambda *parts: np.mean(parts, 0), *alone))
    assert len({float(single.loss) for single in alone}) == 2


def test_one_lifetime_of_an_episode():
    episode = random_episode(lifetimes=3)
    expected = (episode[0][:, 1:2], episode[1][:, 1:2], *(part[1:2] for part in episode[2:]))
    assert_close(tuple(episode.lifetime(1)), expected, tolerance=0)


@pytest.mark.parametrize("name", METHODS)
def test_lifetimes_do_not_touch(name, float64):
    """Each lifetime's final fast weights against those of one alone, without a lifetime axis."""
    learner = build_learner(**METHODS[name])
    episode = random_episode(steps=4)
    together = lifetime.run(learner, episode, segment_length=3).state
    for i in range(2):
        state = learner.initial_state()
        for x, y in zip(episode.support_x[:, i], episode.support_y[:, i]):
            state = learner.learn(state, learner.encode(x), y)
        assert_close(tf.nest.map_structure(lambda part, i=i: part[i], together), state)


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_short_lifetimes(steps, float64, checkpointed):
    """Lifetimes down to one step, with segments of every length, against a Python loop."""
    learner = build_learner()
    episode = random_episode(steps=steps)
    expected = learn_in_python(learner, episode)[-1]
    for segment_length in (lifetime.PLAIN, lifetime.AUTO, *range(1, steps + 2)):
        assert_close(lifetime.run(learner, episode, segment_length=segment_length).state, expected)


@pytest.mark.parametrize("segment_length", [lifetime.PLAIN, lifetime.AUTO, 3])
def test_state_goes_in_and_comes_out(segment_length, float64, checkpointed):
    """A lifetime in two halves against one in one go; the state keeps its structure."""
    learner = build_learner(num_plastic_layers=3)
    episode = random_episode()
    state = None
    for half in (slice(5), slice(5, None)):
        part = episode._replace(support_x=episode.support_x[half], support_y=episode.support_y[half])
        state = lifetime.run(learner, part, state=state, segment_length=segment_length).state
    whole = lifetime.run(learner, episode, segment_length=segment_length)
    assert whole.traces is None
    assert_close(state, whole.state)
    shapes = {"layer_0": (2, 4, 5), "layer_1": (2, 5, 6), "layer_2": (2, 6, 2)}
    assert {name: tuple(of_layer["kernel"].shape) for name, of_layer in whole.state.items()} == shapes
    assert {of_layer["kernel"].dtype for of_layer in whole.state.values()} == {tf.float64}


def test_gradient_with_respect_to_the_first_state(float64):
    """Cotangents of given fast weights through segments against the plain loop."""
    learner = build_learner()
    episode = random_episode()

    def gradient(segment_length):
        state = learner.initial_state(episode.seed)
        with tf.GradientTape() as tape:
            tape.watch(state)
            final = lifetime.run(learner, episode, state=state, segment_length=segment_length).state
            loss = sum(tf.reduce_sum(tf.sin(fast)) for fast in tf.nest.flatten(final))
        return tape.gradient(loss, state)

    assert_close(gradient(3), gradient(lifetime.PLAIN))


@pytest.mark.parametrize("part", ["support_x", "support_y"])
def test_gradient_with_respect_to_the_examples(part, float64):
    """Gradients of the support data, through trunk and segments, against the plain loop."""
    learner = build_learner()
    episode = random_episode()

    def gradient(segment_length):
        with tf.GradientTape() as tape:
            tape.watch(getattr(episode, part))
            final = lifetime.run(learner, episode, segment_length=segment_length).state
            loss = tf.reduce_sum(tf.sin(final["layer_2"]["kernel"]))
        return tape.gradient(loss, getattr(episode, part))

    assert_close(gradient(3), gradient(lifetime.PLAIN))


TRACED = [("flp", "eager"), ("flp", "xla"), ("gradient_second_order", "eager"), ("gradient_second_order", "graph")]


@pytest.mark.parametrize(("name", "mode"), TRACED)
def test_traces(name, mode, float64):
    """What a trace is given at each inner step, and how it is stacked, against a Python loop."""
    learner = build_learner(**METHODS[name])
    episode = random_episode(steps=STEPS)

    def trace(t, state, features, y, new_state):
        outputs = learner.predict(state, features)
        return {"t": t, "state": state, "seen": (features, y), "outputs": outputs, "new_state": new_state}

    run = in_mode(lambda e: lifetime.run(learner, e, trace=trace), mode)(episode)
    states = learn_in_python(learner, episode)
    features = learner.encode(episode.support_x)
    stacked = [tf.nest.map_structure(lambda *tensors: np.stack(tensors), *part) for part in (states[:-1], states[1:])]
    assert_close(run.state, states[-1])
    assert_close(
        run.traces,
        {
            "t": np.arange(STEPS),
            "state": stacked[0],
            "seen": (features, episode.support_y),
            "outputs": np.stack([learner.predict(state, x) for state, x in zip(states, features)]),
            "new_state": stacked[1],
        },
    )
    assert run.traces["t"].dtype == tf.int32


def test_traces_keep_static_shapes():
    learner = build_learner()
    episode = random_episode(steps=STEPS, dtype="float32")

    @tf.function(autograph=False)
    def run(episode):
        traces = lifetime.run(
            learner, episode, trace=lambda t, state, x, y, new: (y, tf.norm(new["layer_1"]["kernel"]))
        ).traces
        assert [trace.shape for trace in traces] == [(STEPS, 2, 3, 2), (STEPS,)]
        return traces

    run(episode)


@pytest.mark.parametrize("trunk", TRUNK)
def test_trunk_runs_once(trunk, monkeypatch):
    """Over all inner steps at once, or over a segment where that takes too much memory."""
    monkeypatch.setattr(lifetime.engine, "HOISTED_BYTES", TRUNK[trunk])
    learner = build_learner()
    encode, seen = learner.encode, []
    monkeypatch.setattr(learner, "encode", lambda x: seen.append(tuple(x.shape)) or encode(x))
    episode = random_episode(steps=6, dtype="float32")
    tf.function(lambda e: lifetime.run(learner, e, segment_length=3).state, autograph=False)(episode)
    # Besides, a graph of one step that never runs tells the features' shape.
    assert [shape for shape in seen if len(shape) == 4] == [(6 if trunk == "hoisted" else 3, 2, 3, 4)]


def test_memory_between_passes(float64):
    """What the reverse pass keeps: fast weights at the borders of segments, not of every step."""
    learner = build_learner(network="5-6", num_plastic_layers=2)
    episode = random_episode(steps=64, lifetimes=1)

    def kept(segment_length):
        function = in_mode(lambda e: meta_gradient(learner, REGRESSION, e, segment_length).gradients, "graph")
        operations = function.get_concrete_function(episode).graph.get_operations()
        lists = [op for op in operations if op.type in ("TensorListReserve", "EmptyTensorList")]
        return {int(tf.get_static_value(op.inputs[1])) for op in lists}

    assert kept(8) == {8}
    assert 64 in kept(lifetime.PLAIN)


LENGTHS = {1: 1, 2: 2, 4: 2, 5: 3, 16: 4, 17: 5, 40: 7, 400: 20, 401: 21, 6400: 80}


@pytest.mark.parametrize(("steps", "length"), LENGTHS.items())
def test_automatic_segment_length(steps, length):
    assert lifetime.automatic_segment_length(steps) == length
    assert length == math.ceil(math.sqrt(steps))


def test_auto_keeps_all_states_of_small_lifetimes(float64, monkeypatch):
    """Up to KEPT_BYTES over all steps a lifetime is one segment, beyond it about sqrt(T) of them."""
    learner = build_learner()
    episode = random_episode(steps=4, lifetimes=1)
    lengths = []
    monkeypatch.setattr(
        lifetime.engine, "run_in_segments", lambda *arguments: lengths.append(arguments[-1]) or arguments[2]
    )
    size = 4 * sum(to_numpy(fast).nbytes for fast in tf.nest.flatten(learner.initial_state(episode.seed)))
    monkeypatch.setattr(lifetime.engine, "KEPT_BYTES", size)
    lifetime.run(learner, episode)
    assert lengths == [4]
    monkeypatch.setattr(lifetime.engine, "KEPT_BYTES", size - 1)
    lifetime.run(learner, episode)
    assert lengths == [4, 2]
