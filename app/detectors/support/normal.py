"""The quantile function of the normal distribution, the same bits everywhere.

``statistics.NormalDist`` computes the same formula with the C library's logarithm and rounds in another order: the last
bit differs, and with it stored state (the golden snapshot of GaussianScorer), so that it cannot take this place.

References
----------
.. [1] M. J. Wichura (1988), Algorithm AS 241: The percentage points of the normal distribution, Applied
   Statistics 37, pages 477-484; routine PPND16, relative error about 1e-16.
   Below: its numerators and denominators.
"""

from app.compiled.numeric import log, sqrt

FARTHEST = 8.3  # deviations; the largest share below 1 that a double holds lies 8.29 away

# fmt: off
_NEAR = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)
_FAR = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)
_FARTHER = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)
# fmt: on


def deviations(share: float) -> float:
    """How far from the mean, either side, one has to go to hold this share of a normal distribution.

    ``share``: 0..1. 0.0 at 0, 1.96 at 0.95; FARTHEST at 1 and above.
    """
    if share <= 0.0:
        return 0.0
    if share >= 1.0:
        return FARTHEST
    q = 0.5 * share
    if q <= 0.425:
        return q * _ratio(_NEAR, 0.180625 - q * q)
    r = sqrt(-log(0.5 * (1.0 - share)))
    return _ratio(_FAR, r - 1.6) if r <= 5.0 else _ratio(_FARTHER, r - 5.0)


def _ratio(polynomials: tuple[tuple[float, ...], tuple[float, ...]], r: float) -> float:
    above = below = 0.0
    for a, b in zip(reversed(polynomials[0]), reversed(polynomials[1])):
        above = above * r + a
        below = below * r + b
    return above / below
