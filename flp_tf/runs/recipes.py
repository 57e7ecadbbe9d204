"""Recipes: the values of a whole procedure, by task.

A recipe is a mapping from classes of tasks to values of flags. A task takes the values of all
its classes, from `Task` down to its own, so that a subclass of `Sine` trains as `Sine`
does, unless it has values of its own. A recipe's value replaces the default of the component, and is
replaced by what the user gives. Values that no chosen component has are not used.

A new recipe is a mapping here and a line that registers it:

    RECIPES.register("slow")({Task: {**PAPER[Task], "slow_rate": 1e-5}})
"""

from collections.abc import Mapping
from typing import Any

from flp_tf.component import GROUPS
from flp_tf.registry import Registry
from flp_tf.tasks import Classification, Imitation, MiniImagenet, Omniglot, Sine, Task

Recipe = Mapping[type, Mapping[str, Any]]

RECIPES = Registry("recipe", default="fast", text="Values where no flag says others.")

# The procedure that the paper publishes (sections 4 and 5, appendix B).
PAPER: Recipe = {
    Task: {
        **{f"{group}_rate": 1e-4 for group in GROUPS},
        **{f"{group}_optimizer": "adam" for group in GROUPS},
        "meta_batch": 1,
        "schedule": "constant",
        "warmup_steps": 0,
        "clip_norm": 0.0,
        "plasticity_init": 0.0,
        "output_plasticity_init": 0.0,
        "feedback_strength": 0.5,
    },
    Sine: {
        "network": "sine_paper",
        "episodes": 20_000,
        "lifetime": 400,
        "batch_size": 32,
        "query_size": 64,
        "feedback_signal": "error",
        "clamp_output": False,
        "plasticity_scale": 1e-4,
        "hidden_plasticity_factor": 1.0,
        "inner_rate": 0.003,
    },
    Classification: {
        "episodes": 40_000,
        "query_size": 15,
        "image_size": 84,
        "feedback_signal": "target",
        "clamp_output": True,
        "plasticity_scale": 0.1,
        "hidden_plasticity_factor": 100.0,
        "inner_rate": 0.01,
    },
    Omniglot: {"network": "omniglot_paper"},
    MiniImagenet: {"network": "mini_imagenet_paper"},
}

# The fastest procedure to the paper's errors (docs/outer_loop.md): short lifetimes at first, Muon
# for the slow weights, rates that fall to a hundredth, clipped meta-gradients, updates by feedback
# alone at first, compact networks.
FAST: Recipe = {
    Task: {
        **PAPER[Task],
        **{f"{group}_rate": 1e-3 for group in GROUPS},
        "schedule": "cosine",
        "clip_norm": 1.0,
        # The initial value; it is meta-learned. From 0.5, as published, errors end higher (docs/outer_loop.md).
        "feedback_strength": 1.0,
    },
    Sine: {
        **PAPER[Sine],
        "network": "sine_compact",
        "slow_optimizer": "muon",
        "slow_rate": 6e-3,
        "curriculum": "25%:43%,50%:36%",
        "episodes": 4_000,
        "plasticity_scale": 1e-3,
    },
    Imitation: {
        "network": "128-128-128",
        "slow_optimizer": "muon",
        "slow_rate": 3e-3,
        "episodes": 10_000,
        "plasticity_scale": 1e-2,
        "output_plasticity_init": 3.0,
    },
    Classification: {
        **PAPER[Classification],
        "slow_optimizer": "muon",
        "slow_rate": 3e-3,
        "episodes": 20_000,
        "plasticity_scale": 1.0,
        "hidden_plasticity_factor": 1.0,
        "output_plasticity_init": 0.2,
        "inner_rate": 0.1,
    },
    Omniglot: {
        "network": "omniglot_compact",
        "image_size": 28,
        "rotations": True,
        "mirrors": True,
        "distortion": 0.1,
    },
    MiniImagenet: {
        "network": "mini_imagenet_compact",
        "image_size": 42,
        "flips": True,
        "distortion": 0.1,
    },
}

RECIPES.register("paper")(PAPER)
RECIPES.register("fast")(FAST)


def values(recipe: str, task: Any) -> dict[str, Any]:
    """Returns the values of a recipe for a task, by flag.

    Args:
        recipe: name of the recipe.
        task: the registered task. A task that is a function instead of a class takes the values of `Task`.

    Raises:
        InputError: if there is no such recipe.
    """
    merged: dict[str, Any] = {}
    for of_class in reversed(getattr(task, "__mro__", (Task,))):
        merged |= RECIPES[recipe].get(of_class, {})
    return merged
