"""The networks that ship do what their result says."""

from pathlib import Path

import pytest

from flp_tf import pretrained
from flp_tf.meta.evaluation import Evaluator
from flp_tf.meta.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", pretrained.names())
def test_meta_test_is_repeated(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    directory = RunDirectory(str(pretrained.HERE / name))
    archives = directory.config().omniglot_archives
    if archives and not Path(archives).exists():
        pytest.skip(f"no Omniglot archives in {archives}")
    config, task, learner = pretrained.load(name)
    result = directory.read("result.json")
    measured = Evaluator(learner, task)(config.seed, result["meta_test"]["episodes"]).meta_test()
    assert measured == pytest.approx(result["meta_test"], rel=0.01)


def test_unknown_name_names_the_legal_ones():
    with pytest.raises(ValueError, match="sine_continual_flp2"):
        pretrained.load("nothing")
