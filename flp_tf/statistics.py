"""Statistics over independently trained networks, and over lifetimes."""

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95
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
    many, finite = min(len(logs), len(others)) > 1, np.all(np.isfinite([*logs, *others]))
    if not (many and finite and (np.ptp(logs) and np.ptp(others))):
        return Interval(estimate, math.nan, math.nan)
    return _exponential(estimate, _tests().ttest_ind(logs, others, equal_var=False))


def paired_ratio(errors: np.ndarray, reference: np.ndarray) -> Interval:
    """Returns the geometric mean of the ratios of paired values, such as two errors of each of some networks.

        exp(mean of log (error / reference))

    Its interval is that of Student's t-test for the mean of the logarithms. There is none for fewer than two
    pairs, for a value that is zero or not finite, or where the ratio does not vary.

    Args:
        errors: `[networks]`.
        reference: of the same networks `[networks]`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(errors) - np.log(reference)
        estimate = float(np.exp(np.mean(logs))) if len(logs) else math.nan
    if len(logs) < 2 or not np.all(np.isfinite(logs)) or not np.ptp(logs):
        return Interval(estimate, math.nan, math.nan)
    return _exponential(estimate, _tests().ttest_1samp(logs, 0.0))


def _tests() -> ModuleType:
    """Returns SciPy's tests, whose import takes half a second that no other command needs."""
    from scipy import stats

    return stats


def _exponential(estimate: float, test: Any) -> Interval:
    """Returns an estimate with the interval of a test of its logarithm."""
    found = test.confidence_interval(LEVEL)
    return Interval(estimate, float(np.exp(found.low)), float(np.exp(found.high)))


def standard_error(values: np.ndarray) -> np.ndarray:
    """Returns the standard error of the mean of `values [n, ...]` over the first axis `[...]`.

        sqrt(sum of squared deviations from the mean / (n - 1) / n)

    It is NaN for fewer than two values, which say nothing of how they vary.
    """
    if len(values) < 2:
        return np.full(np.shape(values)[1:], math.nan)[()]
    with np.errstate(invalid="ignore"):
        return np.std(values, axis=0, ddof=1) / math.sqrt(len(values))
