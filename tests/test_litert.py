"""LiteRT files and the signatures of a SavedModel: what they learn is what the library learns."""

import functools
import json
import os
import shutil
import types

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import contents, refusal

import flp_tf
from flp_tf import learners, lifetime
from flp_tf.errors import InputError
from flp_tf.export import Functions, export, litert
from flp_tf.runs import labels
from flp_tf.runs.directory import RunDirectory
from flp_tf.tasks import Sine

pytestmark = pytest.mark.slow

SMALL = {"task": "sine", "num_sines": 2, "lifetime": 6, "batch_size": 4, "query_size": 4, "network": "8-8"}
# Every learner, rule, pathway and initial state: they do not depend on each other.
LOCAL = {
    "flp": {},
    "feature_reuse": {"method": "feature_reuse"},
    "dfa, polynomial, gaussian": {"method": "dfa", "rule": "polynomial", "initial": "gaussian"},
    "recurrent, cascade": {"method": "recurrent", "sub_steps": 3, "feedback": "cascade"},
    "plastic feedback, redrawn": {"feedback": "plastic", "initial": "redrawn"},
    "output feedback": {"hidden_feedback": False, "plasticity_init": 1.0},
}


def learner_and_task(**flags):
    """Returns a learner that learns within a lifetime, and its task."""
    local = (
        {} if flags.get("method") in ("gradient", "oml") else {"plasticity_scale": 0.01, "output_plasticity_init": 1.0}
    )
    config = flp_tf.configure(**SMALL | local | flags)
    task = config.make_task()
    return learners.build(config, task), task


def lifetime_of(learner, episode):
    """Returns the library's outputs for the query before and after a lifetime."""
    born = learner.initial_state(tf.zeros([1, 2], tf.int32))
    grown = lifetime.run(learner, episode, state=born, segment_length=lifetime.PLAIN).state
    return [lifetime.query(learner, state, episode)[0].numpy() for state in (born, grown)]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """Makes the file of a learner of `LOCAL` for batches of a size, once; returns learner, task and file."""

    @functools.cache
    def made(name, batch):
        learner, task = learner_and_task(**LOCAL[name])
        return learner, task, litert.write(learner, tmp_path_factory.mktemp("file"), batch=batch)

    return made


@pytest.mark.parametrize("name", LOCAL)
def test_a_file_learns_as_the_library_does(name, file_of):
    pytest.importorskip("ai_edge_litert")
    learner, task, file = file_of(name, None)
    episode = task.sample(3, 0, 1, "test")
    model = litert.Interpreted(file)
    found = [model.predict(episode.query_x[0].numpy())]
    for x, y in zip(episode.support_x[:, 0].numpy(), episode.support_y[:, 0].numpy()):
        model.learn(x, y)
    found.append(model.predict(episode.query_x[0].numpy()))
    expected = lifetime_of(learner, episode)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(expected[1] - expected[0])) > 1e-3
    model.reset()
    np.testing.assert_array_equal(model.predict(episode.query_x[0].numpy()), found[0])


@pytest.mark.parametrize("method", ["gradient", "oml"])
def test_methods_with_gradients_say_what_they_need(method, tmp_path):
    learner, _ = learner_and_task(method=method)
    with pytest.raises(
        InputError, match=r"^--format=litert: \w+ needs .*ReluGrad.* --method=flp .* --format=saved_model"
    ):
        litert.write(learner, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bfloat16_trunk_goes_in_float32(bare, eager, tmp_path, capsys):
    """The command says so; the library names the way. Errors are those of flp_tf in float32, with the same weights."""
    run = tmp_path / "run"
    commands.run(*commands.SHORT, "--trunk_precision=bfloat16", f"--logdir={run}")
    with pytest.raises(InputError, match=r'^--format=litert: LiteRT has no bfloat16.*trunk_precision="float32"'):
        litert.convert(flp_tf.load(run).learner)
    commands.run("--mode=export", "--format=litert", f"--logdir={run}", f"--output={tmp_path / 'out'}")
    assert "the trunk computes in float32, with its weights as they are" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/litert.json").read_text())
    assert report["after"] == pytest.approx(report["library"], rel=1e-4)


def test_a_state_without_entries_cannot_go():
    """Such as the biases of a layer without units."""

    class Empty(type(learner_and_task()[0])):
        def initial_state(self, seeds=None):
            return super().initial_state(seeds) | {"biases": tf.zeros([1, 0])}

    learner, _ = learner_and_task()
    learner.__class__ = Empty
    with pytest.raises(
        InputError, match=r"^--format=litert: biases of the state of Empty has no entries, .* takes all$"
    ):
        litert.convert(learner)


def test_what_is_drawn_within_an_inner_step_cannot_go():
    class Noisy(type(learner_and_task()[0])):
        def learn(self, state, features, y):
            noise = tf.random.stateless_normal(features.shape, tf.cast(state["layer_1"]["kernel"][0, 0, :2], tf.int32))
            return super().learn(state, features + noise, y)

    learner, _ = learner_and_task()
    learner.__class__ = Noisy
    with pytest.raises(
        InputError, match=r"^--format=litert: Noisy needs Stateless\w+.*; only the initial state can be"
    ):
        litert.convert(learner, batch=4)


def test_what_the_converter_says_of_other_networks_is_one_line(monkeypatch):
    """Such as of the loop of a `keras.layers.LSTM` in the trunk."""

    def refuses():
        raise RuntimeError("\nLowering tensor list ops is failed.\nTraceback of the converter")

    converter = types.SimpleNamespace(convert=refuses)
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda folder, **options: converter)
    with pytest.raises(
        InputError, match=r"^--format=litert: .*: Lowering tensor list ops is failed\.; --format=\S+ takes all$"
    ):
        litert.convert(learner_and_task()[0])


