"""Bad input is refused in one line that names it, and nothing is written: cases drawn by a grammar."""

import io
import json
import os
import random
import sys
import zlib
from pathlib import Path

import commands
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flp_tf.analysis.result import check_output
from flp_tf.commandline import read
from flp_tf.commands import folders
from flp_tf.errors import InputError
from flp_tf.files import local
from flp_tf.main import one_line
from flp_tf.meta import cluster
from flp_tf.meta.options import phases
from flp_tf.networks.architectures import parse
from flp_tf.registry import MOST_FLOAT, MOST_INT
from flp_tf.runs.config import Config, configure, resolve
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.sections import FIXED, places
from flp_tf.tasks import Sine
from flp_tf.tasks.images.mini_imagenet_folder import read_listings
from flp_tf.tasks.images.png import dimensions

sys.path.append(str(commands.ROOT / "tools"))
import bad_inputs

# The same examples in every run; tools/stress draws new ones.
quick = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
PLACES = [place for of_flag in places().values() for place in of_flag]
NUMBERS = [place for place in PLACES if place.kind in (int, float) and place.field.metadata["legal"] is None]


def refused(function, *arguments, **named) -> str:
    """Returns the line in which input is refused; anything but `InputError` fails."""
    with pytest.raises(InputError) as error:
        function(*arguments, **named)
    line = str(error.value)
    assert line and "\n" not in line
    return line


def choosing(place) -> dict[str, str]:
    """Returns the choices under which an option counts."""
    if place.section in FIXED:
        return {}
    chosen = {place.section: place.component}
    return chosen if place.section in ("task", "method", "estimator") else chosen | {"method": "flp"}


@given(st.sampled_from(NUMBERS), st.integers(min_value=1, max_value=10**60), st.sampled_from([1, -1]))
@quick
def test_numbers_beyond_int32_and_float32_are_refused(place, beyond, sign):
    value = sign * (MOST_INT + beyond if place.kind is int else MOST_FLOAT * (1 + 1e-6 * min(beyond, 10**10)))
    line = refused(configure, **choosing(place), **{place.flag: value})
    assert line.startswith(f"--{place.flag}=") and ("legal values are" in line or "finite" in line)


@given(st.data())
@quick
def test_texts_that_are_no_values_are_refused_naming_the_flag(data):
    place = data.draw(st.sampled_from([place for place in PLACES if bad_inputs.wrong_values(place)]))
    text = data.draw(st.sampled_from(bad_inputs.wrong_values(place)))
    chosen = [f"--{flag}={name}" for flag, name in choosing(place).items()]

    def whole():
        return resolve(read([*chosen, f"--{place.flag}={text}"]).given)

    assert f"--{place.flag}" in refused(whole)


@given(st.text("0123456789:,²x -", max_size=12))
@quick
def test_curricula_are_read_or_refused(text):
    """What is read is what is there; all else names the flag."""
    try:
        config = configure(curriculum=text, episodes=10**7)
    except InputError as error:
        assert str(error).startswith(f"--curriculum={text} ") or "--lifetime" in str(error)
        return
    found = phases(config.options("outer"))
    parts = [part for part in text.split(",") if part]
    assert [str(phase.steps) for phase in found[:-1]] == [part.split(":")[0].lstrip("0") for part in parts]


@given(st.text("0123456789-cs²x:", max_size=10))
@quick
def test_networks_are_read_or_refused(text):
    try:
        layers = parse(text)
    except InputError as error:
        assert str(error).startswith(f"--network={text} ")
        return
    assert len(layers) == text.count("-") + 1


@pytest.mark.parametrize("flag", ["batch_size", "query_size", "lifetime"])
def test_lifetimes_too_large_to_be_drawn_are_refused(flag):
    sizes = {"num_sines": 1, "lifetime": 8, "batch_size": 4, "query_size": 4} | {flag: MOST_INT}
    task = Sine(**sizes)
    assert f"--{flag}" in refused(task.sample, 0, 0, 1, "train")


@given(st.text(max_size=20))
@quick
def test_paths_are_taken_as_they_are_or_refused(text):
    try:
        path = local(text, "logdir")
    except InputError as error:
        assert "--logdir=" in str(error) and "\n" not in str(error)
        return
    if not text.startswith("~"):
        assert path == Path(text)


@pytest.mark.parametrize("scheme", ["gs", "s3", "hdfs", "ram", "file", "https"])
def test_paths_of_other_machines_are_refused(scheme):
    assert f"--data_dir={scheme}://x/y is not" in refused(local, f"{scheme}://x/y", "data_dir")


@given(st.data())
@settings(quick, max_examples=40)
def test_fields_of_config_json_are_checked(data):
    """Another type, an unknown field, or a part of the file is never taken for a configuration."""
    content = configure().to_dict()
    name = data.draw(st.sampled_from(sorted(content)))
    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none())
    value = data.draw(anything)
    try:
        config = Config.from_dict(content | {name: value})
    except InputError as error:
        assert name in str(error) or "--" in str(error)
        return
    mine, theirs = config.to_dict()[name], content[name]
    assert mine == value and (type(mine) is type(theirs) or {type(mine), type(value)} <= {int, float})


PNG = bad_inputs.encoded(16, "PNG")


