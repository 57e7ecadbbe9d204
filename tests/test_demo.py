"""The page of `tools/demo` in headless Chromium: what it learns is what the library learns.

`demo_browser.mjs` opens the page once and does what a user does, without a network.
"""

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import commands
import numpy as np
import pytest
from absl.testing import flagsaver

from flp_tf import lifetime, pretrained
from flp_tf.errors import InputError

sys.path.append(str(commands.ROOT / "tools"))
import demo

pytestmark = pytest.mark.slow

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "omniglot_full" / "images_evaluation.zip"
# Of the evaluation set: few, because they are decoded at full size. The last is for the splits that are not used.
ALPHABETS = ("Angelic", "Avesta", "Keble", "Tengwar")
LIFETIMES, SHAPE = 3, (-1, 105, 105)
needs_drawings = pytest.mark.skipif(not REAL.exists(), reason=f"no Omniglot in {REAL.parent}")


def missing() -> list[str]:
    """Returns what the browser's part of the tests lacks."""
    programs = [name for name in ("chromium", "node") if not shutil.which(name)]
    packages = [name for name in ("@litertjs/core", "playwright-core") if not (demo.PACKAGES / name).exists()]
    return programs + packages


@pytest.fixture(scope="module")
def browser():
    """The path of Chromium; skips where something is not installed."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())} (.ci/run installs them)")
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Drawings of classes that meta-training never saw: as they are, and as the library sees them, with its answers."""
    if not REAL.exists():
        return [], []
    folder = tmp_path_factory.mktemp("omniglot")
    with zipfile.ZipFile(REAL) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.split("/")[1] in ALPHABETS])
    data = {"omniglot_archives": str(folder), "data_dir": str(folder), "meta_test_alphabets": ALPHABETS[:-1]}
    run = pretrained.load(demo.NETWORK, **data)
    large = run.config.replace(image_size=SHAPE[1]).make_task()
    drawings, answers = [], []
    for i in range(LIFETIMES):
        drawn, episode = (task.compiled_sample(3, i, 1, "test") for task in (large, run.task))
        labels = episode.support_y[:, 0, 0].numpy().argmax(-1).tolist()
        support, query = (
            base64.b64encode(part.numpy().reshape(SHAPE).astype(np.uint8).tobytes()).decode()
            for part in (drawn.support_x, drawn.query_x)
        )
        drawings.append({"support": support, "query": query, "labels": labels})
        outputs = lifetime.query(run.learner, lifetime.run(run.learner, episode).state, episode)[0].numpy()
        odds = np.exp(outputs - outputs.max(-1, keepdims=True))
        classes = episode.query_y[0].numpy().argmax(-1)
        answers.append((odds / odds.sum(-1, keepdims=True), classes, episode.support_x[0, 0, 0].numpy().ravel()))
    return drawings, answers


@pytest.fixture(scope="module")
def seen(browser, unseen, tmp_path_factory):
    """What came of a visit to the page, which this process serves until SIGTERM; see `demo_browser.mjs`."""
    file = tmp_path_factory.mktemp("demo") / "lifetimes.json"
    file.write_text(json.dumps(unseen[0]))
    said, found, ended = io.StringIO(), {}, threading.Event()

    def visit():
        while "\n" not in said.getvalue():
            if ended.wait(0.05):
                return
        found["url"] = said.getvalue().split()[0]
        command = ["node", "tests/demo_browser.mjs", browser, found["url"], str(file)]
        found["done"] = subprocess.run(command, cwd=commands.ROOT, capture_output=True, text=True)
        os.kill(os.getpid(), signal.SIGTERM)

    visitor, before = threading.Thread(target=visit), signal.getsignal(signal.SIGTERM)
    visitor.start()
    try:
        with flagsaver.flagsaver(), contextlib.redirect_stdout(said), pytest.raises(SystemExit) as left:
            demo.main(demo.FLAGS(["demo", "--port=0"]))
    finally:
        ended.set()
        visitor.join()
        signal.signal(signal.SIGTERM, before)
    assert found["done"].returncode == 0, found["done"].stderr
    assert left.value.code == 128 + signal.SIGINT
    return json.loads(found["done"].stdout) | {"url": found["url"]}


