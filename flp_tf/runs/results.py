"""The final results of a run: `result.json`, `evaluation.json`, and the printed table."""

import math
from collections.abc import Mapping
from typing import Any

from flp_tf.errors import InputError
from flp_tf.meta.evaluation import Evaluator, lifetimes_at_once
from flp_tf.runs.config import Config
from flp_tf.tasks import Task
from flp_tf.tasks.checks import check_size

# Parts of a run's configuration that are stored beside its results, if the run has them.
FACTS = ("task", "continual", "method", "num_plastic_layers", "second_order", "seed", "eval_lifetime_scale")
# Why there is null in place of a number.
NOT_FINITE = "the error on unseen data is not a finite number"


def test_task(config: Config, task: Task) -> Task:
    """Returns the task of the meta-test: that of the run, with `--eval_lifetime_scale` times as many inner steps.

    Raises:
        InputError: if lifetimes of the task cannot have this length, or are too large to be drawn.
    """
    try:
        longer = task.with_lifetime(task.steps * config.eval_lifetime_scale)
        check_size(longer, lifetimes_at_once(config.eval_episodes))
        return longer
    except InputError as error:
        if config.eval_lifetime_scale == 1:
            raise
        raise InputError(f"--eval_lifetime_scale={config.eval_lifetime_scale} is not possible: {error}") from None


def meta_test(config: Config, evaluator: Evaluator) -> dict[str, Any]:
    """Meta-tests a learner.

    Args:
        config: seed, number and length of the lifetimes.
        evaluator: of the run's task, and of a learner with the weights to test.

    Returns:
        `FACTS` and the statistics of the errors, in the form that `result.json` has. If the
        mean is not finite, the field `diverged` says so.
    """
    task = test_task(config, evaluator.task)
    if task is not evaluator.task:
        evaluator = Evaluator(evaluator.learner, task, config.jit_compile)
    evaluation = evaluator(config.seed, config.eval_episodes)
    content = {name: getattr(config, name) for name in FACTS if hasattr(config, name)}
    content |= evaluation.to_dict(task.concept)
    return content if math.isfinite(content["meta_test"]["mean"]) else content | {"diverged": NOT_FINITE}


def title(config: Config) -> str:
    """Returns the method and task of a run: `flp(2) on sine, continual`."""
    order = {True: ", continual", False: ", i.i.d."}.get(getattr(config, "continual", None), "")
    return f"{config.method}({config.num_plastic_layers}) on {config.task}{order}"


def table(config: Config, task: Task, content: Mapping[str, Any]) -> str:
    """Returns a meta-test as text: mean, standard error, and by sine or class.

    Args:
        config: of the run.
        task: of the run.
        content: from `meta_test`.
    """
    lines = [
        f"Meta-test of {title(config)}: {content['meta_test']['episodes']} lifetimes of unseen data",
        f"  {'':>16} {task.unit:>10} {'std. error':>12}",
    ]
    rows = [("before lifetime", content["before_lifetime"]), ("after lifetime", content["meta_test"])]
    rows += [(f"{task.concept} {i + 1}", row) for i, row in enumerate(content[f"per_{task.concept}"])]
    lines += [f"  {name:>16} {row['mean']:>10.4g} {row['stderr']:>12.2g}" for name, row in rows]
    return "\n".join(lines)
