"""LiteRT: one file with `learn`, `predict` and `reset`, for phones, microcontrollers and browsers."""

import functools
import importlib.util
import io
import json
import os
import re
import statistics
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.export.functions import Functions, Named, initial_state
from flp_tf.files import whole
from flp_tf.learners.base import Learner
from flp_tf.silence import silenced
from flp_tf.tasks.base import Episode, Task

# How the weights of a file are stored: as they are, or in fewer bits.
WEIGHTS = ("float32", "float16", "int8")
FILE = "model.tflite"
# Says which run a file is of. It is in an archive behind the model, where LiteRT's metadata have further files.
LABEL = "flp_tf.json"
# In the file the state is always passed in and out, so the names need not say so.
NAMES = {"initial_state": "reset", "learn": "learn", "predict": "predict"}
MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op")
# What to do about operations that LiteRT does not have, by a part of their names.
ADVICE = {
    "Grad": "local methods such as --method=flp need no gradients",
    "Random": "only the initial state can be drawn, not within an inner step",
}


class Constant(Functions):
    """Functions whose initial state is computed once, and in the file: LiteRT draws no random numbers."""

    def initial_state(self) -> Named:
        """Returns the state of a new lifetime, the one of `functions.initial_state`."""
        return self._flat(tf.nest.map_structure(lambda part: tf.constant(part.numpy()), self._form))


def convert(learner: Learner, weights: str = "float32", batch: int | None = None) -> bytes:
    """Returns a LiteRT file that learns by built-in operations alone.

    Its signatures are `reset() -> STATE`, `learn(x, y, STATE) -> STATE` and `predict(x,
    STATE) -> outputs`, with STATE as in `Functions.state`. Where the initial state is drawn
    (`--initial=gaussian`), `reset` gives the same draw every time, as the SavedModel does.

    Args:
        learner: the meta-learned learner.
        weights: one of `WEIGHTS`; the state is float32 in all of them.
        batch: size of a batch; any by default, which LiteRT.js (2.5) refuses to run.

    Raises:
        InputError: if the trunk computes in bfloat16, if the inner step needs operations that LiteRT does
            not have, as that of methods with gradients does, if its converter refuses the network, if the state has
            a tensor without entries, or `weights` is unknown.
    """
    if weights not in WEIGHTS:
        raise InputError(f"--weights={weights} is unknown; legal values: {', '.join(WEIGHTS)}")
    if any(layer.compute_dtype == "bfloat16" for layer in learner.network.trunk):
        raise InputError(
            "--format=litert: LiteRT has no bfloat16, in which the trunk computes; its weights are float32, so that "
            '`flp_tf.load(PATH, trunk_precision="float32")` gives a learner that goes'
        )
    functions = Constant(learner, batch)
    if empty := [name for name, part in functions.state.items() if part.shape.num_elements() == 0]:
        raise InputError(
            f"--format=litert: {empty[0]} of the state of {type(learner).__name__} has no entries, which LiteRT does "
            "not take; --format=saved_model takes all"
        )
    module = tf.Module()
    module.weights = [variable.value for variable in learner.variables.values()]
    signatures = {NAMES[name]: graph for name, graph in functions.concrete().items()}
    with tempfile.TemporaryDirectory() as folder, silenced():
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:
            if missing := sorted(set(MISSING.findall(str(error)))):
                advice = [said for part, said in ADVICE.items() if any(part in name for name in missing)]
                raise InputError(
                    f"--format=litert: {type(learner).__name__} needs {', '.join(missing)}, which LiteRT does not have "
                    f"built in; {'; '.join([*advice, '--format=saved_model takes all'])}"
                ) from None
            reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
            raise InputError(
                f"--format=litert: LiteRT's converter refuses {type(learner).__name__} with this network: {reason}; "
                "--format=saved_model takes all"
            ) from error


