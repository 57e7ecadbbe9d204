"""The drawing of the idea in docs/ is what its script draws."""

import subprocess
import sys

import commands
from PIL import Image


def test_the_committed_figure_is_the_script_s(tmp_path):
    """Twice the same file, and the committed one is of this script; pixels differ between versions of Matplotlib."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        subprocess.run([sys.executable, "tools/figure_of_the_idea.py", str(path)], cwd=commands.ROOT, check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as drawn, Image.open(commands.ROOT / "docs" / "idea.png") as committed:
        assert drawn.size == committed.size and drawn.convert("L").getextrema()[0] < 128
        assert drawn.info["Source"] == committed.info["Source"]
