"""Every experiment, from `flags/` or composed by `tools/experiments.py`, reads and meta-trains."""

import functools
import math
import sys
from pathlib import Path

import commands
import numpy as np
import pytest

from flp_tf import learners
from flp_tf.commandline import read
from flp_tf.runs.config import Config, resolve
from flp_tf.runs.training import make_trainer

sys.path.insert(0, str(commands.ROOT / "tools"))

from experiments import METHODS, ORDERS, TABLES, Cell

pytestmark = pytest.mark.slow

FLAGFILES = sorted((commands.ROOT / "flags").glob("*.cfg"))
# Runs of half a minute, which are of no table.
QUICK = ("quick", "quick_es", "quick_pes", "imitation")
CELLS = [(network, cell) for table in TABLES.values() for network in table.networks.values() for cell in table.cells]
BASES = sorted({network for network, _ in CELLS})


def what_differs(network: str, cell: Cell) -> tuple[str, ...]:
    """Returns the lines of a cell's flagfile but for the order of the data, and of a compact network its name, too."""
    lines = [line for line in cell.flagfile(network).read_text().splitlines() if line not in ORDERS.values()]
    return (network, cell.name if "compact" in network else "", *lines)


# Of cells that differ in the order of the data alone, one is trained; of those of a large network, one per flagfile.
TRAINED = sorted({what_differs(*pair): pair for pair in CELLS}.values())
ARCHIVES = commands.ROOT.parent / "shared" / "data"

# What makes an outer step of a task cheap, and runs it on the data that there are.
SMALL = {
    "sine": ["--num_sines=2", "--lifetime=2", "--query_size=4", "--batch_size=4", "--curriculum=", "--lifetimes="],
    "omniglot": [
        "--ways=2",
        "--shots=1",
        "--query_size=1",
        "--image_size=44",
        "--meta_batch=1",
        f"--omniglot_archives={ARCHIVES}",
        "--meta_test_alphabets=Korean,Tagalog",
    ],
    "mini_imagenet": ["--ways=2", "--shots=1", "--query_size=1"],
}
# One outer step of a few; a plain loop is the quickest of few inner steps.
FEW = ("--episodes=4", "--segment_length=-1")


def config_of(*arguments: str) -> Config:
    """Returns the configuration that a command line describes."""
    line = read(arguments)
    return resolve(line.given, line.optional)


def name_of(value) -> str | None:
    if isinstance(value, Cell):
        return f"{value.order}_{value.name}"
    return value.stem if isinstance(value, Path) else None


@pytest.fixture(scope="module")
def image_cache(tmp_path_factory) -> Path:
    """Where decoded images are kept from one flagfile to the next."""
    return tmp_path_factory.mktemp("cache")


# Of methods that are called by what they have in place of FLP's.
NAMES = {
    "rule=polynomial": "polynomial",
    "rule=hebb": "hebb",
    "feedback=plastic": "plastic",
    "feedback=cascade": "cascade",
    "initial=gaussian": "gaussian",
    "hidden_feedback=False": "output_feedback",
    "presynaptic=post_feedback": "post_feedback",
    "feedback_signal=target": "target",
    "feedback_units=(100,)": "feedback_units",
    "granularity=per_neuron": "per_neuron",
    "granularity=per_layer": "per_layer",
}


@functools.cache
def scale_of_flp3(network: str) -> float:
    """Returns the plasticity scale in the flagfile of FLP (3)."""
    return config_of(f"--flagfile={commands.ROOT / 'flags' / network}_flp3.cfg", "--continual").plasticity_scale


def method_of(config: Config) -> str:
    """Returns the name of a configuration's method in `METHODS`."""
    layers = config.num_plastic_layers if config.method != "feature_reuse" else ""
    if config.task == "sine":
        chosen = {f"{option}={getattr(config, option, None)}" for option in {name.partition("=")[0] for name in NAMES}}
        if names := [NAMES[choice] for choice in chosen & NAMES.keys()]:
            return f"{'_'.join(names)}{layers}"
        if config.lifetimes:
            return f"lengths{layers}"
        if (config.method, layers) == ("flp", 2) and config.plasticity_scale == scale_of_flp3(config.network):
            return "flp2_scale_of_flp3"
    linear = "_linear" if getattr(config, "feedback_activation", "relu") == "linear" else ""
    return f"{config.method}{layers}{'' if getattr(config, 'second_order', True) else '_first_order'}{linear}"


@pytest.mark.parametrize("flagfile", FLAGFILES, ids=name_of)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_flagfile_is_what_its_name_says(flagfile, elsewhere, tmp_path, monkeypatch):
    """Whatever the working directory is."""
    monkeypatch.chdir(tmp_path if elsewhere else commands.ROOT)
    config = config_of(f"--flagfile={flagfile}")
    assert len(config.phases()) == 1 + len(config.curriculum.split(",") if config.curriculum else [])
    text = flagfile.read_text()
    assert ".." not in text and "shared" not in text
    if flagfile.stem not in QUICK:
        assert flagfile.stem.startswith(config.network)
        words = flagfile.stem.removeprefix(config.network).strip("_")
        order, _, method = words.partition("_")
        if order in ORDERS:
            assert (config.continual, method_of(config)) == (order == "continual", method)
        else:
            assert words in ("", method_of(config))


