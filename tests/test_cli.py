"""The command line: how it refuses, explains and recovers."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import commands
import pytest
from absl import flags
from commands import TINY, contents, refusal

import flp_tf.commands
from flp_tf import main
from flp_tf.commandline import read
from flp_tf.errors import InputError
from flp_tf.registry import REGISTRIES
from flp_tf.runs.config import configure, resolve
from flp_tf.runs.sections import places, slots

# What is wrong, and what the line on stderr must say: the flag, and what is legal.
REFUSED = {
    "task": (["--task=cosine"], ["--task=cosine", "sine"]),
    "method": (["--method=backprop"], ["--method=backprop", "dfa, feature_reuse, flp, gradient, oml"]),
    "mode": (["--mode=test"], ["--mode=test", "analyze, evaluate, export, train"]),
    "rule": (["--rule=stdp"], ["--rule=stdp", "hebb, oja"]),
    "network": (["--network=300-x"], ["--network=300-x", "sine_paper", "300-300"]),
    "too many plastic layers": (["--num_plastic_layers=4"], ["--num_plastic_layers=4", "1 to 3"]),
    "no plastic layer": (["--num_plastic_layers=0"], ["--num_plastic_layers=0", "1 to 3"]),
    "feature reuse": (
        ["--method=feature_reuse", "--num_plastic_layers=2"],
        ["--num_plastic_layers=2", "--method=feature_reuse", "1"],
    ),
    "lifetime": (["--lifetime=9"], ["--lifetime=9", "--num_sines=2", "multiples of 2"]),
    "curriculum": (["--curriculum=4"], ["--curriculum=4", "40:2000"]),
    "curriculum lifetime": (["--curriculum=3:2"], ["=3", "multiples of 2"]),
    "curriculum digits": (["--curriculum=²:2"], ["--curriculum=²:2", "40:2000"]),
    "curriculum beyond the run": (["--curriculum=4:7"], ["--curriculum=4:7", "--episodes=6"]),
    "warm-up beyond the run": (["--warmup_steps=7"], ["--warmup_steps=7", "--episodes=6", "6 or less"]),
    "incomplete meta-batch": (["--meta_batch=4"], ["--episodes=6", "--meta_batch=4", "multiples of 4"]),
    "no episodes": (["--episodes=0"], ["--episodes=0", "1 or more"]),
    "negative seed": (["--seed=-1"], ["--seed=-1", "0 or more"]),
    "large seed": (["--seed=3000000000"], ["--seed=3000000000", "2147483647 or less|2.14748e+09 or less"]),
    "convolution of a vector": (["--network=c4"], ["--network", "3x3"]),
    "no number": (["--episodes=many"], ["--episodes=many", "an integer", "--help"]),
    "no value": (["--episodes"], ["--episodes", "--help"]),
    "no bool": (["--continual=perhaps"], ["--continual=perhaps", "true or false"]),
    "no list": (["--feedback_units=8,x"], ["--feedback_units=8,x", "integers joined by commas"]),
    "value of a negation": (["--nocontinual=1"], ["--nocontinual=1"]),
    "flag": (["--epsodes=6"], ["--epsodes", "did you mean --episodes", "--help"]),
    "option of another task": (["--ways=7"], ["--ways", "--task=sine", "--task=omniglot"]),
    "option of another method": (["--inner_rate=1"], ["--inner_rate", "--method=flp", "--method=oml"]),
    "flag of another mode": (["--output=there"], ["--output", "--mode=train", "--mode=analyze"]),
    "flagfile": (["--flagfile=/nowhere.cfg"], ["/nowhere.cfg", "No such file"]),
    "flagfile of bytes": ([f"--flagfile={sys.executable}"], [sys.executable, "no text file"]),
    "flagfile of nothing": (["--flagfile"], ["--flagfile", "FILE"]),
    "folder as flagfile": (["--flagfile=/"], ["--flagfile=/", "Is a directory"]),
    "plugin": (["--plugins=/nowhere.py"], ["--plugins=/nowhere.py", "Python files"]),
    "plugin module": (["--plugins=no_such_module"], ["--plugins=no_such_module", "no module"]),
    "no flag": (["sine"], ["sine", "--help"]),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_bad_flags_are_refused_in_one_line_before_any_work(wrong, tmp_path):
    arguments, parts = REFUSED[wrong]
    line = refusal(*TINY, *arguments, f"--logdir={tmp_path / 'run'}")
    for part in parts:
        assert any(one in line for one in part.split("|"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_refusal_of_a_real_process(tmp_path):
    process = commands.start(*TINY, "--task=cosine", f"--logdir={tmp_path / 'run'}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert re.fullmatch(r"flp_tf: --task=cosine is unknown; legal values: .*sine.*\n", err)


def test_a_defect_keeps_its_traceback(monkeypatch):
    def defective(line):
        raise ValueError("shapes [2] and [3] do not match")

    monkeypatch.setitem(flp_tf.commands.MODES, "train", defective)
    with pytest.raises(ValueError, match="do not match"):
        commands.run()


def test_help_explains_every_flag(capfd):
    commands.run("--help")
    out, err = capfd.readouterr()
    text = " ".join(out.split())
    for name in ["mode", "logdir", "analysis", "output", "plugins", "flagfile", "recipe", *slots(), *places()]:
        assert re.search(rf"^  --(\[no\])?{name}: [A-Za-z]\w*", out, re.MULTILINE), name
    for name in [name for slot in slots() for name in REGISTRIES[slot]]:
        assert name in text
    assert f"One of: {', '.join(REGISTRIES['method'])}" in text
    assert "--flagfile=flags/quick.cfg" in text
    assert "Default: 400." in text and "0.001 (sine); 1.0 (omniglot, mini_imagenet)" in text
    assert err == ""


def test_help_groups_flags_by_component(capsys):
    """An option stands below the components that have it, and nowhere else."""
    commands.run("--help")
    groups = {}
    for block in capsys.readouterr().out.split("\n\n"):
        title, _, rest = block.partition(":\n")
        groups[title] = re.findall(r"^  --(?:\[no\])?(\w+):", rest, re.MULTILINE)
    for slot in slots():
        for name in REGISTRIES[slot]:
            mine = [title for title in groups if re.fullmatch(rf"{slot.capitalize()}: (.*, )?{name}(, .*)?", title)]
            found = sorted(flag for title in mine for flag in groups[title])
            assert found == sorted(
                place.flag for of_flag in places().values() for place in of_flag if place[:2] == (slot, name)
            )
    assert {"episodes", "clip_norm", "meta_batch"} <= set(groups["Outer loop"])
    assert "seed" in groups["Run"] and "jit_compile" in groups["Engine"]


def test_two_command_lines_in_one_process():
    """Each has flags of its own, and absl's global flags stay as they were."""
    before = set(flags.FLAGS)
    first = read(["--episodes=6", "--continual", "--feedback_units=8,9", "--slow_rate=1"])
    second = read(["--nocontinual", "--feedback_units=", "--logdir=there"])
    assert first.given == {"episodes": 6, "continual": True, "feedback_units": (8, 9), "slow_rate": 1.0}
    assert second.given == {"continual": False, "feedback_units": ()}
    assert first.command["logdir"] == "runs/sine" and second.command["logdir"] == "there"
    assert set(flags.FLAGS) == before
    assert resolve(read([]).given) == configure()


