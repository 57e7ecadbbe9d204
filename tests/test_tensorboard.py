"""The real TensorBoard over a finished run, read back over HTTP."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from commands import TENSORBOARD
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import flp_tf
from flp_tf import learners
from flp_tf.meta.evaluation import Evaluator
from flp_tf.runs.summaries import Summaries
from flp_tf.runs.training import VALIDATION_EPISODES, make_trainer

pytestmark = pytest.mark.slow

GROUPS = ("slow", "feedback", "plasticity", "strength")
LAYERS = ("layer_1", "layer_2")
SCALARS = {
    "query/loss",
    "query/error",
    "validation/error",
    "validation/error_before_lifetime",
    "outer/skipped_steps",
    "outer/episodes_per_second",
    "outer/minutes",
    *(f"gradient_norm_log10/{group}" for group in GROUPS),
    *(f"parameter_norm/{group}" for group in GROUPS),
    *(f"beta/{layer}" for layer in LAYERS),
}
HISTOGRAMS = {
    *(f"alpha/{layer}" for layer in LAYERS),
    *(f"feedback/{layer}/{weight}" for layer in LAYERS for weight in ("kernels/0", "biases/0")),
}


class TensorBoard:
    """A TensorBoard server over one run."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def get(self, path: str, **query):
        """Returns what the server answers: decoded JSON, or the bytes of an image."""
        address = f"{self.url}/data/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(address, timeout=30) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers["Content-Type"] else body

    def tags(self, plugin: str) -> set[str]:
        """Returns the tags that a plugin shows of the run."""
        return set(self.get(f"plugin/{plugin}/tags").get(".", {}))

    def scalars(self, tag: str) -> dict[int, float]:
        """Returns a scalar's values by lifetime."""
        points = self.get("plugin/scalars/scalars", run=".", tag=tag)
        return {step: value for _, step, value in points}