@pytest.mark.parametrize("method", ["feature_reuse", "flp", "dfa", "gradient", "oml"])
@pytest.mark.parametrize("base", [*BASES, "quick", "sine_compact_flp3"])
def test_bases_go_with_every_method(base, method):
    """What a base has for some methods alone is left out for the others."""
    layers = [] if base in BASES else ["--num_plastic_layers=1"]
    flagfile = commands.ROOT / "flags" / f"{base}.cfg"
    config = config_of(f"--flagfile={flagfile}", "--continual", f"--method={method}", *layers)
    assert (config.method, config.continual) == (method, True)


@pytest.mark.parametrize("network, cell", CELLS, ids=name_of)
def test_cells_are_what_their_names_say(network, cell):
    config = config_of(*cell.flags(network))
    assert config.network == network
    assert config.continual == (cell.order == "continual")
    assert method_of(config) == cell.name


def test_every_flagfile_of_a_cell_is_one_of_a_cell():
    """Flagfiles that are no base are found by the name of a cell or method; each is there for values of its own."""
    used = {cell.flagfile(network).stem for network, cell in CELLS}
    assert {path.stem for path in FLAGFILES} == used | {*BASES, *QUICK}
    for network, cell in CELLS:
        if (path := cell.flagfile(network)).stem != network:
            base = config_of(f"--flagfile={path.with_name(network)}.cfg", ORDERS[cell.order], *METHODS[cell.name])
            assert config_of(*cell.flags(network)).differences(base)


def test_special_rates():
    """The cells that diverge at the rates of the others."""
    rates = {
        (network, cell.order, cell.name): (config.slow_rate, getattr(config, "plasticity_rate", None))
        for network, cell in CELLS
        if (config := config_of(*cell.flags(network))).task == "sine"
    }
    for network in ("sine_compact", "sine_paper"):
        assert rates[network, "iid", "gradient3_first_order"] == (1e-4, 1e-2)
        assert rates[network, "continual", "gradient3_first_order"] == (1e-4, 1e-3)
        for order in ORDERS:
            assert rates[network, order, "oml3_first_order"] == (1e-4, None)
    assert rates["sine_paper", "continual", "gradient3"] == (1e-4, 1e-3)
    # The rates of OML's plasticity are fixed.
    assert rates["sine_paper", "iid", "oml3"] == (1e-4, None) and rates["sine_compact", "iid", "oml3"] == (6e-3, None)
    assert rates["sine_paper", "iid", "flp2"] == (3e-3, 1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_rates_of_adam_go_with_adam(order):
    """Cells of the paper's network that were not tried with Muon have all of the outer loop of Adam."""
    of_adam = {}
    for network, cell in CELLS:
        if (network, cell.order) == ("sine_paper", order):
            config = config_of(*cell.flags(network))
            of_adam[cell.name] = config.slow_optimizer == "adam"
            assert of_adam[cell.name] == (config.slow_rate < 1e-3) == (config.episodes == 8800)
    firsts = {"gradient3_first_order", "oml3_first_order"}
    assert {name for name, adam in of_adam.items() if adam} == {"flp3", "gradient3", "oml3"} | firsts


def test_the_published_baselines_have_the_published_options():
    """Plastic biases, Adam at 1e-4, nothing clipped, what is not finite taken as 0 (design.md, section 1)."""
    for network, cell in CELLS:
        if network.startswith("sine") and cell.name in ("gradient3_first_order", "oml3_first_order"):
            config = config_of(*cell.flags(network))
            assert (config.plastic_biases, config.second_order, config.non_finite) == (True, False, "zero")
            assert (config.slow_optimizer, config.slow_rate, config.clip_norm) == ("adam", 1e-4, 0.0)


def trained(config: Config) -> None:
    """Takes an outer step of a configuration, and checks that it learns."""
    task = config.make_task()
    learner = learners.build(config, task)
    trainer = make_trainer(config, task, learner)
    before = {path: weight.numpy() for path, weight in learner.trainable.items()}
    metrics = trainer.outer_step()
    assert math.isfinite(metrics["loss"]) and not metrics["skipped"]
    after = {path: weight.numpy() for path, weight in learner.trainable.items()}
    assert any(np.any(after[path] != before[path]) for path in before)
    assert all(np.all(np.isfinite(weight)) for weight in after.values())


@pytest.mark.parametrize("network, cell", TRAINED, ids=name_of)
def test_cell_meta_trains(network, cell, image_cache, eager):
    config = config_of(*cell.flags(network))
    if config.task == "omniglot" and not list(ARCHIVES.glob("images_background*.zip")):
        pytest.skip(f"no Omniglot archives in {ARCHIVES}")
    if config.task == "mini_imagenet" and not Path(config.mini_imagenet_dir).expanduser().is_dir():
        pytest.skip(f"no mini-ImageNet in --mini_imagenet_dir={config.mini_imagenet_dir}")
    cache = [] if config.task == "sine" else [f"--data_dir={image_cache}"]
    trained(config_of(*cell.flags(network), *FEW, *cache, *SMALL[config.task]))


@pytest.mark.parametrize("name", QUICK)
def test_quick_runs_meta_train(name, eager):
    flagfile = commands.ROOT / "flags" / f"{name}.cfg"
    config = config_of(f"--flagfile={flagfile}")
    assert name in (config.task, "quick", f"quick_{config.estimator}")
    less = ["--pairs=1"] if "es" in name else ["--segment_length=-1"]
    trained(config_of(f"--flagfile={flagfile}", "--episodes=4", *less, "--lifetime=4", "--batch_size=4"))