def test_flags_have_the_types_of_options():
    numbers = ("--lifetime=40", "--slow_rate=1e-3", "--feedback_units=8, 9")
    given = read([*numbers, "--continual", "--network", "7-7", "--nojit_compile"]).given
    expected = {"continual": True, "lifetime": 40, "slow_rate": 1e-3, "feedback_units": (8, 9), "network": "7-7"}
    assert resolve(given) == configure(**expected, jit_compile=False)


@pytest.mark.parametrize("flag", places())
def test_every_option_is_a_flag(flag):
    """Its default, as the help shows it, reads as itself. An empty path is none; see `test_limits`."""
    (place, *_) = places()[flag]
    default = "folder" if place.field.metadata["path"] else place.field.default
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    assert read([f"--{flag}={text}"]).given == {flag: default}


def test_command_lines_of_a_thread(tmp_path):
    """Nothing of parsing, checking and refusing needs the main thread."""
    ends = []

    def run():
        try:
            commands.run(*TINY, "--ways=3", f"--logdir={tmp_path / 'run'}")
        except SystemExit as end:
            ends.append(end.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=60)
    assert len(ends) == 1 and "--ways does not go with --task=sine" in ends[0]


@pytest.mark.slow
def test_import_changes_nothing_of_the_process():
    """No handler of signals, no environment, no flags: a notebook may import all of it, in any thread."""
    program = """
import os, signal, threading
from absl import flags
before = [signal.getsignal(number) for number in signal.valid_signals()], set(flags.FLAGS)
environment = dict(os.environ)
failed = []
def run():
    try:
        import flp_tf.main
    except BaseException as error:
        failed.append(error)
thread = threading.Thread(target=run)
thread.start()
thread.join()
assert not failed, failed
assert [signal.getsignal(number) for number in signal.valid_signals()] == before[0]
mine = {name for name in set(flags.FLAGS) - before[1] if flags.FLAGS.find_module_defining_flag(name).startswith("flp")}
assert not mine
assert environment.items() <= dict(os.environ).items()
print("unchanged")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=commands.ROOT, capture_output=True, text=True)
    assert done.stdout == "unchanged\n", done.stderr


def test_flagfiles_name_others_and_have_comments(tmp_path):
    (tmp_path / "base.cfg").write_text("# All of them.\n\n--episodes=3\n--slow_rate=0.5\n// The end.\n")
    (tmp_path / "cell.cfg").write_text("--flagfile=base.cfg\n--episodes=4\n")
    assert read([f"--flagfile={tmp_path / 'cell.cfg'}"]).given == {"episodes": 4, "slow_rate": 0.5}
    assert read(["--flagfile", str(tmp_path / "cell.cfg"), "--episodes=5"]).given["episodes"] == 5
    (tmp_path / "base.cfg").write_text("--flagfile=cell.cfg\n")
    with pytest.raises(InputError, match=r"^--flagfile=\w+.cfg names itself$"):
        read([f"--flagfile={tmp_path / 'cell.cfg'}"])


def test_flags_of_a_flagfile_for_several_methods(tmp_path):
    """`--undefok` names what is left out where no component has it; all else is refused there, too."""
    file = tmp_path / "base.cfg"
    file.write_text("--plasticity_scale=0.5\n--inner_rate=0.25\n--undefok=plasticity_scale,inner_rate\n")
    for method in ("flp", "oml"):
        line = read([f"--flagfile={file}", f"--method={method}"])
        config = resolve(line.given, line.optional)
        assert getattr(config, "plasticity_scale", None) == (0.5 if method == "flp" else None)
        assert getattr(config, "inner_rate", None) == (None if method == "flp" else 0.25)
    file.write_text("--plasticity_scale=0.5\n")
    line = read([f"--flagfile={file}", "--method=oml"])
    with pytest.raises(InputError, match="^--plasticity_scale does not go with --method=oml"):
        resolve(line.given, line.optional)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--ways=7"], ["--ways does not go with --task=sine"]),
        (["--method=oml"], ["--method=oml (the run has flp)"]),
        (["--task=omniglot", "--ways=7"], ["--task=omniglot (the run has sine)"]),
        (["--analysis=readout"], ["--analysis", "--mode=analyze"]),
        (["--eval_episodes=0"], ["--eval_episodes=0", "1 or more"]),
    ],
)
@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_flags_that_a_run_does_not_have_are_refused(mode, arguments, parts, run_copy):
    before = contents(run_copy)
    line = refusal(f"--mode={mode}", f"--logdir={run_copy}", *arguments)
    for part in parts:
        assert part in line
    assert contents(run_copy) == before


def test_evaluation_takes_incidental_flags_and_another_seed(run_copy):
    commands.run("--mode=evaluate", f"--logdir={run_copy}", "--seed=5", "--eval_episodes=3", *TINY[:4])
    evaluation = json.loads((run_copy / "evaluation.json").read_text())
    assert evaluation["seed"] == 5 and evaluation["meta_test"]["episodes"] == 3 and evaluation["episodes"] == 6
    line = refusal("--mode=export", f"--logdir={run_copy}", "--seed=5")
    assert "--seed=5 (the run has 0)" in line


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ([], ["--mode=analyze needs --analysis", "readout"]),
        (["--analysis=nonsense"], ["--analysis=nonsense", "readout"]),
        (["--analysis=readout", "--lifetime=8"], ["--lifetime does not go with --analysis=readout", "--seed"]),
        (["--analysis=readout", "--episodes=8"], ["--episodes does not go with --analysis=readout"]),
        (["--analysis=adaptability", "--episodes=-2"], ["--episodes=-2", "-1 or more"]),
        (["--analysis=readout", "--eval_episodes=0"], ["--eval_episodes=0", "1 or more"]),
    ],
)
def test_flags_that_an_analysis_does_not_have_are_refused(arguments, parts, run_copy):
    before = contents(run_copy)
    line = refusal("--mode=analyze", f"--logdir={run_copy}", *arguments)
    for part in parts:
        assert part in line
    assert contents(run_copy) == before


def test_analysis_of_a_folder_that_is_not_there_makes_none(tmp_path):
    line = refusal("--mode=analyze", "--analysis=readout", f"--logdir={tmp_path / 'run'}")
    assert f"--logdir={tmp_path / 'run'} does not exist" in line
    assert not list(tmp_path.iterdir())


def test_only_the_startup_is_quiet(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    with main.startup():
        os.write(2, b"oneDNN custom operations are on\n")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    os.write(2, b"out of memory\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capfd.readouterr().err == "out of memory\n"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with main.startup():
        os.write(2, b"shown on request\n")
    assert capfd.readouterr().err == "shown on request\n"


@pytest.mark.slow
def test_failing_import_of_tensorflow_shows():
    program = (
        "import runpy, sys; sys.modules['tensorflow'] = None; runpy.run_module('flp_tf.main', run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", program], cwd=commands.ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert "Traceback" in process.stderr and "import of tensorflow halted" in process.stderr