@needs_drawings
def test_the_page_errs_no_more_than_the_library(seen, unseen):
    """By less than 5 % of the library's error, on the same drawings; the probabilities are the same."""
    wrong = np.zeros(2)
    for found, (expected, classes, _) in zip(seen["lifetimes"], unseen[1], strict=True):
        np.testing.assert_allclose(found["after"], expected, atol=0.002)
        wrong += [np.mean(np.argmax(odds, -1) != classes) for odds in (found["after"], expected)]
    page, library = 100 * wrong / LIFETIMES
    assert 0 < library < 10
    assert page <= 1.05 * library


@needs_drawings
def test_the_page_scales_drawings_as_the_library_does(seen, unseen):
    for found, (_, _, image) in zip(seen["lifetimes"], unseen[1], strict=True):
        np.testing.assert_allclose(found["image"], image, atol=1.001 / 255)
        assert np.max(found["image"]) > 0.5


@needs_drawings
def test_reset_forgets(seen):
    for found in seen["lifetimes"]:
        assert found["forgotten"] == found["before"]
        assert np.abs(np.subtract(found["after"][0], found["before"])).max() > 0.1


def test_place_and_size_of_a_drawing_do_not_matter(seen):
    """It becomes as large as Omniglot's, with lines as wide (5 of 105 pixels)."""
    one, other = seen["placement"]["images"]
    np.testing.assert_allclose(one, other, atol=0.2)  # Half a pixel of 105 may be ink in one of them.
    assert np.abs(np.subtract(one, other)).mean() < 0.01
    ink = np.argwhere(np.reshape(one, (28, 28)) > 0.5)
    np.testing.assert_allclose([ink.min(), ink.max()], [5, 22], atol=1)
    assert seen["placement"]["width"] == 5


def test_five_characters_by_mouse(seen):
    """Of drawings that are a little different each time, the sixth is known."""
    assert seen["mouse"]["learned"] == [5] * 5
    for label, after in enumerate(seen["mouse"]["guesses"]):
        assert after["guess"] == f"This is {label + 1}."
        assert after["chances"][label] >= 90
        assert 98 <= sum(after["chances"]) <= 102


def test_keyboard_alone(seen):
    """The second character is chosen, drawn and learned; then all is forgotten."""
    found = seen["keyboard"]
    assert 98 <= sum(found["drawn"]["chances"]) <= 102
    assert found["drawn"]["learned"] == [0] * 5
    assert found["learned"]["learned"] == [0, 1, 0, 0, 0]
    assert "character 2 (2 of 5)" in found["learned"]["guess"]
    assert found["forgotten"]["learned"] == [0] * 5


def test_finger_on_a_small_phone(seen):
    found = seen["touch"]
    assert found["learned"] == [1, 0, 0, 0, 0]
    assert found["width"] == 320, "nothing is wider than the screen"
    assert found["scrolled"] == 0, "a stroke draws and does not scroll"


def test_nothing_is_fetched_after_loading(seen):
    """Chromium was offline from then on; all that it loaded is of the server."""
    assert seen["later"] == [] and seen["complaints"] == []
    assert any(url.endswith(".tflite") for url in seen["loaded"])
    assert all(url.startswith(seen["url"]) for url in seen["loaded"])


def test_output_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"^--output=.* is not empty"):
        demo.write(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"^--port={port} cannot be used: .*--port=0"):
            demo.serve(port)


def test_missing_npm_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PACKAGES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^npm \(of Node.js\) is missing; it fetches @litertjs/core"):
        demo.fetch()


@pytest.mark.parametrize(
    "arguments, message",
    [(["mine"], "mine is no flag"), (["--output=page", "--port=80"], "--port does not go with --output")],
)
def test_flags_that_do_not_go(arguments, message):
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match=f"^demo: {message}"):
        demo.main(demo.FLAGS(["demo", *arguments]))
