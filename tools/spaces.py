"""The search spaces of `tools/search`: values of the outer loop's flags, by method.

A space is called `NETWORK_ORDER_METHOD`, such as `sine_compact_continual_flp2`: a flagfile
in `flags/`, an order of the data and a method of `experiments.py`. No method inherits
another's rates, and all have the same number of trials.
"""

from typing import Any, NamedTuple


class Log(NamedTuple):
    """Numbers between two bounds, uniform in their logarithm."""

    low: float
    high: float


# Stands for the curriculum of the flagfile.
FLAGFILE = "flagfile"

# A list has the values to choose from. `curriculum` is LENGTH:SHARE,...: each share of the
# trial's inner steps is spent on lifetimes of this length, and the rest on those of full
# length. `warmup` is the share of the outer steps over which rates rise.
OUTER_LOOP: dict[str, Any] = {
    "slow_optimizer": ["adam", "muon", "lion"],
    "slow_rate": Log(1e-4, 1e-2),
    "schedule": ["cosine", "constant"],
    "warmup": [0.0, 0.02, 0.1],
    "clip_norm": [0.1, 1.0, 10.0],
    "meta_batch": [1, 2, 4],
    "average": [0.0, 0.9, 0.99],
}
SINE = {
    "curriculum": [
        FLAGFILE,
        "",
        "100:0.9",
        "100:0.6,200:0.3",
        "50:0.3,100:0.3,200:0.3",
        "200:0.8",
        "20:0.1,100:0.6,200:0.2",
    ]
}
FEEDBACK = {
    "plasticity_scale": Log(1e-4, 1e-2),
    "plasticity_init": [0.0, 0.1, 1.0],
    "output_plasticity_init": [0.0, 0.1, 1.0],
    "plasticity_optimizer": ["adam", "muon", "lion"],
    "plasticity_rate": Log(1e-4, 1e-2),
    "feedback_optimizer": ["adam", "muon", "lion"],
    "feedback_rate": Log(1e-4, 1e-2),
    "feedback_strength": [0.2, 0.5, 0.8, 1.0],
    "strength_rate": Log(1e-4, 1e-2),
}
GRADIENT = {"inner_rate": Log(3e-4, 3e-2), "plasticity_optimizer": ["adam", "lion"], "plasticity_rate": Log(1e-6, 1e-2)}
OML = {"inner_rate": Log(3e-4, 3e-2)}

# Without the second order the slow weights have no information on how large a rate may be.
FIRST_ORDER = GRADIENT | {"slow_rate": Log(1e-6, 1e-2), "plasticity_rate": Log(1e-8, 1e-1)}
# As published: nothing is clipped.
PUBLISHED = {"clip_norm": [0.0, 0.1, 1.0, 10.0]}
# Lifetimes of images have 25 or 50 steps, so values that add up over a lifetime may be larger. 0 clips nothing.
IMAGES = {
    "plasticity_scale": Log(1e-2, 10.0),
    "output_plasticity_init": [0.0, 0.1, 0.2, 1.0, 2.0],
    "inner_rate": Log(1e-3, 1.0),
    "clip_norm": [0.0, 0.1, 1.0, 10.0],
}

# By the first letters of the name of a method, and of a network.
OF_METHOD = {
    "feature_reuse": FEEDBACK,
    "flp": FEEDBACK,
    "dfa": FEEDBACK,
    **dict.fromkeys(("output_feedback", "hebb", "post_feedback", "target", "feedback_units", "per_"), FEEDBACK),
    **dict.fromkeys(("polynomial", "plastic", "cascade", "gaussian", "recurrent"), FEEDBACK),
    "gradient2_first_order": FIRST_ORDER,
    "gradient3_first_order": FIRST_ORDER | PUBLISHED,
    "gradient": GRADIENT,
    "oml3_first_order": OML | PUBLISHED,
    "oml": OML,
}
# A trial divides its inner steps by a curriculum; methods with lengths drawn at random have none.
NOT_SEARCHED = ("lengths2",)
OF_NETWORK = {"sine": SINE, "omniglot": IMAGES, "mini_imagenet": IMAGES}

# Inner steps that a trial simulates, and number of trials.
COST = {"sine_compact": 600_000, "sine_paper": 400_000, "omniglot_compact": 300_000}
OTHER_COST = 300_000
TRIALS = 40


def ranges(network: str, method: str) -> dict[str, Any]:
    """Returns the ranges of a space, by flag.

    Args:
        network: a flagfile without its folder and `.cfg`.
        method: a name of `experiments.METHODS`.
    """
    of_method = next(values for name, values in OF_METHOD.items() if method.startswith(name))
    of_network = next(values for name, values in OF_NETWORK.items() if network.startswith(name))
    found = OUTER_LOOP | of_method
    return found | {flag: values for flag, values in of_network.items() if flag in found or flag == "curriculum"}
