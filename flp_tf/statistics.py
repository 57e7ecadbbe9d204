"""Statistics over independently trained networks, and over lifetimes."""

import math
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
# Logarithms that differ by less are the same number: errors are computed in float32.
ROUNDING = 1e-6
LOWER, HIGHER, UNCLEAR = "lower", "higher", "not established"


class Interval(NamedTuple):
    """An estimate, and the ends of its 95 % confidence interval; NaN where it has none."""

    estimate: float
    low: float
    high: float

    def verdict(self) -> str:
        """Returns what the interval of a ratio says: `LOWER`, `HIGHER`, or `UNCLEAR` if it has 1, or is none."""
        return LOWER if self.high < 1 else HIGHER if self.low > 1 else UNCLEAR


def ratio(errors: np.ndarray, reference: np.ndarray) -> Interval:
    """Returns the ratio of geometric means of two independent samples.

        exp(mean of log errors - mean of log reference)

    Its interval is that of Welch's t-test for the difference of the means of the logarithms. There is none
    for fewer than two errors, for one that is zero, or where a sample does not vary, as copies of one network.

    Args:
        errors: of some networks `[networks]`.
        reference: of others `[networks]`; neither number needs to be the same.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs, others = np.log(errors), np.log(reference)
        estimate = float(np.exp(np.mean(logs) - np.mean(others))) if len(logs) else math.nan
    return _with_interval(estimate, logs, others)


def paired_ratio(errors: np.ndarray, reference: np.ndarray) -> Interval:
    """Returns the geometric mean of the ratios of paired values, such as two errors of each network.

        exp(mean of log (error / reference))

    Its interval is that of Student's t-test for the mean of the logarithms. There is none for fewer than two
    pairs, for a value that is not positive or not finite, or where the ratio does not vary.

    Args:
        errors: `[networks]`.
        reference: of the same networks `[networks]`.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    if np.shape(errors) != np.shape(reference):
        raise ValueError(
            f"errors have shape {np.shape(errors)}, the reference {np.shape(reference)}; expected the same"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(errors) - np.log(reference)
        estimate = float(np.exp(np.mean(logs))) if len(logs) else math.nan
    return _with_interval(estimate, logs)


def _varies(logs: np.ndarray) -> bool:
    """Returns whether logarithms are finite and differ: copies of one network are no sample."""
    return len(logs) > 1 and bool(np.all(np.isfinite(logs))) and np.ptp(logs) > ROUNDING


def _with_interval(estimate: float, *logs: np.ndarray) -> Interval:
    """Returns an estimate with the interval of Student's t-test of one sample of logarithms, or Welch's of two."""
    if not all(map(_varies, logs)):
        return Interval(estimate, math.nan, math.nan)
    # Half a second, which no other command needs.
    from scipy import stats

    test = stats.ttest_ind(*logs, equal_var=False) if len(logs) > 1 else stats.ttest_1samp(*logs, 0.0)
    low, high = np.exp(test.confidence_interval(LEVEL))
    return Interval(estimate, float(low), float(high))


def standard_error(values: np.ndarray) -> np.ndarray:
    """Returns the standard error of the mean of `values [n, ...]` over the first axis `[...]`.

        sqrt(sum of squared deviations from the mean / (n - 1) / n)

    It is NaN for fewer than two values, which say nothing of how they vary.
    """
    if len(values) < 2:
        return np.full(np.shape(values)[1:], math.nan)[()]
    with np.errstate(invalid="ignore"):
        return np.std(values, axis=0, ddof=1) / math.sqrt(len(values))
