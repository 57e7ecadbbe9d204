"""Adaptability: what is frozen, what goes on learning, where it is kept."""

import analysis_runs as tiny
import commands
import helpers
import numpy as np
import pytest
import tensorflow as tf
from analysis_runs import LIFETIMES, SEED

from flp_tf.analysis.adaptability import AdaptabilityOptions, adapted_config, fingerprint, frozen_copy
from flp_tf.analysis.readout import errors_after_lifetime
from flp_tf.analysis.series import Series
from flp_tf.runs.run import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager")]

ADAPTATION = {
    "episodes": 3,
    "eval_every": 3,
    "slow_rate": 0.01,
    "feedback_rate": 0.01,
    "plasticity_rate": 0.01,
    "strength_rate": 0.01,
    "segment_length": -1,
}
# Of the analysis: as the runs above are trained, but for what is gentle unless given.
SHORT = {"warmup_steps": 2}


def reused(**flags):
    """Returns a feature-reuse network whose further plasticity starts from zero."""
    return tiny.sine_run("runs/reused", method="feature_reuse", num_plastic_layers=1, **ADAPTATION | flags)


def weights(learner):
    return helpers.to_numpy(helpers.weights_by_layer(learner))


def test_before_adaptation_it_is_feature_reuse():
    run = reused()
    config = tiny.sine_run(**ADAPTATION).config
    copy = run._replace(config=config, learner=frozen_copy(run, config))
    errors = [errors_after_lifetime(Series("", (network,)), lifetimes=LIFETIMES, seed=SEED) for network in (run, copy)]
    np.testing.assert_allclose(*errors, rtol=1e-4)
    groups = {name: len(group) for name, group in copy.learner.groups().items()}
    assert groups == {"feedback": 4, "plasticity": 2, "strength": 2}


def test_adaptation_moves_all_but_the_forward_weights(tmp_path):
    """The control moves the output layer alone, where it began as the trained network had it."""
    run, flp = reused(), tiny.sine_run(num_plastic_layers=2)
    result = tiny.analyze("adaptability", [run, flp], tmp_path, lifetimes=2, **SHORT)
    png, table, events = result.files
    assert png.stat().st_size > 10_000 and events.exists()
    assert [(row["tested"], row["quantity"], row["unit"]) for row in tiny.table(table)] == [
        ("after the lifetime", "error", "MSE")
    ] * 4
    labels = [(row["method"], row["plastic_layers"]) for row in result.rows]
    control = ("feature reuse (1) + lifetimes", 1)
    assert labels == [("feature reuse (1)", 1), control, ("FLP (2)", 2), ("feature reuse (1) + plasticity (2)", 2)]
    origins = [("", None), ("feature reuse (1)", 0), ("", None), (control[0], 1)]
    for row, (name, origin) in zip(result.rows, origins):
        assert row["relative_to"] == name
        assert not name or row["change"] == pytest.approx(row["mean"] / result.rows[origin]["mean"])
    for method, depth in (("flp", 2), ("feature_reuse", 1)):
        (adapted,) = tmp_path.glob(f"reused_{method}{depth}_*")
        adapted = load(adapted)
        config = adapted.config
        assert (config.method, config.num_plastic_layers, config.episodes) == (method, depth, 3)
        before, after = weights(frozen_copy(run, config)), weights(adapted.learner)
        for old, new in zip(before, after, strict=True):
            assert np.array_equal(old["W"], new["W"]) and np.array_equal(old["b"], new["b"])
        for old, new in zip(before[-depth:], after[-depth:]):
            assert not np.array_equal(old["a"], new["a"])
            assert old["beta"] != new["beta"]
        assert not np.array_equal(before[-depth]["B"][0], after[-depth]["B"][0])


def test_a_finished_adaptation_is_not_repeated(bare, tmp_path, capsys):
    run = reused()
    results = [tiny.analyze("adaptability", [run], tmp_path, lifetimes=2, **SHORT) for _ in range(2)]
    assert "Continuing" in capsys.readouterr().out
    assert results[0].rows == results[1].rows
    assert [row["plastic_layers"] for row in results[0].rows] == [1, 1, 2]


def test_what_is_not_given_is_gentle_or_as_trained():
    run = reused(clip_norm=0.5, curriculum="3:1")
    config = adapted_config(run.config, 3, vars(AdaptabilityOptions(episodes=200)))
    assert (config.method, config.num_plastic_layers, config.curriculum) == ("flp", 3, "")
    assert (config.feedback_rate, config.clip_norm, config.slow_rate) == (0.01, 0.5, 0.01)
    assert (config.plasticity_rate, config.strength_rate, config.warmup_steps) == (1e-4, 1e-4, 100)
    assert config.episodes == 200 and config.lifetime == run.config.lifetime


def test_other_features_or_flags_are_adapted_anew():
    """Of other weights, another seed in a folder of the same name, or other outer steps nothing is kept."""
    run, again, seed, changed = reused(), reused(), reused(seed=5), reused()
    changed.learner.network.head[-1].kernel.assign_add(tf.ones([6, 1]))
    first = fingerprint(run, run.config)
    assert fingerprint(again, run.config.replace(log_every=1)) == first
    others = [fingerprint(other, run.config) for other in (seed, changed)]
    others.append(fingerprint(run, run.config.replace(episodes=2)))
    assert len({first, *others}) == 4


@pytest.mark.parametrize(
    "method, message", [("flp", "feature_reuse"), ("gradient", "feature_reuse and flp.*--logdir=runs/sine is gradient")]
)
def test_runs_that_cannot_be_adapted_are_refused(tmp_path, method, message):
    with pytest.raises(ValueError, match=f"^--analysis=adaptability .*{message}"):
        tiny.analyze("adaptability", [tiny.sine_run(method=method)], tmp_path)


def test_rates_of_the_command_line_are_those_of_the_adaptation(bare, without_pictures, tmp_path):
    """What a run that keeps diverging is advised to lower can be lowered here, too."""
    run, out = tmp_path / "reused", tmp_path / "out"
    commands.run(*commands.SHORT, "--method=feature_reuse", "--episodes=1", f"--logdir={run}")
    command = ["--mode=analyze", "--analysis=adaptability", f"--logdir={run}", f"--output={out}", "--episodes=2"]
    commands.run(*command, "--plasticity_rate=0.002", "--warmup_steps=1", "--eval_episodes=2")
    (adapted,) = out.glob("reused_flp2_*")
    config = load(adapted).config
    assert (config.plasticity_rate, config.warmup_steps, config.feedback_rate) == (0.002, 1, 0.01)
    assert (config.episodes, config.strength_rate) == (2, 1e-4)  # What is not given is gentle, whatever the run had.


def test_flags_of_the_outer_loop_go_with_no_other_analysis(tmp_path):
    command = ["--mode=analyze", "--analysis=readout", f"--logdir={tmp_path}", "--warmup_steps=1"]
    with pytest.raises(SystemExit, match="--warmup_steps does not go with --analysis=readout; legal are .*seed"):
        commands.run(*command)
