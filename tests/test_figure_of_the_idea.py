"""The drawing of the idea in docs/ is what its script draws."""

import subprocess
import sys

import commands
import matplotlib.image
import numpy as np


def test_the_committed_figure_is_the_script_s(tmp_path):
    """Twice the same file; up to the smoothing of letters, which differs between versions, the committed one."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        subprocess.run([sys.executable, "tools/figure_of_the_idea.py", str(path)], cwd=commands.ROOT, check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    drawn, committed = (matplotlib.image.imread(path) for path in (paths[0], commands.ROOT / "docs" / "idea.png"))
    assert drawn.shape == committed.shape and drawn.min() < 0.5
    assert np.mean(abs(drawn - committed)) < 0.01
