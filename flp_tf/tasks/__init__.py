"""Tasks: families of episodes, one module each."""

from flp_tf.registry import Registry
from flp_tf.tasks.base import SPLITS, Episode, Signature, Task
from flp_tf.tasks.classification import Classification
from flp_tf.tasks.imitation import Imitation
from flp_tf.tasks.mini_imagenet import MiniImagenet
from flp_tf.tasks.omniglot import Omniglot
from flp_tf.tasks.sine import Sine

TASKS = Registry("task", default="sine", text="What is learned in a lifetime.")
TASKS.register("sine")(Sine)
TASKS.register("omniglot")(Omniglot)
TASKS.register("mini_imagenet")(MiniImagenet)
TASKS.register("imitation")(Imitation)

__all__ = [
    "SPLITS",
    "TASKS",
    "Classification",
    "Episode",
    "Imitation",
    "MiniImagenet",
    "Omniglot",
    "Signature",
    "Sine",
    "Task",
]
