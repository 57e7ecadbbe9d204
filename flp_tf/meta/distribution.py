"""Splitting a meta-batch over devices and machines, with TensorFlow's own engine."""

import tensorflow as tf

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")


def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy of `--distribution`; call it before any other TensorFlow work.

    Args:
        name: `none`, `mirrored` (all GPUs of this machine, or its logical CPU devices)
            or `multi_worker` (one process a machine, told of each other by `TF_CONFIG`).
    """
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes checkpoints, events and results."""
    resolver = strategy.cluster_resolver
    if not resolver or not resolver.task_type:
        return True
    return resolver.task_type in ("chief", "worker") and resolver.task_id == 0
