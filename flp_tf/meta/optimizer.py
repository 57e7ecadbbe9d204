"""Adam per group of weights, each with its own rate (paper, appendix A)."""

import keras
import tensorflow as tf

from flp_tf.learners.base import Learner


class GroupedAdam:
    """One Adam for each group: slow weights, feedback, plasticity, strength.

    Args:
        learner: whose meta-parameters it moves.
        config: the run's `Config`: rates, schedule, warm-up and clipping.
        steps: outer steps of the whole run, for the schedule.
    """

    def __init__(self, learner: Learner, config, steps: int):
        self.clip_norm = config.clip_norm
        self.groups = {name: weights for name, weights in learner.parameter_groups().items() if weights}
        self.optimizers = {}
        for name, weights in self.groups.items():
            optimizer = keras.optimizers.Adam(schedule(config, getattr(config, f"{name}_rate"), steps))
            optimizer.build(weights)
            self.optimizers[name] = optimizer

    @property
    def variables(self) -> list[tf.Variable]:
        """All state of the optimizers, for checkpoints."""
        return [v.value for optimizer in self.optimizers.values() for v in optimizer.variables]

    def split(self, gradients: list[tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        """Deals gradients in the learner's order to their groups."""
        gradients = iter(gradients)
        return {name: [next(gradients) for _ in weights] for name, weights in self.groups.items()}

    def norms(self, gradients: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns each group's gradient norm, before clipping."""
        return {name: tf.linalg.global_norm(part) for name, part in self.split(gradients).items()}

    def apply(self, gradients: list[tf.Tensor]) -> None:
        """Takes one outer step, clipping each group to `clip_norm` by itself.

        Args:
            gradients: the mean over replicas, in the learner's order.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, part in self.split(gradients).items():
            if self.clip_norm:
                part, _ = tf.clip_by_global_norm(part, self.clip_norm)
            # Keras sums over replicas once more.
            self.optimizers[name].apply([gradient / replicas for gradient in part])


def schedule(config, rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a rate's course: linear warm-up, then constant or cosine to 1 %.

    Args:
        config: the run's `Config`.
        rate: the rate after the warm-up.
        steps: outer steps of the whole run.
    """
    warmup = config.warmup_steps
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=max(steps - warmup, 1),
        alpha=0.01 if config.schedule == "cosine" else 1.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
