"""A rule with meta-learned coefficients: a polynomial of local activities and of the weight."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.plasticity.base import Rule
from flp_tf.registry import option

# Coefficients of known rules, by exponents; all others are zero.
STARTS: Mapping[str, Mapping[str, float]] = {"oja": {"110": 1.0, "021": -1.0}, "hebb": {"110": 1.0}, "zero": {}}


@dataclasses.dataclass(frozen=True)
class PolynomialOptions:
    """Options of the polynomial rule."""

    terms: tuple[str, ...] = option(
        ("110", "021", "111", "011", "010"),
        "Exponents of presynaptic activity, postsynaptic activity and weight, a digit each, such as 110,021.",
    )
    start: str = option(
        "oja",
        "Which rule the coefficients start as; zero needs a plasticity that does not.",
        legal=tuple(STARTS),
    )


class PolynomialRule(Rule):
    """`dW = sum over terms ijk of theta_ijk * (pre^i)^T (post^j) * W^k` (paper, section 8.1).

    Summed over the batch. Every layer has a `theta` of its own, one number per term. Oja's
    rule is `theta_110 = 1, theta_021 = -1`, Hebb's is `theta_110 = 1`. With
    `theta = 0` and `alpha = 0` all gradients are 0, so that one of them has to start at another value.

    Args:
        terms: exponents `i`, `j` and `k`, each 0 to 9, such as `("110", "021")`.
        start: which of `STARTS` the coefficients are at first.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        InputError: if a term is no three digits or there twice, or `start` needs terms that are missing.
    """

    Options = PolynomialOptions

    def __init__(self, terms: Sequence[str] = PolynomialOptions.terms, start: str = "oja", **kwargs: Any):
        super().__init__(**kwargs)
        self.terms, self.start = tuple(terms), start
        text = ",".join(self.terms)
        legal = [len(term) == 3 and term.isascii() and term.isdecimal() for term in self.terms]
        if not all(legal) or not legal or len(set(self.terms)) < len(legal):
            raise InputError(f"--rule_terms={text} cannot be read; legal are different terms of three digits each")
        if missing := sorted(set(STARTS[start]) - set(self.terms)):
            raise InputError(f"--rule_start={start} needs the term {missing[0]}, which --rule_terms={text} lacks")

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"terms": self.terms, "start": self.start}

    def check_plasticity(self, start: float) -> None:
        """See `Rule.check_plasticity`; with `theta = 0` and `alpha = 0` all gradients are 0."""
        if not STARTS[self.start] and not start:
            raise InputError(
                "--rule_start=zero learns nothing where plasticity starts at 0, too; "
                "legal are --plasticity_init and --output_plasticity_init other than 0, such as 1"
            )

    def build(self, kernel_shape: tuple[int, int]) -> None:
        """Makes `theta`, by term; see `Rule.build`."""
        del kernel_shape
        values = {term: keras.initializers.Constant(STARTS[self.start].get(term, 0.0)) for term in self.terms}
        self.theta = {
            term: self.add_weight(name=f"theta_{term}", shape=(), initializer=value) for term, value in values.items()
        }
        self.built = True

    def call(self, kernel: tf.Tensor, pre: tf.Tensor, post: tf.Tensor) -> tf.Tensor:
        """Returns the direction `[..., in, out]`; see `Rule.call`."""
        exponents = {term: tuple(map(int, term)) for term in self.terms}
        total = 0.0
        # Terms that differ in the exponent of the weight share a matrix product.
        for i, j in dict.fromkeys(of_term[:2] for of_term in exponents.values()):
            factors = [
                self.theta[term].value * _power(kernel, of_term[2])
                for term, of_term in exponents.items()
                if of_term[:2] == (i, j)
            ]
            total += _correlation(pre, post, i, j) * sum(factors[1:], factors[0])
        return tf.broadcast_to(total, tf.shape(kernel))


def _power(base: tf.Tensor, exponent: int) -> tf.Tensor:
    """Returns `base**exponent` by products, which have derivatives everywhere."""
    power = tf.ones([], base.dtype)
    for _ in range(exponent):
        power = power * base
    return power


def _correlation(pre: tf.Tensor, post: tf.Tensor, i: int, j: int) -> tf.Tensor:
    """Returns `sum_n (pre_n^i)^T (post_n^j)`, broadcastable to `[..., in, out]`."""
    if i and j:
        return tf.matmul(_power(pre, i), _power(post, j), transpose_a=True)
    if j:
        return tf.reduce_sum(_power(post, j), -2, keepdims=True)
    if i:
        return tf.linalg.matrix_transpose(tf.reduce_sum(_power(pre, i), -2, keepdims=True))
    return tf.cast(tf.shape(pre)[-2], pre.dtype)
