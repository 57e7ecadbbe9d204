"""Every experiment in `flags/` reads and meta-trains."""

import math
from pathlib import Path

import commands
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from flp_tf import config as configuration
from flp_tf import learners, main
from flp_tf.config import Config
from flp_tf.meta.trainer import Trainer
from flp_tf.tasks import TASKS

FLAGFILES = sorted((commands.ROOT / "flags").glob("*.cfg"))


def without_order(path: Path) -> tuple[str, ...]:
    return tuple(line for line in path.read_text().splitlines() if line not in ("--continual", "--nocontinual"))


# Of flagfiles that differ in the order of the data alone, one is trained.
TRAINED = sorted({without_order(path): path for path in FLAGFILES}.values())
ARCHIVES = commands.ROOT.parent / "shared" / "data"

# What makes an outer step of a task cheap, and runs it on the data that there are.
SMALL = {
    "sine": ["--lifetime={num_sines}", "--query_size=4", "--batch_size=4", "--curriculum="],
    "omniglot": [
        "--ways=2",
        "--shots=1",
        "--query_size=1",
        "--image_size=44",
        f"--omniglot_archives={ARCHIVES}",
        "--meta_test_alphabets=Korean,Tagalog",
    ],
    "mini_imagenet": ["--ways=2", "--shots=1", "--query_size=1"],
}


def read(*arguments: str) -> Config:
    """Returns the configuration that a command line describes."""
    saved = flagsaver.save_flag_values()
    try:
        main.parse(["flp_tf", *arguments])
        return configuration.from_flags(flags.FLAGS)
    finally:
        flagsaver.restore_flag_values(saved)


@pytest.fixture(autouse=True)
def repository_root(monkeypatch):
    """Flagfiles name others relative to the repository's root."""
    monkeypatch.chdir(commands.ROOT)


@pytest.fixture(scope="module")
def image_cache(tmp_path_factory) -> Path:
    """Where decoded images are kept from one flagfile to the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def eager():
    """Outer steps without tracing, which would take most of the time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def name_of(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("flagfile", FLAGFILES, ids=name_of)
def test_flagfile_is_what_its_name_says(flagfile):
    config = read(f"--flagfile={flagfile}")
    assert len(config.phases()) == 1 + len(config.curriculum.split(",") if config.curriculum else [])
    if "_continual_" not in flagfile.stem and "_iid_" not in flagfile.stem:
        return
    method = f"{config.method}{config.num_plastic_layers if config.method != 'feature_reuse' else ''}"
    method += "" if config.second_order else "_first_order"
    order = "continual" if config.continual else "iid"
    assert flagfile.stem.startswith(f"{config.network}_")
    assert flagfile.stem.endswith(f"_{order}_{method}")


@pytest.mark.parametrize("flagfile", TRAINED, ids=name_of)
def test_flagfile_meta_trains(flagfile, image_cache, eager):
    config = read(f"--flagfile={flagfile}")
    if config.task == "omniglot" and not list(ARCHIVES.glob("images_background*.zip")):
        pytest.skip(f"no Omniglot archives in {ARCHIVES}")
    if config.task == "mini_imagenet" and not Path(config.mini_imagenet_dir).expanduser().is_dir():
        pytest.skip(f"no mini-ImageNet in --mini_imagenet_dir={config.mini_imagenet_dir}")
    small = [flag.format(num_sines=config.num_sines) for flag in SMALL[config.task]]
    config = read(f"--flagfile={flagfile}", "--episodes=4", f"--data_dir={image_cache}", *small)
    task = TASKS[config.task].from_config(config)
    trainer = Trainer(config, task, learners.build(config, task))
    for _ in range(2):
        before = [weight.numpy() for weight in trainer.learner.meta_parameters]
        metrics = trainer.outer_step()
        assert math.isfinite(metrics["loss"]) and not metrics["skipped"]
        after = [weight.numpy() for weight in trainer.learner.meta_parameters]
        assert any(np.any(a != b) for a, b in zip(before, after))
