"""An anytime-valid test: may be looked at after every pair, and still errs no more often than it says.

The evidence is an e-process for paired differences of unknown variance: the likelihood ratio of a normal mixture over effect sizes
against no effect, with the right Haar prior on the variance (the sequential t-test as of Lai 1976; that it may be looked at any time:
Perez-Ortiz, Lardy, de Heide and Grünwald, Annals of Statistics 52, 2024, and Wang and Ramdas, arXiv 2310.03722). By Ville's inequality
it ever reaches 1/alpha with a probability of at most alpha where there is no effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

EFFECT_SCALE = 1.0
"""Standard deviation of the mixture over effect sizes (mean over standard deviation of one difference)."""

MOST_SIZES = 2.0
"""One difference counts for at most so many times the usual size: about Huber's 1.345 standard deviations of a normal distribution."""


def clipped(differences: Sequence[float]) -> tuple[float, ...]:
    """Return paired differences of which none counts for much more than the usual one.

    Each is held to a multiple of the median size of all that are not 0: sizes alone decide, and where there is no effect and the order of
    each pair was drawn by a coin, signs stay as fair and as independent as they were.
    """
    sizes = [abs(one) for one in differences if one]
    most = MOST_SIZES * median(sizes) if sizes else 0.0
    return tuple(min(max(one, -most), most) for one in differences)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What paired differences say. ``e`` at or above 1/alpha is proof at level alpha."""

    count: int
    mean: float
    deviation: float
    """Standard deviation of one difference; NaN below two."""
    log_e: float
    """Logarithm of the e-value against no effect."""

    def proves_gain(self, alpha: float) -> bool:
        """Tell whether the mean is shown to be above 0."""
        return self.mean > 0 and self.log_e >= -math.log(alpha)

    def proves_loss(self, alpha: float) -> bool:
        """Tell whether the mean is shown to be below 0."""
        return self.mean < 0 and self.log_e >= -math.log(alpha)


def evidence(differences: Sequence[float], *, scale: float = EFFECT_SCALE) -> Evidence:
    """Return what paired differences say of their mean, against 0."""
    count = len(differences)
    mean = math.fsum(differences) / count if count else 0.0
    if count < 2:
        return Evidence(count, mean, math.nan, 0.0)
    variance = math.fsum((one - mean) ** 2 for one in differences) / (count - 1)
    return Evidence(count, mean, math.sqrt(variance), _log_e(count, mean, variance, scale))


def expected(mean: float, deviation: float, count: int, *, scale: float = EFFECT_SCALE) -> Evidence:
    """Return what so many differences (two or more) would say if they had this mean and standard deviation."""
    return Evidence(count, mean, deviation, _log_e(count, mean, deviation**2, scale))


def interval(differences: Sequence[float], alpha: float, *, scale: float = EFFECT_SCALE) -> tuple[float, float]:
    """Return the confidence sequence's interval for the mean: at all times together it misses with probability alpha.

    It holds every value that the test, at this level, does not reject; infinite below two differences.
    """
    found = evidence(differences, scale=scale)
    if found.count < 2:
        return -math.inf, math.inf
    if found.deviation == 0:
        return found.mean, found.mean
    reach = _widest(found.count, alpha, scale) * found.deviation / math.sqrt(found.count)
    return found.mean - reach, found.mean + reach


def _log_e(count: int, mean: float, variance: float, scale: float) -> float:
    if variance == 0:
        return 0.0 if mean == 0 else math.inf
    return _log_e_of_t(count, count * mean * mean / variance, scale)


def _log_e_of_t(count: int, t_squared: float, scale: float) -> float:
    """Return the logarithm of the mixture's likelihood ratio for a squared t statistic."""
    spread = 1 + count * scale * scale
    freedom = count - 1
    ratio = (1 + t_squared / freedom) / (1 + t_squared / (freedom * spread))
    return 0.5 * (count * math.log(ratio) - math.log(spread))


def _widest(count: int, alpha: float, scale: float) -> float:
    """Return the |t| at which the test rejects at level alpha; infinite where so few differences never can."""
    limit = -math.log(alpha)
    most = 0.5 * (count * math.log(1 + count * scale * scale) - math.log(1 + count * scale * scale))
    if most <= limit:
        return math.inf
    low, high = 0.0, 1.0
    while _log_e_of_t(count, high * high, scale) < limit:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _log_e_of_t(count, middle * middle, scale) >= limit else (middle, high)
    return high
