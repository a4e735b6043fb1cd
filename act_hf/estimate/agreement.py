"""Several people on the same rows: how far they agree, and how often each of them is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from act_hf.errors import ACTError
from act_hf.estimate.intervals import clopper_pearson
from act_hf.estimate.reviewers import reviewer_error_rate


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Answers = Sequence[Mapping[str, str]]
    Pairs = dict[tuple[str, str], tuple[int, int]]

_RESAMPLES = 200


@dataclass(frozen=True)
class Person:
    """
    One person's part in a review.

    Args:
        name (`str`): the annotator.
        answers (`int`): rows answered.
        pairs (`int`): of them with somebody else's answer, counted once for each other person.
        disagreeing (`int`): of these pairs, with another label.
        error_rate (tuple of three `float`, *optional*): how often the answers are wrong, in [0, 1 − 1/K], and the
            bounds of its 95 % interval; `None` without a pair.
        own (`bool`): whether the rate is this person's. Of two people who only share rows with each other it cannot be
            told who is wrong: both have the rate of the two together.
    """

    name: str
    answers: int
    pairs: int
    disagreeing: int
    error_rate: tuple[float, float, float] | None
    own: bool


def krippendorff_alpha(answers: Answers) -> float | None:
    """
    Krippendorff's α of nominal labels: 1 where people always agree, 0 where they agree as chance would have it,
    negative below that (Krippendorff 2011; computed by the package krippendorff).

    Args:
        answers (sequence of N mappings of annotator to label): everybody's answers for each row.

    Returns:
        `float`, *optional*: at most 1; `None` where no row has two answers, or all of those are the same label.
    """
    import krippendorff

    several = [Counter(given.values()) for given in answers if len(given) > 1]
    labels = sorted(set().union(*several))
    if len(labels) < 2:
        return None
    counts = np.array([[row[label] for label in labels] for row in several])
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def people(answers: Answers, labels: int, *, seed: int = 0) -> list[Person]:
    """
    What each person answered, and how often they are wrong, from the rows that they share with others.

    Persons i and j who are wrong independently with the probabilities r_i and r_j, and with each wrong label as often,
    agree on a row with

        1 − d_ij,   1 − a·d_ij = (1 − a·r_i)(1 − a·r_j),   a = K / (K − 1).

    The r that make the agreements of all pairs most probable are taken (a composite likelihood), with an interval from
    resampled rows. It is never narrower than the exact interval of a share r among the rows that the person shares,
    which is what they would say if the truth were known: rows without a disagreement, resampled, have no spread. Each
    can be told apart only where three people share rows two by two, or a longer ring of an odd number of them; else
    all who are connected get one rate (see [`reviewer_error_rate`]). Rows that are hard for everybody make the rates
    too small.

    Args:
        answers (sequence of N mappings of annotator to label): everybody's answers for each row.
        labels (`int`): K, at least 2.
        seed (`int`, *optional*, defaults to 0): of the resampling.

    Returns:
        `list` of [`Person`]: by name.

    Raises:
        ACTError: for fewer than two labels.
    """
    if labels < 2:
        raise ACTError(f"{labels} labels: two people can only disagree about two or more")
    given = Counter(name for row in answers for name in row)
    several = [row for row in answers if len(row) > 1]
    rates, told = _rates(several, labels, seed)
    pairs = _pairs(several)
    made = []
    for name in sorted(given):
        own = [count for who, count in pairs.items() if name in who]
        shared, differ = (sum(counts) for counts in zip(*own, strict=True)) if own else (0, 0)
        made.append(Person(name, given[name], shared, differ, rates.get(name), name in told))
    return made


def error_rates(answers: Answers, labels: int) -> dict[str, float]:
    """The error rates of [`people`] alone, of those who share a row with somebody."""
    rates, _ = _rates([row for row in answers if len(row) > 1], labels, None)
    return {name: rate for name, (rate, _, _) in rates.items()}


def _pairs(several: Answers) -> Pairs:
    """For each two people: rows that both answered, and of these those with different labels."""
    shared: Counter[tuple[str, str]] = Counter()
    differ: Counter[tuple[str, str]] = Counter()
    for row in several:
        for one, other in combinations(sorted(row), 2):
            shared[one, other] += 1
            differ[one, other] += row[one] != row[other]
    return {who: (count, differ[who]) for who, count in shared.items()}


def _rates(several: Answers, labels: int, seed: int | None) -> tuple[dict[str, tuple[float, float, float]], set[str]]:
    rates: dict[str, tuple[float, float, float]] = {}
    told: set[str] = set()
    for members, ring in _groups(_pairs(several)):
        rows = [row for row in several if members & row.keys()]
        if ring:
            told |= members
            rates |= _fitted(rows, sorted(members), labels, seed)
        else:
            counts = np.array(list(_pairs(rows).values())).sum(axis=0)
            together = reviewer_error_rate(int(counts[1]), int(counts[0]), labels)
            rates |= dict.fromkeys(members, together)
    return rates, told


def _groups(pairs: Pairs) -> list[tuple[set[str], bool]]:
    """
    People connected by rows that they share, and whether there is a ring of an odd number of them.

    Two-coloured twins tell: where every person has a red and a blue twin, and pairs join red to blue, the twins of a
    person are connected exactly where such a ring exists.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return []
    names = sorted({name for who in pairs for name in who})
    n, place = len(names), {name: number for number, name in enumerate(names)}
    edges = np.array([(place[one], place[other]) for one, other in pairs])
    red, blue = np.concatenate([edges[:, 0], edges[:, 1]]), np.concatenate([edges[:, 1], edges[:, 0]]) + n
    _, twins = connected_components(coo_array((np.ones(red.size), (red, blue)), shape=(2 * n, 2 * n)), directed=False)
    _, group = connected_components(coo_array((np.ones(edges.shape[0]), edges.T), shape=(n, n)), directed=False)
    found = []
    for number in np.unique(group):
        members = [person for person in range(n) if group[person] == number]
        ring = bool(twins[members[0]] == twins[members[0] + n])
        found.append(({names[person] for person in members}, ring))
    return found


