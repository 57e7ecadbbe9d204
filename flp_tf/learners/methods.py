"""The compared methods (paper, section 5): a configuration's learner by name.

A method is a function `method(config, task) -> Learner`; a new one is a line here.
"""

import keras

from flp_tf.feedback import FEEDBACK
from flp_tf.learners.base import Learner
from flp_tf.learners.gradient import GradientLearner
from flp_tf.learners.local import FeedbackLearner
from flp_tf.networks import Network, parse
from flp_tf.registry import Registry


def build(config, task) -> Learner:
    """Returns the learner that a resolved `Config` describes, with fresh weights.

    Args:
        config: the run's `Config`.
        task: its `Task`; its shapes and its loss are all that is used of it.

    Raises:
        ValueError: naming the flag that does not fit the network.
    """
    keras.utils.set_random_seed(config.seed)
    return METHODS[config.method](config, task)


def _network(config, task, plastic_options) -> Network:
    trunk_dtype = "mixed_bfloat16" if config.trunk_precision == "bfloat16" else None
    return Network(
        parse(config.network),
        task.input_shape,
        task.num_outputs,
        config.num_plastic_layers,
        plastic_options,
        trunk_dtype=trunk_dtype,
    )


def _local(config, task, train_feedback: bool = True) -> Learner:
    """FLP; one plastic layer makes it feature reuse, fixed feedback weights DFA."""

    def plastic_options(is_output: bool) -> dict:
        clamped = is_output and config.clamp_output
        pathway = FEEDBACK[config.feedback](
            task.num_outputs,
            activation=config.feedback_activation,
            hidden_units=config.feedback_units,
            strength=config.feedback_strength,
            train_kernels=train_feedback,
            name="feedback",
        )
        return {
            "rule": config.rule,
            "granularity": config.granularity,
            "plasticity_scale": config.plasticity_scale * (1.0 if is_output else config.hidden_plasticity_factor),
            "plasticity_init": config.output_plasticity_init if is_output else config.plasticity_init,
            "feedback": None if clamped else pathway,
        }

    network = _network(config, task, plastic_options)
    return FeedbackLearner(network, config.feedback_signal, config.clamp_output, config.presynaptic)


def _gradient(config, task, meta_learned_rates: bool) -> Learner:
    """Gradient descent with meta-learned rates per synapse, or OML with a fixed one."""

    def plastic_options(is_output: bool) -> dict:
        del is_output
        return {
            "granularity": config.granularity if meta_learned_rates else "per_layer",
            "plasticity_scale": config.inner_rate,
            "plasticity_init": 1.0,
            "train_plasticity": meta_learned_rates,
        }

    return GradientLearner(_network(config, task, plastic_options), task.loss, config.second_order)


METHODS = Registry(
    "method",
    flp=_local,
    feature_reuse=_local,
    dfa=lambda config, task: _local(config, task, train_feedback=False),
    gradient=lambda config, task: _gradient(config, task, meta_learned_rates=True),
    oml=lambda config, task: _gradient(config, task, meta_learned_rates=False),
)
