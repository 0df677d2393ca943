"""scikit-learn's outlier detectors, refitted regularly on the last points of each metric.

====================== ================================== ======================================= ================
method                 scikit-learn's                     a point is odd                          its score
====================== ================================== ======================================= ================
isolation_forest       ensemble.IsolationForest           where random cuts soon leave it alone   -score_samples
local_outlier_factor   neighbors.LocalOutlierFactor       where points are sparser than around    log(-score_samples)
                                                          its nearest neighbours
one_class_svm          svm.OneClassSVM                    outside the region that holds nearly    -score_samples
                                                          all points
autoencoder            neural_network.MLPRegressor        where a network with a bottleneck,      root mean square
                                                          taught to give back what it is given,   of the error
                                                          fails to
elliptic_envelope      covariance.EllipticEnvelope        far out in the normal distribution      sqrt(-score_samples)
                                                          that fits the densest points
====================== ================================== ======================================= ================

Features of a point: its value, the step from the value before, and its distance from the mean of the 20
before, in deviations of each over the window. That finds anomalous values and jumps; it is blind to hours and seasons,
and to joint anomalies of several metrics. For isolation_forest no value scores higher than the extremes of the window.

The raw score is how many standard deviations the score lies above the mean of the scores that the window's own points
have; it is then standardised once more, by the raw scores before it (SCALE own_past), since points to come score
higher than those an estimator was fitted on, more so on one source than on another. ``threshold`` is in these
deviations. ``contamination`` c, where it is given, is scikit-learn's: a share c of the window's points lies beyond
its line, and the raw score counts from there; a point within, which ``predict`` calls 1, has 0. one_class_svm and
autoencoder have it too. ``predict`` itself is not used.

When an estimator is fitted, and how points are scored meanwhile: ``app/detectors/support/refitted.py``. With another
``refit_every`` or ``window_size`` the window is reset. EllipticEnvelope fails where more than half of the window is
one value, since it then finds no dense points to measure; it then takes all of them, as with support_fraction 1.

Parameters have scikit-learn's names and defaults. What differs, and why (delay-F1 on KPI, mean average precision on
core-KPI, NAB standard):

- Features, tried with local_outlier_factor on 500 points: these .84, .51, 17; the value alone .42, .55, 16; with one
  step .52, .43, 16; with two lags .68, .29, 18; the step alone .72, .36, 18. With the autoencoder: these .88, .36,
  20; the value and 7 lags .64, .18, 12.
- Standardising once more: autoencoder .90, .33, 31 where the first alone gives .88, .36, 20, with half the false
  alerts.
- ``window_size`` is 1000: with 500, local_outlier_factor .83, .44, 27 becomes .90, .45, 29, and the autoencoder's NAB
  31 becomes 38. elliptic_envelope has 500, beyond which scikit-learn takes ten times as long.
- ``nu`` is .01: with .1, NAB 24 becomes 18; scikit-learn's .5 gives 4.
- The autoencoder's ``hidden_layer_sizes`` are [2], one fewer than features, tanh and lbfgs: [8, 2, 8] and adam score
  alike at five times the time.
- ``random_state`` is 42, not drawn.

scikit-learn takes a second to import: it is imported where a model is made; names and parameters are known without.
It fits; all but the support vectors are walked here, by what its documented attributes say. A call of scikit-learn
for one point takes .3 to 4 ms (here .05), the last bits of what its network says of a row depend on how many rows it
is asked of at once, and some calls change the process's warning filters, which only one thread may do. Points are
scored a batch at a time (``score_many``), to the same bits however they are batched: on one machine, not on all,
since linear algebra runs in one thread, but differs between processors.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou (2008), Isolation Forest, ICDM, pages 413-422.
.. [2] M. M. Breunig, H.-P. Kriegel, R. T. Ng, J. Sander (2000), LOF: Identifying Density-Based Local Outliers,
   SIGMOD, pages 93-104.
.. [3] B. Schoelkopf, J. C. Platt, J. Shawe-Taylor, A. J. Smola, R. C. Williamson (2001), Estimating the Support of a
   High-Dimensional Distribution, Neural Computation 13, pages 1443-1471.
.. [4] N. Japkowicz, C. Myers, M. Gluck (1995), A Novelty Detection Approach to Classification, IJCAI, pages 518-523.
.. [5] P. J. Rousseeuw, K. Van Driessen (1999), A Fast Algorithm for the Minimum Covariance Determinant Estimator,
   Technometrics 41, pages 212-223.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import version as installed
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from app.detectors.api import Param, Params, derived, param
from app.detectors.support.refitted import FEATURES, SILENT, Fitted, RefittedModel, Rows, max_bytes
from app.errors import ConfigurationError, StateError

VERSION = 1  # raise when state of an earlier release would mean something else


# --- estimators: what fits standardised features, and gives the scores of those and of any


@cache
def _sklearn() -> Any:
    """scikit-learn, its linear algebra in one thread: the same bits for any number of cores."""
    import warnings

    import sklearn.covariance
    import sklearn.ensemble
    import sklearn.neighbors
    import sklearn.neural_network
    import sklearn.svm
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
    warnings.filterwarnings("ignore", module=r"sklearn\.")  # the optimiser stopped at max_iter, as configured
    return sklearn


def _isolation_forest(p: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, Rows]:
    forest = _sklearn().ensemble.IsolationForest(
        n_estimators=p["n_estimators"],
        max_samples=min(p["max_samples"], len(rows)),
        random_state=p["random_state"],
        n_jobs=1,
    )
    found = Forest(forest.fit(rows))
    return found(rows), found


class Forest:
    """An isolation forest's trees side by side, a leaf leading to itself: a tenth of the memory of scikit-learn's.

    Scores are -score_samples: 2 ** -(mean length of the paths to a row's leaves / the length expected in a tree).
    """

    BLOCK = 512  # rows walked at once

    def __init__(self, forest: Any) -> None:
        trees = [one.tree_ for one in forest.estimators_]
        self._roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        of_tree = np.repeat(self._roots, [tree.node_count for tree in trees])
        left, right, feature = (
            np.concatenate([getattr(tree, name) for tree in trees])
            for name in ("children_left", "children_right", "feature")
        )
        leaf, itself = left < 0, np.arange(len(left))
        # Right where a row's feature is above the threshold: node * 2 + 1.
        self._next = np.column_stack([np.where(leaf, itself, left + of_tree), np.where(leaf, itself, right + of_tree)])
        self._next = self._next.astype(np.int32).ravel()
        self._feature = np.where(leaf, 0, feature).astype(np.int8)
        threshold = np.concatenate([tree.threshold for tree in trees])
        single = threshold.astype(np.float32)
        # Rows are compared in single precision: the largest such number that is not above divides them likewise.
        self._threshold = np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)
        depth = np.concatenate([np.asarray(tree.compute_node_depths()) for tree in trees]) - 1.0
        self._path = depth + _expected_path(np.concatenate([tree.n_node_samples for tree in trees]))
        self._levels = int(depth.max())
        self._expected = float(len(trees) * _expected_path(np.array([forest.max_samples_]))[0])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        lengths: list[float] = []
        for at in range(0, len(rows), self.BLOCK):
            block = rows[at : at + self.BLOCK].astype(np.float32)
            node = np.repeat(self._roots[np.newaxis], len(block), axis=0)
            base = FEATURES * np.arange(len(block))[:, np.newaxis]
            flat = block.ravel()
            for _ in range(self._levels):
                right = flat[base + self._feature[node]] > self._threshold[node]
                node = self._next[2 * node + right]
            lengths += self._path[node].sum(axis=1).tolist()
        return np.array([2.0 ** -(length / self._expected) for length in lengths])


def _expected_path(n: np.ndarray) -> np.ndarray:
    """Of a search without success in a binary tree of n points: [1], equation 1."""
    n = np.asarray(n, float)
    many = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n > 2.0, many, np.where(n == 2.0, 1.0, 0.0))


def _local_outlier_factor(p: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, Rows]:
    of = _sklearn().neighbors
    k = min(p["n_neighbors"], len(rows) - 1)
    fitted = of.LocalOutlierFactor(n_neighbors=k, algorithm="kd_tree", novelty=True, n_jobs=1).fit(rows)
    # Logarithms: beside a value that was often repeated any other is a million times as sparse.
    own = [math.log(-score) for score in fitted.negative_outlier_factor_.tolist()]
    distances, neighbours = fitted.kneighbors()
    tree = of.KDTree(rows, leaf_size=fitted.leaf_size)  # as its own: of equally near ones it takes the same
    return np.array(own), Neighbours(tree, distances, neighbours, k)


class Neighbours:
    """What LocalOutlierFactor compares new points with. Scores are the logarithm of -score_samples."""

    def __init__(self, tree: Any, distances: np.ndarray, neighbours: np.ndarray, k: int) -> None:
        """``tree``: of the window's points; of each its ``k`` nearest ``neighbours``, and their ``distances``."""
        self._tree, self._k = tree, k
        self._reach = np.ascontiguousarray(distances[:, -1])
        self._density = self._densities(distances, neighbours)

    def _densities(self, distances: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
        # 1e-10, as in scikit-learn: where all neighbours are the same point.
        return 1.0 / (np.maximum(distances, self._reach[neighbours]).mean(axis=1) + 1e-10)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        distances, neighbours = self._tree.query(rows, self._k)
        factors = (self._density[neighbours] / self._densities(distances, neighbours)[:, np.newaxis]).mean(axis=1)
        return np.array([math.log(factor) for factor in factors.tolist()])


def _one_class_svm(p: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, Rows]:
    found = _sklearn().svm.OneClassSVM(kernel=p["kernel"], nu=p["nu"], gamma=p["gamma"] or "scale", max_iter=MOST)
    found.fit(rows)
    return -found.score_samples(rows), lambda rows: -found.score_samples(rows)


MOST = 100_000  # iterations of libsvm; an ordinary fit takes hundreds


def _autoencoder(p: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, Rows]:
    network = _sklearn().neural_network.MLPRegressor(
        hidden_layer_sizes=p["hidden_layer_sizes"],
        activation=p["activation"],
        solver=p["solver"],
        alpha=p["alpha"],
        max_iter=p["max_iter"],
        random_state=p["random_state"],
    )
    found = Network(network.fit(rows, rows))
    return found(rows), found


class Network:
    """The layers of a multi-layer perceptron. Scores are root mean squares of what it gives less what it got."""

    def __init__(self, network: Any) -> None:
        self._layers = list(zip(network.coefs_, network.intercepts_))
        self._activation = ACTIVATIONS[network.activation]

    def given(self, rows: np.ndarray) -> np.ndarray:
        """What it gives back."""
        for i, (weights, offsets) in enumerate(self._layers):
            made = np.repeat(offsets[np.newaxis], len(rows), axis=0)
            for column, to in zip(rows.T, weights):  # a product of matrices has other bits for more rows
                made += column[:, np.newaxis] * to
            rows = made if i == len(self._layers) - 1 else self._activation(made)
        return rows

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        total = np.zeros(len(rows))
        for off in (self.given(rows) - rows).T:
            total += off * off
        return np.sqrt(total / rows.shape[1])


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda made: np.maximum(made, 0.0),
    "identity": lambda made: made,
}


def _elliptic_envelope(p: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, Rows]:
    of = _sklearn().covariance.EllipticEnvelope
    try:
        found = of(support_fraction=p["support_fraction"] or None, random_state=p["random_state"]).fit(rows)
    except ValueError:
        found = of(support_fraction=1.0, random_state=p["random_state"]).fit(rows)

    centre, precision = found.location_, found.get_precision()

    def distances(rows: np.ndarray) -> np.ndarray:
        """Mahalanobis': the square root of -score_samples."""
        off = (rows - centre).T
        total = np.zeros(len(rows))
        for one, row in zip(off, precision):
            for other, weight in zip(off, row):
                total += one * other * weight
        return np.sqrt(np.maximum(total, 0.0))

    return distances(rows), distances


# --- all


class Estimated(NamedTuple):
    """How one class of scikit-learn takes part."""

    explanation: str
    window_size: int
    params: dict[str, Param]  # beside those of all
    fit: Callable[[Mapping[str, Any], np.ndarray], tuple[np.ndarray, Rows]]
    threshold: float = 5.0  # lower for those whose scores have an upper bound, near which all that is far lies


SEED = param(42, "seed of the random numbers", at_least=0, at_most=4_294_967_295)
DETECTORS = {
    "isolation_forest": Estimated(
        explanation="{value}, or the way to it, is soon left alone by random cuts through the points before it",
        window_size=1000,
        params={
            "n_estimators": param(100, "trees", at_least=1, at_most=1000),
            "max_samples": param(256, "most points of each tree", at_least=2, at_most=4096),
            "random_state": SEED,
        },
        fit=_isolation_forest,
        threshold=3.5,
    ),
    "local_outlier_factor": Estimated(
        explanation="{value}, or the way to it, lies where points are sparser than around its nearest neighbours",
        window_size=1000,
        params={"n_neighbors": param(20, "nearest points that a point is compared with", at_least=1, at_most=1000)},
        fit=_local_outlier_factor,
    ),
    "one_class_svm": Estimated(
        explanation="{value}, or the way to it, is outside the region that holds nearly all points before it",
        window_size=1000,
        params={
            "kernel": param("rbf", "kernel: similarity of two points", one_of=("rbf", "sigmoid", "linear", "poly")),
            "nu": param(0.01, "fraction of the window's points that may lie outside", at_least=0.0001, at_most=1),
            "gamma": param(
                0.0,
                "kernel coefficient, in 1 / deviation^2; 0: scale",
                at_least=0,
                at_most=1000,
            ),
        },
        fit=_one_class_svm,
        threshold=4.0,
    ),
    "autoencoder": Estimated(
        explanation="{value}, or the way to it, does not follow the pattern of the points before it",
        window_size=1000,
        params={
            "hidden_layer_sizes": param([2], "neurons of each hidden layer, 1 to 5 layers of 1 to 64"),
            "activation": param(
                "tanh", "activation function of the hidden layers", one_of=("tanh", "relu", "identity")
            ),
            "solver": param("lbfgs", "how the weights are fitted", one_of=("lbfgs", "adam", "sgd")),
            "alpha": param(0.0001, "strength of the penalty on large weights", at_least=0),
            "max_iter": param(60, "iterations", at_least=1, at_most=10_000),
            "random_state": SEED,
        },
        fit=_autoencoder,
    ),
    "elliptic_envelope": Estimated(
        explanation="{value}, or the way to it, is far out in the distribution of the points before it",
        window_size=500,
        params={
            "support_fraction": param(
                0.0, "fraction of the window taken as normal; 0: scikit-learn's default", at_least=0, at_most=1
            ),
            "random_state": SEED,
        },
        fit=_elliptic_envelope,
    ),
}


class ScikitParams(Params):
    """Parameters in scikit-learn's own words too. ``check`` adds ``alert_at``, an Adapter's alert line."""

    def __init__(self, entry: Estimated) -> None:
        of_all: dict[str, Param | derived] = {
            "contamination": param(
                0.0, "fraction of the window's points taken as anomalies; 0: no limit", at_least=0, at_most=0.5
            ),
            "window_size": param(
                entry.window_size, "points that the estimator is fitted on", at_least=30, at_most=4096
            ),
            "refit_every": param(250, "points from one fit to the next", at_least=10, at_most=4096),
            "threshold": param(
                entry.threshold, "deviations above its own past at which a point alerts", above=0, keeps_state=True
            ),
            "warmup": param(
                100,
                f"points scored before the first vote, {SILENT} points after the start",
                at_least=1,
                keeps_state=True,
            ),
            "silent": derived(lambda p: float(SILENT)),
        }
        super().__init__(entry.params | of_all)

    def check(self, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
        spelled = dict(given)
        for name, word, meant in AUTO:
            if spelled.get(name) == word:
                spelled[name] = meant
        if isinstance(sizes := spelled.get("hidden_layer_sizes"), (int, tuple)):
            spelled["hidden_layer_sizes"] = list(sizes) if isinstance(sizes, tuple) else [sizes]
        values = super().check(where, spelled)
        sizes = values.get("hidden_layer_sizes", [1])
        if not 1 <= len(sizes) <= 5 or not all(type(size) is int and 1 <= size <= 64 for size in sizes):
            raise ConfigurationError(
                f"{where}.hidden_layer_sizes: must be 1 to 5 whole numbers from 1 to 64, got {sizes!r}"
            )
        return values | {"alert_at": values["threshold"]}

    def of_state(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in super().of_state(checked).items() if name != "alert_at"}


AUTO = [("contamination", "auto", 0.0), ("gamma", "scale", 0.0), ("max_samples", "auto", 256)]


class Scikit:
    """An ``Adapter`` (``api.py``) for one class of scikit-learn."""

    scale = "own_past"

    def __init__(self, name: str) -> None:
        self.name = name
        self._entry = DETECTORS[name]
        self.explanation = self._entry.explanation
        self.params = ScikitParams(self._entry)

    @cached_property
    def version(self) -> int:
        """Of this file and of scikit-learn: another one may fit otherwise."""
        return crc32(f"{VERSION}, scikit-learn {installed('scikit-learn')}".encode())

    def make(self, params: Mapping[str, Any]) -> RefittedModel:
        _sklearn()
        fit, contamination = self._entry.fit, params["contamination"]
        return RefittedModel(
            lambda values, rows: Fitted(lambda own: fit(params, own), values, rows, contamination),
            params["window_size"],
            params["refit_every"],
        )

    def score_one(self, model: RefittedModel, x: float, t: float) -> float:
        return model.scores([x])[0]

    def learn_one(self, model: RefittedModel, x: float, t: float) -> None:
        model.learn([x], t)

    def score_many(self, model: RefittedModel, xs: Sequence[float], ts: Sequence[float]) -> Iterator[float]:
        at = 0
        while at < len(xs):
            some = xs[at : at + model.steady()]
            yield from model.scores(some)
            model.learn(some, ts[at])
            at += len(some)

    def dumps(self, model: RefittedModel) -> bytes:
        return model.dumps()

    def loads(self, data: bytes, params: Mapping[str, Any]) -> RefittedModel:
        """Fitting is begun here, in the background."""
        model = self.make(params)
        try:
            model.loads(data)
        except (ValueError, struct.error, StateError) as error:
            raise StateError(f"{self.name}: {len(data)} bytes are not its state: {error}") from error
        return model

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return max_bytes(params["window_size"], params["refit_every"])


def adapters() -> list[str]:
    return list(DETECTORS)


@cache
def adapter(method: str) -> Scikit | None:
    return Scikit(method) if method in DETECTORS else None