def _fitted(rows: Answers, names: list[str], labels: int, seed: int | None) -> dict[str, tuple[float, float, float]]:
    place = {name: number for number, name in enumerate(names)}
    # A row's pairs, as places and whether they differ: what is resampled.
    flat = [
        (number, place[one], place[other], row[one] != row[other])
        for number, row in enumerate(rows)
        for one, other in combinations(sorted(row), 2)
    ]
    table = np.array(flat, dtype=np.int64)
    best = _most_probable(_counted(table, np.ones(len(rows)), len(names)), labels).tolist()
    if seed is None:
        return {name: (rate, rate, rate) for name, rate in zip(names, best, strict=True)}
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows))) for _ in range(_RESAMPLES)]
    spread = np.array([_most_probable(_counted(table, weight, len(names)), labels) for weight in drawn])
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    shared, worst = Counter(name for row in rows for name in row), 1 - 1 / labels
    rates = {}
    for name, rate, least, most in zip(names, best, low.tolist(), high.tolist(), strict=True):
        exact = clopper_pearson(rate, shared[name])
        rates[name] = (rate, min(least, exact[0]), min(worst, max(most, exact[1])))
    return rates


def _counted(table: NDArray[np.int64], weight: Floats | NDArray[np.int64], people: int) -> tuple[Floats, Floats]:
    """`[P, P]` each: pairs, and pairs that differ."""
    row, one, other, differ = table.T
    shared, differing = np.zeros((people, people)), np.zeros((people, people))
    np.add.at(shared, (one, other), weight[row])
    np.add.at(differing, (one, other), weight[row] * differ)
    return shared, differing


def _most_probable(counts: tuple[Floats, Floats], labels: int) -> Floats:
    """The error rates under which these agreements are most probable."""
    from scipy.optimize import minimize

    shared, differing = counts
    one, other = np.nonzero(shared)
    n, d = shared[one, other], differing[one, other]
    a = labels / (labels - 1)

    def loss(rate: Floats) -> tuple[float, Floats]:
        q = 1 - a * rate
        p = np.clip((1 - q[one] * q[other]) / a, 1e-9, 1 - 1e-9)
        slope = (n - d) / (1 - p) - d / p  # of the negative log-likelihood, by p
        gradient = np.zeros_like(rate)
        np.add.at(gradient, one, slope * q[other])
        np.add.at(gradient, other, slope * q[one])
        return float(-(d * np.log(p) + (n - d) * np.log1p(-p)).sum()), gradient

    start = np.full(shared.shape[0], min(0.5 * d.sum() / n.sum() + 1e-3, 0.9 / a))
    # Worse than chance is left out: with it there would be a second solution for every one.
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 1 / a - 1e-6)] * start.size)
    rates: Floats = found.x
    return rates
