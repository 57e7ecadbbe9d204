"""A trunk that is an own Keras model: how it is made, and what it cannot be."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from flp_tf.errors import InputError

# From the shape of one example to a Keras layer or model that returns one tensor of features.
MakeTrunk = Callable[[tuple[int, ...]], keras.layers.Layer]
# That a trunk is tried with: more than one, to see whether it mixes them.
EXAMPLES = 3
# Relative to the largest feature.
ROUNDING = 0.05


def make_trunk(network: str, make: MakeTrunk, input_shape: Sequence[int], name: str, dtype: str) -> keras.Model:
    """Returns the trunk that a function makes, with its weights.

    Args:
        network: the name that it is registered as, for messages.
        make: the function.
        input_shape: shape of one example.
        name: of the trunk in its network; that of a model would be another every time.
        dtype: Keras dtype policy of its layers, unless they say another.

    Raises:
        InputError: if it is no Keras layer, does not take such examples, returns something else than
            one tensor of features, mixes examples, has weights of another type than the network's,
            or has state that training would change. `keras.layers.BatchNormalization`
            and `keras.layers.Dropout` have such state, and only `fit` of Keras would change it; a trunk
            is the same throughout a lifetime.
    """
    shape = tuple(input_shape)
    with _policy(dtype):
        trunk = make(shape)
        if not isinstance(trunk, keras.layers.Layer):
            raise InputError(f"--network={network} is a {type(trunk).__name__}; a trunk is a Keras layer or model")
        trunk = trunk if isinstance(trunk, keras.Model) else keras.Sequential([trunk])
    trunk.name = name
    # From 0 to 1: legal indices of an embedding, too.
    examples = tf.random.stateless_uniform([EXAMPLES, *shape], [0, 0])
    try:
        features = trunk(examples)
        alone = trunk(examples[:1])
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise InputError(f"--network={network} does not take examples of shape {shape}: {_reason(error)}") from None
    if not tf.is_tensor(features) or features.shape.rank < 2:
        raise InputError(f"--network={network} has to return one tensor, [examples, ...], of features")
    if features.shape[0] != EXAMPLES or alone.shape[0] != 1 or not _close(features[:1], alone):
        raise InputError(
            f"--network={network} has to compute the features of every example from that example alone; "
            f"{EXAMPLES} examples together give {features.shape.as_list()}, and other numbers than each of them"
        )
    weight = _of_another_type(trunk, keras.DTypePolicy(dtype).variable_dtype)
    if weight is not None:
        raise InputError(
            f"--network={network} has the weight {weight.path} of {weight.dtype}; legal is "
            f"{keras.DTypePolicy(dtype).variable_dtype}, the type of all other weights"
        )
    if layer := _changed_by_training(trunk, examples):
        raise InputError(
            f"--network={network}: training would change the state of {layer.name} ({type(layer).__name__}), but a "
            "trunk is the same throughout a lifetime; take a layer without state, such as LayerNormalization, or "
            "set its trainable = False, which keeps the state"
        )
    return trunk


def _close(one: tf.Tensor, other: tf.Tensor) -> bool:
    """Returns whether features are the same but for rounding, as that of bfloat16."""
    one, other = (np.asarray(tf.cast(part, tf.float64)) for part in (one, other))
    return np.allclose(one, other, rtol=0, atol=ROUNDING * np.max(np.abs(other), initial=0), equal_nan=True)


def _of_another_type(trunk: keras.Model, dtype: str) -> keras.Variable | None:
    """Returns a weight that is no `dtype`; counts and seeds, which are integers, are no weights."""
    return next((weight for weight in trunk.weights if "float" in weight.dtype and weight.dtype != dtype), None)


def _reason(error: Exception) -> str:
    """Returns what Keras says, without colours and the list of arguments, in one line."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).partition("Arguments received")[0]
    return " ".join(text.split())


def layers_of(trunk: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer or model, and all layers in it."""
    return trunk._flatten_layers()  # Public names lead to the outermost layers of models alone.


def units(trunk: keras.layers.Layer, shape: Sequence[int]) -> int:
    """Returns how many numbers a layer computes for one example; of a model, all of its layers as far as Keras knows.

    Args:
        trunk: a layer or model with weights.
        shape: of one example.
    """
    inner = [layer for layer in layers_of(trunk) if not isinstance(layer, (keras.Model, keras.layers.InputLayer))]
    outputs = keras.tree.flatten([getattr(layer, "output", None) for layer in inner])
    known = [output.shape[1:] for output in outputs if output is not None and None not in output.shape[1:]]
    return sum(map(math.prod, known)) or math.prod(trunk.compute_output_shape((None, *shape))[1:])


def _changed_by_training(trunk: keras.Model, examples: tf.Tensor) -> keras.layers.Layer | None:
    """Returns a layer that may be trained and whose state differs after a pass as in `fit`; the state is put back."""
    layers = [layer for layer in layers_of(trunk) if layer.trainable]
    state = {id(variable): variable for layer in layers for variable in layer.variables if not variable.trainable}
    before = {key: variable.numpy() for key, variable in state.items()}
    trunk(examples, training=True)
    changed = {key for key, variable in state.items() if not np.array_equal(variable.numpy(), before[key])}
    for key in changed:
        state[key].assign(before[key])
    owners = [layer for layer in layers if changed & {id(variable) for variable in layer.variables}]
    return owners[-1] if owners else None


@contextlib.contextmanager
def _policy(dtype: str) -> Iterator[None]:
    """A context in which Keras layers have a dtype policy unless they say another."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
