"""Rates that decay step by step, against their closed form."""

import numpy as np
import pytest
from helpers import build_learner
from trainers import make_trainer

from flp_tf.errors import InputError
from flp_tf.meta.optimizers import Optimizers
from flp_tf.meta.options import OuterLoop
from flp_tf.meta.schedules import Steps
from flp_tf.runs.config import Config, configure


def rates(optimizers, group, updates):
    """Returns the rate of a group at the number of every update."""
    optimizer, found = optimizers.optimizers[group], []
    for update in range(updates):
        optimizer.iterations.assign(update)
        found.append(float(optimizer.learning_rate))
    return found


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("group", ["all", "slow"])
def test_rates_decay_at_every_milestone(group, warmup):
    """Each milestone multiplies once more, one that stands twice does twice; other groups stay as they are."""
    options = OuterLoop(slow_rate=0.2, feedback_rate=0.2, warmup_steps=warmup)
    schedule = Steps(milestones=(7, 4, 5, 5), decay=0.5, decay_group=group)
    optimizers = Optimizers(build_learner().groups(), options, 9, schedule)
    decayed = [1, 1, 1, 1, 0.5, 0.125, 0.125, 0.0625, 0.0625]
    warm = np.minimum(np.arange(9) / warmup, 1) if warmup else np.ones(9)
    for name, factors in (("slow", decayed), ("feedback", decayed if group == "all" else np.ones(9))):
        np.testing.assert_allclose(rates(optimizers, name, 9), 0.2 * warm * factors, rtol=1e-6)


def test_no_milestones_and_a_decay_to_zero():
    assert [float(Steps(()).course("slow", 0.5, 4)(step)) for step in range(4)] == [0.5] * 4
    assert [float(Steps((1,), 0.0).course("slow", 0.5, 4)(step)) for step in range(3)] == [0.5, 0, 0]


def test_milestones_are_lifetimes():
    """Of a meta-batch the decay comes with the first outer step that begins after the milestone."""
    flags = {"schedule": "steps", "milestones": (3, 4), "decay": 0.1, "decay_group": "slow"}
    np.testing.assert_allclose(
        rates(make_trainer(**flags).optimizers, "slow", 6), [0.01] * 3 + [1e-3] + [1e-4] * 2, rtol=1e-6
    )
    trainer = make_trainer(**flags, meta_batch=2)
    np.testing.assert_allclose(rates(trainer.optimizers, "slow", 3), [0.01, 0.01, 1e-4], rtol=1e-6)
    np.testing.assert_allclose(rates(trainer.optimizers, "plasticity", 3), [0.01] * 3, rtol=1e-6)


def test_milestones_are_lifetimes_where_each_has_several_updates():
    """Four lifetimes of 4 steps with two unrolls each, then some of 6 with three."""
    flags = {"estimator": "pes", "pairs": 1, "unrolls": 3, "lifetime": 6, "curriculum": "4:4", "batch_size": 2}
    found = rates(make_trainer(**flags, schedule="steps", milestones=(2, 5), decay=0.5).optimizers, "slow", 14)
    np.testing.assert_allclose(found, [0.01] * 4 + [0.005] * 7 + [0.0025] * 3, rtol=1e-6)


def test_a_step_is_smaller_after_a_milestone():
    """SGD moves the weights by the rate times the gradient, before and after."""
    groups = build_learner(method="oml").groups()
    optimizers = Optimizers(groups, OuterLoop(slow_optimizer="sgd", slow_rate=0.5), 2, Steps((1,), 0.5))
    gradients = {"slow": {path: np.ones(weight.shape, "float32") for path, weight in groups["slow"].items()}}
    weight = next(iter(groups["slow"].values()))
    for moved in (0.5, 0.25):
        before = weight.numpy()
        optimizers.apply(gradients)
        np.testing.assert_allclose(before - weight.numpy(), moved, rtol=1e-5)


def test_options_belong_to_the_schedule():
    config = configure(schedule="steps")
    assert (config.milestones, config.decay, config.decay_group) == ((1500, 2500, 3500), 0.3, "all"), "as published"
    assert Config.from_dict(config.to_dict()) == config
    for flag, value in {"milestones": (2,), "decay": 0.5, "decay_group": "slow"}.items():
        with pytest.raises(
            InputError, match=f"^--{flag} does not go with --schedule=cosine; it goes with --schedule=steps$"
        ):
            configure(schedule="cosine", **{flag: value})
    assert not hasattr(configure(), "milestones")


def test_weights_that_no_component_has_cannot_decay():
    with pytest.raises(InputError, match="^--decay_group=rule has no weights here; legal values: all, slow, feedback"):
        make_trainer(schedule="steps", decay_group="rule")


def test_the_choice_of_older_runs_is_the_same_flag():
    """Runs stored `schedule` among the options of the outer loop."""
    assert Config.from_dict({"task": "sine", "method": "flp", "schedule": "constant"}).schedule == "constant"
    with pytest.raises(InputError, match="^--schedule=linear is unknown; legal values: constant, cosine, steps$"):
        configure(schedule="linear")
