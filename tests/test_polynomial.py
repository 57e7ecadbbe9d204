"""The polynomial rule: directions and meta-gradients against NumPy, and the rules that it starts as."""

import itertools

import commands
import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import (
    REGRESSION,
    assert_close,
    build_learner,
    in_order,
    kernels_of,
    meta_gradient,
    newborn_learner,
    random_episode,
    to_numpy,
    weights_by_layer,
)

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.plasticity import PolynomialRule

# Terms without pre, without post, without both, with and without the weight.
TERMS = ("110", "021", "111", "010", "100", "003", "212", "101")
STEPS = 3


def direction(theta, kernel, pre, post):
    """One sample and one synapse after the other; also of complex numbers."""
    found = np.zeros(kernel.shape, np.result_type(kernel, pre, post, *theta.values()))
    for n, a, b in itertools.product(range(len(pre)), *map(range, kernel.shape)):
        for term, coefficient in theta.items():
            i, j, k = map(int, term)
            found[a, b] += coefficient * pre[n, a] ** i * post[n, b] ** j * kernel[a, b] ** k
    return found


@pytest.mark.parametrize("lifetimes", [(), (2,)])
@pytest.mark.parametrize("terms", [TERMS, ("100",), ("003", "000")])
def test_direction(terms, lifetimes):
    rng = np.random.default_rng(0)
    kernel, pre, post = (rng.normal(size=(*lifetimes, *shape)) for shape in ((4, 3), (5, 4), (5, 3)))
    rule = PolynomialRule(terms, start="zero", dtype="float64")
    rule.build((4, 3))
    assert list(rule.theta) == list(terms)
    for theta in rule.theta.values():
        theta.assign(rng.normal())
    found = rule(*map(tf.constant, (kernel, pre, post)))
    assert found.shape == kernel.shape
    for i in np.ndindex(lifetimes):
        assert_close(found[i], direction(to_numpy(dict(rule.theta)), kernel[i], pre[i], post[i]))


# Coefficients that start at zero need it.
LEARNS = {"plasticity_init": 1.0, "output_plasticity_init": 1.0}


@pytest.mark.parametrize("start", ["oja", "hebb"])
def test_starts(start, float64):
    """A lifetime of new coefficients is one of the rule that they start as; all others are zero."""
    learners = [newborn_learner(rule="polynomial", rule_start=start, plasticity_init=0.5), None]
    learners[1] = newborn_learner(rule=start, plasticity_init=0.5)
    states = [kernels_of(one, lifetime.run(one, random_episode(steps=STEPS)).state) for one in learners]
    assert_close(*states)
    theta = newborn_learner(rule="polynomial", rule_start="zero", **LEARNS).network.head[0].rule.theta
    assert not any(np.any(value) for value in theta.values())


@pytest.mark.parametrize("flag", ["--plasticity_init=0", "--output_plasticity_init=0"])
def test_nothing_to_learn_is_refused(flag, tmp_path):
    """With coefficients and plasticity at zero all gradients are."""
    run = tmp_path / "run"
    line = commands.refusal(*commands.SHORT, "--rule=polynomial", "--rule_start=zero", flag, f"--logdir={run}")
    assert "--rule_start=zero learns nothing" in line and not run.exists()


def test_lifetime_and_meta_gradients(float64):
    """Through the segmented engine, against complex steps through a loop in NumPy."""
    learner = build_learner(rule="polynomial", rule_terms=TERMS, rule_start="zero", plasticity_scale=0.02, **LEARNS)
    episode = random_episode(steps=STEPS).lifetime(0)
    head = learner.network.head
    weights = to_numpy({"layers": weights_by_layer(learner), "theta": [dict(layer.rule.theta) for layer in head]})
    xs, ys, query_x, query_y = (part[:, 0] if i < 2 else part[0] for i, part in enumerate(to_numpy(episode)[:4]))

    def loss(weights):
        layers, fast = weights["layers"], [layer["W"] for layer in weights["layers"]]
        for x, y in zip(xs, ys):
            h = numpy_reference.forward(layers, fast, x)
            new = list(fast)
            for k, theta in enumerate(weights["theta"], start=1):
                z = numpy_reference.relu((y - h[-1]) @ layers[k]["B"][0] + layers[k]["c"][0])
                post = (1 - layers[k]["beta"]) * h[k + 1] + layers[k]["beta"] * z
                new[k] = fast[k] + 0.02 * layers[k]["a"] * direction(theta, fast[k], h[k], post)
            fast = new
        return numpy_reference.mean_squared_error(numpy_reference.forward(layers, fast, query_x)[-1], query_y)

    found = meta_gradient(learner, REGRESSION, episode, 2)
    assert_close(found.loss, loss(weights))
    gradients = dict(zip(learner.trainable, in_order(learner, found.gradients)))
    paths = [f"network/layers/{layer.name}/rule/theta/{term}" for layer in head for term in TERMS]
    assert list(learner.groups()["rule"]) == paths
    flat = tf.nest.flatten(weights)
    leaves = {id(leaf): i for i, leaf in enumerate(flat)}
    for layer, theta in zip(head, weights["theta"]):
        for term, value in theta.items():
            expected = numpy_reference.derivative(loss, weights, leaves[id(value)], ())
            assert_close(gradients[f"network/layers/{layer.name}/rule/theta/{term}"], expected)
            assert expected


@pytest.mark.parametrize("terms", [(), ("11",), ("110", "110"), ("1a0",), ("-10",)])
def test_terms_that_cannot_be_read(terms):
    with pytest.raises(InputError, match=f"^--rule_terms={','.join(terms)} cannot be read; legal are"):
        PolynomialRule(terms, start="zero")


def test_start_needs_its_terms():
    with pytest.raises(InputError, match="^--rule_start=oja needs the term 021, which --rule_terms=110,111 lacks"):
        PolynomialRule(("110", "111"))