@given(st.integers(0, 8 * len(PNG) - 1))
@settings(quick, max_examples=200)
def test_no_flipped_bit_of_a_png_is_decoded(position):
    """A PNG has a checksum over everything but the lengths of its parts, which then do not fit."""
    damaged = bytearray(PNG)
    damaged[position // 8] ^= 1 << position % 8
    assert refused(dimensions, "a.png", bytes(damaged)).startswith("a.png ")


@given(st.integers(0, len(PNG) - 1) | st.binary(max_size=100))
@quick
def test_what_is_no_whole_png_is_refused(content):
    content = PNG[:content] if isinstance(content, int) else content
    assert "expected a PNG image" in refused(dimensions, "a.png", content)


@pytest.mark.parametrize("size", [1, 9, 105])
def test_sizes_of_png_files(size):
    assert dimensions("a.png", bad_inputs.encoded(size, "PNG")) == (size, size)
    assert zlib.crc32(PNG)  # The file itself is good.


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini") / "mini"
    bad_inputs.mini_imagenet(root)
    return root


@given(st.data())
@quick
def test_csv_files_are_read_or_refused(mini, data):
    """Whatever bytes are put into one: each image once, or one line that names the folder."""
    file = mini / "train.csv"
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    new = data.draw(st.binary(max_size=6) | st.text('",\n\r\ufefftrain01_.jpg\0', max_size=12).map(str.encode))
    try:
        file.write_bytes(whole[:at] + new + whole[at + data.draw(st.integers(0, 20)) :])
        try:
            listings = read_listings(mini)
        except InputError as error:
            assert str(error).startswith("--mini_imagenet_dir=")
            return
    finally:
        file.write_bytes(whole)
    names = [name for listing in listings.values() for names in listing.values() for name in names]
    assert len(names) == len(set(names)) and all((mini / "images" / name).is_file() for name in names)


def test_a_byte_order_mark_is_no_part_of_a_csv_file(mini):
    expected, file = read_listings(mini), mini / "val.csv"
    whole = file.read_bytes()
    file.write_bytes(b"\xef\xbb\xbf" + whole)
    try:
        assert read_listings(mini) == expected
    finally:
        file.write_bytes(whole)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["worker", "chief", "localhost:1", "x", "0"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["cluster", "task", "worker", "type", "index"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values.map(json.dumps) | st.text(max_size=10).filter(lambda text: "\0" not in text))
@quick
def test_tf_config_is_checked(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", text.encode("utf-8", "ignore").decode())
        try:
            others = cluster.check()
        except InputError as error:
            assert "TF_CONFIG" in str(error) and "legal is {" in str(error)
            return
    task, workers = json.loads(text)["task"], json.loads(text)["cluster"]["worker"]
    assert f"{task['type']} {task['index']}" not in others and len(others) == len(workers) - 1


def test_missing_workers_are_named(capsys):
    with pytest.MonkeyPatch.context() as patch:
        addresses = ["127.0.0.1:1", "127.0.0.1:2"]
        task = {"type": "worker", "index": 0}
        patch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": addresses}, "task": task}))
        cluster.name_the_silent(cluster.check())
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "waits for worker 1 (127.0.0.1:2)" in err and f"kill -9 {os.getpid()}" in err


@pytest.mark.parametrize(
    ("made", "text", "expected"),
    [
        (["a,b"], "a,b", ["a,b"]),
        (["a,b", "c"], "a,b,c", ["a,b", "c"]),
        (["a", "b"], "a,b", ["a", "b"]),
        (["a", "b,c,d"], "a,b,c,d", ["a", "b,c,d"]),
        ([], "a,b", ["a", "b"]),
        (["a"], "a,", ["a", ""]),
    ],
)
def test_folders_may_have_commas_in_their_names(made, text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in made:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert folders(text) == expected


@pytest.mark.parametrize("name", ["readout.png", "readout.csv"])
def test_an_analysis_replaces_its_own_results_alone(name, tmp_path):
    (tmp_path / name).write_text("mine")
    assert f"{tmp_path / name} is in the way" in refused(check_output, "readout", tmp_path, [])
    check_output("alignment", tmp_path, [])
    assert (tmp_path / name).read_text() == "mine"


def test_an_analysis_does_not_follow_a_link_in_the_place_of_its_events(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "readout_events").symlink_to(tmp_path / "elsewhere")
    assert f"{tmp_path / 'readout_events'} is in the way" in refused(check_output, "readout", tmp_path, [])


@pytest.mark.parametrize("seed", range(12))
def test_what_is_in_the_way_of_a_run_stays(seed, tmp_path):
    """Found before meta-training, not after it."""
    bad_inputs.obstacle(random.Random(seed), tmp_path, None)
    before = commands.contents(tmp_path)

    def claim():
        with RunDirectory(tmp_path / "run").claimed(configure()):
            pass

    refused(claim)
    assert commands.contents(tmp_path) == before


def test_a_message_is_one_line_of_bounded_length():
    assert one_line("a\nb") == "a b"
    assert len(one_line("--seed=" + "9" * 100_000)) < 300
    assert one_line("two  spaces stay") == "two  spaces stay"


def test_a_lack_of_memory_is_one_line(monkeypatch):
    def out_of_memory(line):
        raise MemoryError

    monkeypatch.setitem(sys.modules["flp_tf.commands"].MODES, "train", out_of_memory)
    stderr = io.StringIO()
    with pytest.raises(SystemExit) as end:
        commands.run()
    assert not stderr.getvalue() and end.value.code.startswith("flp_tf: there is not enough memory; lower --meta_batch")
