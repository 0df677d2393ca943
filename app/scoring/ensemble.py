"""Votes of several detectors to one score.

weighted_average  the weighted mean of the votes
max               the highest vote
majority_vote     the highest score that detectors with more than half of the weight reach: for any threshold, it is
                  above it exactly when a majority is
skill             as weighted_average, but a detector that expects a value is weighted by its recent accuracy:
                  weight / (its mean squared error relative to the lowest one); the others by weight alone
"""

from app.compiled.numeric import nan, rounded

WEIGHTED_AVERAGE, MAX, MAJORITY_VOTE, SKILL = 0, 1, 2, 3
MODES = ("weighted_average", "max", "majority_vote", "skill")  # setting -> its place here
ERRORS = [("squared", "f8"), ("seen", "i8")]  # of a detector that expects a value
VERSION = 1  # of ERRORS; raise when old state would mean something else
MEMORY = 0.01  # share of the newest error: about the last 100 points
CUT = 25.0  # a squared error is cut at this multiple of the mean, so that one outlier does not decide


def combine(mode, parts, votes, weights):
    """The score of ``parts``, columns of votes (nan: none) and of weights."""
    total = 0.0
    weight = 0.0
    highest = 0.0
    for part in parts:
        if votes[part] == votes[part]:
            total += weights[part] * votes[part]
            weight += weights[part]
            highest = max(highest, votes[part])
    if mode == MAX:
        return highest
    if not weight > 0.0:
        return 0.0
    return majority(parts, votes, weights, weight) if mode == MAJORITY_VOTE else rounded(total / weight)


def majority(parts, votes, weights, weight):
    best = 0.0
    for one in parts:
        if votes[one] > best:
            reached = 0.0
            for other in parts:
                if votes[other] >= votes[one]:
                    reached += weights[other]
            if reached + reached > weight:
                best = votes[one]
    return best


def voted(parts, votes):
    """The number of ``parts`` with a vote."""
    number = 0
    for part in parts:
        if votes[part] == votes[part]:
            number += 1
    return number


def learn_error(e, x, expected):
    """Learn the error of the expected value (nan: none)."""
    if expected == expected:
        e.seen += 1
        found = min((x - expected) * (x - expected), 1e300)
        if e.seen > 20 and e.squared > 0.0:
            found = min(found, CUT * e.squared)
        e.squared += max(1.0 / e.seen, MEMORY) * (found - e.squared)


def weigh(weight, e, best):
    """The weight of a detector with these errors; ``best``: the lowest mean squared error of all."""
    return weight * (best / e.squared) if e.squared > best else weight


def share(column, parts, votes, weights):
    """A column's share of the weight of all that voted; nan if it did not vote."""
    if votes[column] != votes[column]:
        return nan
    weight = 0.0
    for part in parts:
        if votes[part] == votes[part]:
            weight += weights[part]
    return weights[column] / weight if weight > 0.0 else 0.0