def write(
    learner: Learner,
    folder: Path,
    weights: str = "float32",
    batch: int | None = None,
    label: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a LiteRT file into a folder; returns its path.

    Args:
        learner: the meta-learned learner.
        folder: made if it is missing.
        weights: one of `WEIGHTS`.
        batch: see `convert`.
        label: says which run it is of, see `flp_tf.runs.labels`.

    Raises:
        InputError: see `convert`; or if the file cannot be written.
    """
    content = io.BytesIO(convert(learner, weights, batch))
    if label is not None:
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr(zipfile.ZipInfo(LABEL), json.dumps({"run": dict(label)}))
    with whole(folder / FILE) as file:
        file.write(content.getvalue())
    return folder / FILE


def has_interpreter() -> bool:
    """Returns whether `ai-edge-litert`, which runs such files, is installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None


class Interpreted:
    """A LiteRT file, run by `ai-edge-litert`.

    Args:
        path: of the file.

    Attributes:
        state: arrays by name, as of the last `reset` or `learn`.
        batch: examples of a batch; None for any number.
    """

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        self.state: dict[str, np.ndarray] = {}
        with silenced():
            interpreter = Interpreter(model_path=os.fspath(path))
            self._run = {name: interpreter.get_signature_runner(name) for name in NAMES.values()}
            rows = self._run["predict"].get_input_details()["x"]["shape_signature"][0]
            self.batch = int(rows) if rows > 0 else None
            self.reset()

    def reset(self) -> None:
        """Starts a new lifetime."""
        self.state = self._run["reset"]()

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        """Takes one inner step on a batch of the file's size."""
        self.state = self._run["learn"](x=x, y=y, **self.state)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns outputs `[examples, outputs]` for any number of examples, a batch at a time."""
        size = self.batch or len(x)
        filled = np.concatenate([x, np.zeros([-len(x) % size, *x.shape[1:]], x.dtype)])
        batches = np.split(filled, len(filled) // size)
        return np.concatenate([self._run["predict"](x=one, **self.state)["outputs"] for one in batches])[: len(x)]


def measure(learner: Learner, task: Task, path: Path, lifetimes: int, seed: int) -> dict[str, Any]:
    """Returns what a file is worth: size, time of a step, and errors beside the library's.

    Args:
        learner: that the file was made of.
        task: its task.
        path: of the file.
        lifetimes: how many, of unseen data.
        seed: of the lifetimes.

    Returns:
        `bytes`, `milliseconds_per_step` (the median), and the mean `before`, `after` and
        `library` (the library's error after the same lifetimes) in the task's unit.

    Raises:
        InputError: if the inner steps of the task have another number of examples than those of the file.
    """
    model, seconds, errors, born = Interpreted(path), [], [], initial_state(learner)
    if model.batch not in (None, task.batch_size):
        raise InputError(
            f"an inner step of the task has {task.batch_size} examples, one of the file, by --batch, {model.batch}"
        )

    @functools.partial(tf.function, autograph=False)
    def library(episode: Episode) -> tf.Tensor:
        state = lifetime.run(learner, episode, state=born, segment_length=lifetime.PLAIN).state
        return lifetime.query(learner, state, episode)

    for i in range(lifetimes):
        episode = task.compiled_sample(seed, i, 1, "test")
        one = Episode(*(part.numpy() for part in episode))
        model.reset()
        before = model.predict(one.query_x[0])
        for x, y in zip(one.support_x[:, 0], one.support_y[:, 0]):
            began = time.perf_counter()
            model.learn(x, y)
            seconds.append(time.perf_counter() - began)
        outputs = (before[None], model.predict(one.query_x[0])[None], library(episode))
        errors.append([float(task.error(output, episode.query_y)[0]) for output in outputs])
    means = dict(zip(("before", "after", "library"), np.mean(errors, 0).tolist()))
    size = path.stat().st_size
    return {"bytes": size, "milliseconds_per_step": 1000 * statistics.median(seconds), "lifetimes": lifetimes, **means}
