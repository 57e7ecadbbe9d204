"""The tree of the package: imports go downwards, those inside functions, too."""

import ast
from pathlib import Path

import pytest

import flp_tf

PACKAGE = Path(flp_tf.__file__).parent
# From the bottom up. A module may import those of its own folder, and those below.
LEVELS = (
    ("errors", "seeds", "losses", "silence", "memory", "statistics"),
    ("files", "registry", "component"),
    ("plasticity", "initial"),
    ("feedback",),
    ("layers",),
    ("networks",),
    ("learners", "tasks"),
    ("lifetime",),
    ("export",),
    ("meta",),
    ("runs",),
    ("analysis", "pretrained"),
    ("commandline",),
    ("helptext", "commands"),
    ("main",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    """Returns the folder or module right below the package that a file is of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Returns the parts of the package that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "flp_tf":
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found |= {name for name in names if not name.startswith("__")}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("flp_tf.")}
    return found


def test_every_part_has_a_level():
    assert {part_of(path) for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    tree, part = ast.parse(path.read_text()), part_of(path)
    assert not {name for name in imported(tree) - {part} if LEVEL[name] >= LEVEL[part]}
