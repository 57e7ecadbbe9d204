"""Splits a meta-batch over devices and machines, with TensorFlow's own strategies."""

import tensorflow as tf

from flp_tf.meta import cluster

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")


def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy of `--distribution`; has to be called before anything else uses TensorFlow.

    It also calls `allow_memory_growth`.

    Args:
        name: `none`, `mirrored` (all GPUs of this machine, or its logical CPU devices)
            or `multi_worker` (one process per machine; `TF_CONFIG` names all of them).

    Raises:
        InputError: if `TF_CONFIG` cannot be used.
    """
    allow_memory_growth()
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])
    if name == "multi_worker":
        cluster.name_the_silent(cluster.check())
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def allow_memory_growth() -> None:
    """Makes TensorFlow take a GPU's memory as it needs it, rather than all of it at once.

    It has to be called before the first use of a GPU; after that it has no effect.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):
            # The GPU is already in use, or is split into logical devices.
            return


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes checkpoints, events and results."""
    resolver = strategy.cluster_resolver
    if not resolver or not resolver.task_type:
        return True
    return resolver.task_type in ("chief", "worker") and resolver.task_id == 0
