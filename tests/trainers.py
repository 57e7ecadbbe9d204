"""A tiny outer loop in which everything moves, and its variables."""

import numpy as np

import flp_tf
from flp_tf import learners
from flp_tf.meta.trainer import Trainer
from flp_tf.runs.training import make_trainer as trainer_of

STEPS = 6
CONFIG = {
    "recipe": "paper",
    "task": "sine",
    "num_sines": 2,
    "network": "8",
    "lifetime": 8,
    "batch_size": 4,
    "query_size": 4,
    "episodes": STEPS,
    "slow_rate": 0.01,
    "feedback_rate": 0.01,
    "plasticity_rate": 0.01,
    "strength_rate": 0.01,
    "plasticity_scale": 1e-3,
    "plasticity_init": 1.0,
    "output_plasticity_init": 1.0,
    "max_skipped": 3,
    "jit_compile": False,
}


def make_trainer(**changes) -> Trainer:
    config = flp_tf.configure(**CONFIG | changes)
    task = config.make_task()
    return trainer_of(config, task, learners.build(config, task))


def values(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in trainer.variables.items()}
