"""Statistical significance: bootstrap intervals of means over queries, and a paired test between two runs.

Used by `evaluate` and `compare`. Both draw queries as if they were independent, which those of one landmark are not:
true intervals are wider. For recognition the precision at each guess is fixed, which another draw would change a
little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.evaluate.metrics import FloatValues, Scores

RESAMPLES = 2000
# Values drawn at once: 32 MB of float64.
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """One metric of two runs, query by query.

    Attributes:
        difference: mean of the second run minus the first, a fraction.
        interval: 95 % of the bootstrap means of the difference.
        p_value: of the two-sided sign-flip permutation test that the mean difference is 0.
        wins, losses, ties: how many queries have a higher, a lower and an equal value in the second run.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    wins: int
    losses: int
    ties: int


def confidence_intervals(
    scores: Scores, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The percentile bootstrap interval of each metric's mean, as fractions; queries without a value are left out.

    Efron's percentile method (`scipy.stats.bootstrap`); a metric of one query has an interval of no width.
    """
    return {name: _interval(_scored(values), level, resamples, seed) for name, values in scores.per_query.items()}


def paired_tests(before: Scores, after: Scores, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, PairedTest]:
    """Compare two runs over the same queries in the same order, metric by metric.

    Under the null hypothesis a query's two values could be exchanged between the runs, so the sign of each difference
    is flipped at random (Smucker, Allan, Carterette, CIKM 2007, recommend this test for retrieval). Exact where there
    are few differences.

    Raises:
        ValueError: the runs have different numbers of queries.
    """
    return {
        name: _compare(_scored(after.per_query[name] - values), resamples, seed)
        for name, values in before.per_query.items()
        if name in after.per_query
    }


def _compare(differences: FloatValues, resamples: int, seed: int) -> PairedTest:
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return PairedTest(
        difference=float(differences.mean()),
        interval=_interval(differences, 0.95, resamples, seed),
        p_value=_sign_flip(differences[differences != 0], resamples, seed),
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
    )


def _sign_flip(differences: FloatValues, resamples: int, seed: int) -> float:
    """Queries without a difference change nothing under any flip, so only the others [n] come here."""
    if len(differences) < 2:  # one difference is as likely with the other sign
        return 1.0
    result = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK_VALUES // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _interval(values: FloatValues, level: float, resamples: int, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK_VALUES // len(values)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _scored(values: FloatValues) -> FloatValues:
    return values[~np.isnan(values)]