@pytest.fixture(scope="module")
def board(finished_run):
    process = subprocess.Popen(
        [sys.executable, "-c", TENSORBOARD, "--logdir", str(finished_run.path), "--host=127.0.0.1", "--port=0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"http://127\.0\.0\.1:\d+/", line):
                break
        else:
            pytest.fail(f"TensorBoard did not start: {''.join(lines)}")
        server = TensorBoard(match[0])
        deadline = time.monotonic() + 60
        # Events are read in the background.
        while not ({"query/loss"} <= server.tags("scalars") and server.tags("images")):
            assert time.monotonic() < deadline, "TensorBoard shows no events"
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_all_scalars_are_there(board):
    assert board.tags("scalars") == SCALARS


def test_query_losses_and_gradient_norms_are_means_of_those_of_training(board, finished_run):
    """Two outer steps make a point (`--log_every=2`), at the lifetimes done."""
    norms = {f"gradient_norm_log10/{group}": f"gradient_norm/{group}" for group in GROUPS}
    for tag, name in ({"query/loss": "loss", "query/error": "error"} | norms).items():
        rows = [np.log10(row[name]) if tag in norms else row[name] for row in finished_run.metrics]
        expected = {step: np.mean(rows[step - 2 : step]) for step in (2, 4, 6)}
        assert board.scalars(tag) == pytest.approx(expected, rel=1e-6), tag
        assert len(set(rows)) == 6


def test_meta_test_errors_are_of_unseen_sines(board, finished_run):
    _, config, task, learner = flp_tf.load(finished_run.path)
    evaluation = Evaluator(learner, task, jit_compile=False)(config.seed, VALIDATION_EPISODES, "validation")
    errors = board.scalars("validation/error")
    assert list(errors) == [3, 6]
    assert errors[6] == pytest.approx(evaluation.meta_test()["mean"], rel=1e-6)
    assert board.scalars("validation/error_before_lifetime")[6] == pytest.approx(evaluation.before.mean(), rel=1e-6)


def test_parameter_norms_and_strengths_are_those_of_the_weights(board, finished_run):
    learner = flp_tf.load(finished_run.path).learner
    assert tuple(learner.groups()) == GROUPS
    for group, weights in learner.groups().items():
        norm = np.sqrt(sum(np.sum(np.square(weight.numpy())) for weight in weights.values()))
        assert board.scalars(f"parameter_norm/{group}")[6] == pytest.approx(norm, rel=1e-5)
    for layer in learner.network.head:
        strengths = board.scalars(f"beta/{layer.name}")
        assert strengths[6] == pytest.approx(float(layer.feedback.strength.numpy()), rel=1e-6)
        assert strengths[6] != pytest.approx(0.5, abs=1e-4), "beta is meta-learned"


def test_skipped_steps_and_speed(board):
    assert board.scalars("outer/skipped_steps") == {2: 0, 4: 0, 6: 0}
    assert all(speed > 0 for speed in board.scalars("outer/episodes_per_second").values())


def test_histograms_hold_plasticity_and_feedback(board, finished_run):
    assert board.tags("histograms") == HISTOGRAMS
    learner = flp_tf.load(finished_run.path).learner
    tensors = {f"alpha/{layer.name}": layer.alpha for layer in learner.network.head}
    tensors |= {f"feedback/{layer.name}/kernels/0": layer.feedback.kernels[0].value for layer in learner.network.head}
    for tag, tensor in tensors.items():
        _, step, buckets = board.get("plugin/histograms/histograms", run=".", tag=tag)[-1]
        assert step == 6
        assert sum(count for _, _, count in buckets) == np.size(tensor)
        assert buckets[0][0] == pytest.approx(float(np.min(tensor)), rel=1e-5)
        assert buckets[-1][1] == pytest.approx(float(np.max(tensor)), rel=1e-5)


def test_hyperparameters(board):
    request = {"experimentName": "", "startIndex": 0, "sliceSize": 9, "allowedStatuses": ["STATUS_UNKNOWN"]}
    address = urllib.request.Request(
        f"{board.url}/data/plugin/hparams/session_groups",
        data=json.dumps(request).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(address, timeout=30) as answer:
        (group,) = json.load(answer)["sessionGroups"]
    assert group["hparams"]["method"] == "flp"
    assert group["hparams"]["slow_rate"] == pytest.approx(0.01)
    assert group["hparams"]["num_plastic_layers"] == 2
    assert group["hparams"]["continual"] is True
    metrics = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    assert metrics["validation/error"] == pytest.approx(board.scalars("validation/error")[6])


def test_what_the_run_is_stands_there_as_text(board):
    (text,) = board.get("plugin/text/text", run=".", tag="run")
    assert "flp(2) on sine, continual" in text["text"]
    for cell in ("--slow_rate", "0.01", "--recipe", "paper"):
        assert cell in text["text"]


def test_share_of_clipped_steps(tmp_path):
    """One meta-gradient of 1e12 moves the logarithm of the norm, and one step of four is clipped."""
    config = flp_tf.configure(task="sine", network="8-8", clip_norm=1.0, log_every=4, episodes=4)
    task = config.make_task()
    trainer = make_trainer(config, task, learners.build(config, task))
    summaries = Summaries(tmp_path, trainer, config)
    summaries.open(restored=False)
    for step, norm in enumerate((0.1, 0.0, 1e12, 0.1), start=1):
        trainer.variables["outer/steps"].assign(step)
        norms = {f"gradient_norm/{group}": norm for group in trainer.optimizers.groups}
        summaries.record({"loss": 1.0, "error": 1.0, **norms}, 1.0)
    summaries.flush()
    accumulator = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    found = {tag: tf.make_ndarray(accumulator.Tensors(tag)[0].tensor_proto) for tag in accumulator.Tags()["tensors"]}
    assert found["clipped/slow"] == 0.25
    assert found["gradient_norm_log10/slow"] == pytest.approx((-1 + 12 - 1) / 3)


def test_picture_of_an_episode(board):
    images = board.get("plugin/images/images", run=".", tag="episode", sample=0)
    assert [image["step"] for image in images] == [3, 6]
    pictures = []
    for image in images:
        png = board.get(f"plugin/images/individualImage?{image['query']}")
        pictures.append(tf.io.decode_png(png, channels=3).numpy())
    for picture in pictures:
        # The target's grey, before's orange and after's blue are drawn.
        colors = {tuple(color) for color in picture.reshape(-1, 3)}
        assert {(153, 153, 153), (255, 127, 14), (31, 119, 180)} <= colors
    assert np.any(pictures[0] != pictures[1])