def test_precision_of_weights():
    learner, _ = learner_and_task(network="64-64", num_plastic_layers=1)
    sizes = [len(litert.convert(learner, weights)) for weights in litert.WEIGHTS]
    assert sizes[0] > sizes[1] > sizes[2]
    with pytest.raises(InputError, match="--weights=int4 is unknown; legal values: float32, float16, int8"):
        litert.convert(learner, "int4")


def test_batches_of_one_size(file_of):
    """LiteRT.js wants the size in the file; what is learned is the same."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    outputs = []
    for batch in (None, SMALL["batch_size"]):
        _, task, file = file_of("flp", batch)
        episode = task.sample(3, 0, 1, "test")
        x, y = (part[0, 0].numpy() for part in (episode.support_x, episode.support_y))
        of_file = interpreter.Interpreter(str(file)).get_signature_runner("learn").get_input_details()
        assert [of_file[part]["shape_signature"][0] for part in ("x", "y")] == [batch or -1] * 2
        model = litert.Interpreted(file)
        model.learn(x, y)
        outputs.append(model.predict(x))
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_signatures_of_a_saved_model(tmp_path):
    """With the state in the model, and with a state that is passed: the same outputs, and those of the library."""
    learner, task = learner_and_task()
    export(learner, tmp_path / "export")
    model = tf.saved_model.load(str(tmp_path / "export"))
    run, episode = model.signatures, task.sample(3, 0, 1, "test")
    names = list(Functions(learner).state)
    assert names == ["layer_1_kernel", "layer_2_kernel"]
    expected = lifetime_of(learner, episode)
    state, query = run["initial_state"](), {"x": episode.query_x[0]}
    assert sorted(state) == names
    for t in range(task.steps):
        batch = {"x": episode.support_x[t, 0], "y": episode.support_y[t, 0]}
        state = run["learn_from"](**batch, **state)
        assert run["learn"](**batch)["steps"] == t + 1
    for outputs in (run["predict_from"](**query, **state), run["predict"](**query)):
        np.testing.assert_allclose(outputs["outputs"], expected[1], rtol=1e-4, atol=1e-5)
    assert run["reset"]()["steps"] == 0
    np.testing.assert_allclose(run["predict"](**query)["outputs"], expected[0], rtol=1e-4, atol=1e-5)


def test_names_of_a_nested_state_differ():
    class Nested(type(learner_and_task()[0])):
        def initial_state(self, seeds=None):
            return {"a": {"b": tf.zeros([1, 2])}, "a_b": (tf.ones([1]), tf.ones([1, 3]))}

    learner, _ = learner_and_task()
    learner.__class__ = Nested
    state = Functions(learner).state
    assert {name: tuple(spec.shape) for name, spec in state.items()} == {"a_b": (2,), "a_b_0": (), "a_b_1": (3,)}


def test_the_command_makes_files_of_one_batch(finished_run, tmp_path, capsys):
    """Measured where the batch is that of the task, which has queries of another size; else it says why not."""
    pytest.importorskip("ai_edge_litert")
    arguments = ["--mode=export", "--format=litert", f"--logdir={finished_run.path}"]
    for batch in (4, 1):
        output = tmp_path / str(batch)
        commands.run(*arguments, f"--batch={batch}", f"--output={output}")
        assert litert.Interpreted(output / "model.tflite").batch == batch
    report = json.loads((tmp_path / "4" / "litert.json").read_text())
    assert report["batch"] == 4
    np.testing.assert_allclose(report["after"], report["library"], rtol=1e-4)
    assert not (tmp_path / "1" / "litert.json").exists()
    line = "It was not measured: an inner step of the task has 4 examples, one of the file, by --batch, 1"
    assert line in capsys.readouterr().out


def test_a_file_is_not_measured_on_other_data(run_copy, tmp_path, monkeypatch, capsys):
    """It is written all the same, because it does not depend on them."""
    pytest.importorskip("ai_edge_litert")
    config = json.loads((run_copy / "config.json").read_text())
    config["versions"]["data"] = "these"
    (run_copy / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(Sine, "fingerprint", "those")
    commands.run("--mode=export", "--format=litert", f"--logdir={run_copy}", f"--output={tmp_path / 'out'}")
    assert "It was not measured: --task=sine has other data than those that" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.tflite"]


def test_the_report_of_an_earlier_file_goes_with_it(run_copy, tmp_path, monkeypatch):
    """Where the next file cannot be measured; one that cannot be made leaves both."""
    monkeypatch.setattr(litert, "has_interpreter", lambda: False)
    label = labels.label(RunDirectory(run_copy).config())
    RunDirectory(tmp_path).write("litert.json", {"batch": 4, "run": label})
    before = contents(tmp_path)
    arguments = ("--mode=export", "--format=litert", f"--logdir={run_copy}", f"--output={tmp_path}")

    def refuses(*_):
        raise InputError("it cannot be made")

    with monkeypatch.context() as patch:
        patch.setattr(litert, "convert", refuses)
        assert "it cannot be made" in refusal(*arguments)
    assert contents(tmp_path) == before
    monkeypatch.setattr(litert, "convert", lambda *_: b"    TFL3")
    commands.run(*arguments)
    assert contents(tmp_path).keys() - before.keys() == {"model.tflite"} and not (tmp_path / "litert.json").exists()


def test_predictions_of_any_number_of_examples(file_of):
    """Of 7 by a file for any number, and by one for batches of 4."""
    pytest.importorskip("ai_edge_litert")
    files = [file_of("flp", batch) for batch in (None, SMALL["batch_size"])]
    x = files[0][1].sample(3, 0, 1, "test").query_x[0].numpy()[:7]
    found = [litert.Interpreted(file).predict(x) for *_, file in files]
    assert len(x) == len(found[0]) == len(found[1]) == 7
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_export_of_a_read_only_run_into_another_folder(finished_run, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    run = shutil.copytree(finished_run.path, tmp_path / "run")
    shutil.rmtree(run / "export")
    before = contents(run)
    arguments = ["--mode=export", f"--logdir={run}"]
    commands.run(*arguments, "--format=litert", "--weights=float16", f"--output={tmp_path / 'litert'}")
    commands.run(*arguments, f"--output={tmp_path / 'saved'}")
    commands.run("--mode=evaluate", f"--logdir={run}", f"--output={tmp_path / 'evaluation'}")
    assert contents(run) == before
    report = json.loads((tmp_path / "litert" / "litert.json").read_text())
    assert report["weights"] == "float16" and report["bytes"] == os.path.getsize(tmp_path / "litert" / "model.tflite")
    assert report["milliseconds_per_step"] > 0
    np.testing.assert_allclose(report["after"], report["library"], rtol=0.05)
    assert (tmp_path / "saved" / "saved_model.pb").exists()
    assert (tmp_path / "evaluation" / "evaluation.json").exists()
    assert "ms per inner step" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format=onnx"], "--format=onnx is unknown; legal values: saved_model, litert"),
        (["--format=litert", "--weights=int4"], "--weights=int4 is unknown; legal values: float32, float16, int8"),
        (["--weights=int8"], "--weights does not go with --format=saved_model; it goes with --format=litert"),
        (["--batch=1"], "--batch does not go with --format=saved_model; it goes with --format=litert"),
        (
            ["--format=litert", "--batch=-1"],
            "--batch=-1 is no number of examples; legal values are 0 (any) to 2147483647",
        ),
        (["--format=litert", "--batch=one"], "--batch=one cannot be read; legal is an integer"),
        (["--mode=evaluate", "--batch=1"], "--batch does not go with --mode=evaluate; it goes with --mode=export"),
    ],
)
def test_bad_flags(arguments, message, finished_run):
    assert message in refusal("--mode=export", f"--logdir={finished_run.path}", *arguments)
