"""Tasks: families of episodes, one module each, one `Episode` structure."""

from flp_tf.registry import Registry
from flp_tf.tasks.base import SPLITS, Episode, Task
from flp_tf.tasks.sine import Sine

TASKS = Registry("task", sine=Sine)

__all__ = ["SPLITS", "TASKS", "Episode", "Sine", "Task"]
