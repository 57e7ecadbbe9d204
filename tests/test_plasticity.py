"""Local rules and the plastic dense layer, against NumPy and against what theory says."""

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import assert_close

from flp_tf.feedback import DirectFeedback, Pathway
from flp_tf.layers import PlasticDense
from flp_tf.plasticity import RULES, Rule

KERNEL = (4, 3)


def dense(units=3, inputs=4, **options):
    layer = PlasticDense(units, **{"dtype": "float64", **options})
    layer.build((None, inputs))
    return layer


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("lifetimes", [(), (2,), (2, 3)])
@pytest.mark.parametrize("rule", ["oja", "hebb"])
def test_rules(rule, lifetimes):
    """A rule's direction against sums over samples and synapses, lifetime by lifetime."""
    kernel, pre, post = random(*lifetimes, 4, 3), random(*lifetimes, 5, 4, seed=1), random(*lifetimes, 5, 3, seed=2)
    direction = RULES[rule](dtype="float64")(*map(tf.constant, (kernel, pre, post)))
    assert direction.shape == kernel.shape
    for i in np.ndindex(lifetimes):
        assert_close(direction[i], numpy_reference.local_update(rule, kernel[i], pre[i], post[i]))


@pytest.mark.parametrize("granularity", ["per_synapse", "per_neuron", "per_layer"])
def test_granularity(granularity):
    """What `alpha` has an entry of, and that the update is `alpha` times the rule, entry by entry."""
    shape = {"per_synapse": (4, 3), "per_neuron": (1, 3), "per_layer": (1, 1)}[granularity]
    layer = dense(granularity=granularity, plasticity_scale=0.5, rule="hebb")
    assert layer.plasticity.shape == shape
    layer.plasticity.assign(random(*shape))
    state, pre, post = random(2, 4, 3), random(2, 5, 4, seed=1), random(2, 5, 3, seed=2)
    new = layer.update({"kernel": tf.constant(state)}, tf.constant(pre), tf.constant(post))["kernel"]
    for n, i, j in np.ndindex(2, 4, 3):
        alpha = 0.5 * layer.plasticity.numpy()[i if granularity == "per_synapse" else 0, j if shape[1] == 3 else 0]
        assert_close(new[n, i, j], state[n, i, j] + alpha * np.sum(pre[n, :, i] * post[n, :, j]))


def test_oja_finds_the_first_principal_component():
    """A linear neuron's fixed point: unit norm, along the largest eigenvector of the inputs."""
    x = tf.constant(random(64, 4) * [1.0, 3.0, 0.5, 1.5] @ np.linalg.qr(random(4, 4, seed=1))[0])
    layer = dense(1, activation="linear", granularity="per_layer", plasticity_init=5e-4)
    state = layer.get_initial_state()
    for _ in range(300):
        state = layer.update(state, x, layer(x, state))
    _, vectors = np.linalg.eigh(x.numpy().T @ x.numpy())
    kernel = state["kernel"].numpy()
    assert np.linalg.norm(layer.get_initial_state()["kernel"]) != pytest.approx(1, abs=0.1)
    assert np.linalg.norm(kernel) == pytest.approx(1, abs=1e-9)
    assert abs(float(vectors[:, -1] @ kernel[:, 0])) == pytest.approx(1, abs=1e-9)


def test_oja_under_constant_activity():
    """Closed form for fixed `pre` and `post`: `W_t = W* + (1 - alpha s)^t (W_0 - W*)`, `W* = H / s`."""
    layer = dense(granularity="per_layer", plasticity_init=2**-7)
    pre, post = random(5, 4, seed=1), random(5, 3, seed=2)
    state = layer.get_initial_state()
    for _ in range(20):
        state = layer.update(state, tf.constant(pre), tf.constant(post))
    decay = np.sum(post**2, 0)
    fixed = pre.T @ post / decay
    first = layer.get_initial_state()["kernel"].numpy()
    assert_close(state["kernel"], fixed + (1 - 2**-7 * decay) ** 20 * (first - fixed))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_feedback_strength(beta):
    """`p = (1 - beta) h + beta z`, from no feedback to nothing but feedback."""
    layer = dense(feedback=DirectFeedback(2, strength=beta, dtype="float64"))
    layer.feedback.biases[0].assign(random(3))
    h, f = random(2, 5, 3), random(2, 5, 2, seed=1)
    z = np.maximum(f @ layer.feedback.kernels[0].numpy() + layer.feedback.biases[0].numpy(), 0)
    assert np.any(z) and layer.feedback.strength.dtype == "float64"
    expected = (1 - layer.feedback.strength.numpy()) * h + layer.feedback.strength.numpy() * z
    assert_close(layer.mix_feedback(tf.constant(h), tf.constant(f)), expected)


def test_layer_without_feedback_keeps_its_activity():
    h = tf.constant(random(5, 3))
    assert dense().mix_feedback(h, tf.constant(random(5, 2))) is h


def test_call():
    """`act(x W + b)` with the fast weights, not the slow ones, lifetime by lifetime."""
    layer = dense()
    layer.bias.assign(random(3, seed=3))
    x, state = random(2, 5, 4), random(2, 4, 3, seed=1)
    activity = layer(tf.constant(x), {"kernel": tf.constant(state)})
    for i in range(2):
        assert_close(activity[i], np.maximum(x[i] @ state[i] + layer.bias.numpy(), 0))


def test_maps_are_flattened():
    """A dense layer behind a convolution: rows, columns and channels in order."""
    layer = PlasticDense(3, dtype="float64")
    layer.build((None, 2, 3, 2))
    maps, state = random(4, 5, 2, 3, 2), random(4, 12, 3, seed=1)
    flat = maps.reshape(4, 5, 12)
    assert_close(layer(tf.constant(maps), {"kernel": tf.constant(state)}), np.maximum(flat @ state, 0))
    assert_close(layer.presynaptic(tf.constant(maps)), flat)


def test_nothing_is_assigned():
    """A lifetime leaves the slow weights as they were."""
    layer = dense(plasticity_init=0.1, feedback=DirectFeedback(2, dtype="float64"))
    before = [weight.numpy().copy() for weight in layer.weights]
    state = layer.get_initial_state()
    assert_close(state, {"kernel": layer.kernel.numpy()}, tolerance=0)
    new = layer.update(state, tf.constant(random(5, 4)), tf.constant(random(5, 3)))
    assert np.all(new["kernel"] != state["kernel"])
    assert_close([weight.numpy() for weight in layer.weights], before, tolerance=0)


def test_unknown_granularity():
    with pytest.raises(ValueError, match="--granularity=per_cell .* per_synapse, per_neuron, per_layer"):
        PlasticDense(3, granularity="per_cell")


def test_pathway_without_its_method_says_what_is_missing():
    layer = Pathway(2)
    layer.build((3,))
    with pytest.raises(TypeError, match=r"Pathway does not define pathway\(signal, above, state\)"):
        layer(tf.zeros((5, 3)), tf.zeros((5, 2)))


def test_rule_without_its_method_says_what_is_missing():
    layer = dense(rule=Rule(dtype="float64"))
    with pytest.raises(TypeError, match=r"Rule does not define call\(kernel, pre, post\)"):
        layer.update(layer.get_initial_state(), tf.constant(random(5, 4)), tf.constant(random(5, 3)))
