"""When an episode opens, changes and closes, and what a source remembers of its last point."""

REASONS = ("", "recovered", "adapted", "silence")  # why it has ended; "silence" is that of app/state/expiry.py
RECOVERED, ADAPTED = 1, 2  # places in REASONS
SEVERE = (0.8, 0.9, 0.95)  # alert scores above which the severity is medium, high, critical
DAY, MONTH = 86_400.0, 2_592_000.0  # s
EVENT_EVERY_S = 60.0  # event time after which an episode that goes on has another event

RULES = 4  # raise when episodes would open or close otherwise: results differ then
VERSION = 5  # of the fields
FIELDS = [
    ("seen", "i8"),  # points learned
    ("time", "f8"),  # of the last point learned, and so the next three
    ("own", "i8"),  # 1: that time was the point's own
    ("cells", "i8"),  # metrics; of the first point until one is learned
    ("status", "i8"),
    ("open", "i8"),  # 1: inside an episode
    ("below", "i8"),  # points in a row below the closing line
    ("offset", "i8"),  # in the id of the episode's first point
    ("index", "i8"),
    ("kind", "i8"),  # of the episode: its place in KINDS
    ("opened_at", "f8"),
    ("peak", "f8"),
    ("length", "i8"),  # points of the episode so far
    ("anew", "i8"),  # points learned when its detectors were last reset, as after a drift; 0: never
    ("born", "i8"),  # offset of its first point; earlier ones are forgotten
    ("last", "i8"),  # offset of the last point
    ("previous", "i8"),  # 1 + offset of the last forgotten point; 0: none, or long before: see app/state/expiry.py
    ("told", "f8"),  # time of the point of the last event of the episode
    ("met", "f8"),  # when its first point was written, by Kafka's clock; 0: not known
    ("arrived", "f8"),  # and the last one
    ("gap", "f8"),  # s, the longest usual time between two of them
]
ADDED = 4  # of these fields, the last, since the version before; state of that version is read, and has 0 there


def may_repeat(source, point):
    """Whether it may be the last point once more: same time, from the point itself, and same number of metrics."""
    return point.own and source.own == 1 and point.time == source.time and point.last - point.first == source.cells


def pause(source, now):
    """Learn how long a source usually pauses, from when a point arrived.

    A pause is usual if it is at most three times as long as those before, or a twentieth of all the time that the
    source is known: that covers nights and weekends. Any other, as when it was broken, at most doubles the longest
    usual one, so that the next is noticed too, and a slower rhythm is learned within some points. What does not come
    again is forgotten within a month.

    Clocks differ: times that run backwards are no pause, and from times that jump nothing is learned.
    """
    dt = now - source.arrived
    if dt > MONTH or dt < -DAY:
        source.arrived = now
        source.met = min(source.met, now)
    elif dt > 0.0:
        source.gap *= 1.0 - dt / MONTH
        if dt > source.gap:
            usual = dt <= 3.0 * source.gap or 20.0 * dt >= now - source.met
            source.gap = dt if usual else min(dt, 2.0 * source.gap)
        source.arrived = now


def meet(source, point):
    """Note any point, learned or not."""
    if source.cells == 0:
        source.born = point.offset
        source.cells = point.last - point.first
    source.last = point.offset
    if source.arrived == 0.0:
        source.met = point.arrived
        source.arrived = point.arrived
    else:
        pause(source, point.arrived)


def remember(source, point):
    """Note a point that is learned."""
    source.seen += 1
    source.time = point.time
    source.own = 1 if point.own else 0
    source.cells = point.last - point.first


def raises(before, peak):
    """Whether the severity rises with the highest alert score."""
    for line in SEVERE:  # noqa: SIM110 - compiled
        if before <= line < peak:
            return True
    return False


def follow(source, p, point):
    """Open or close the episode at a scored point. A repeated point changes nothing and gets the present episode.

    A point in maintenance changes nothing either, and is in no episode: the open one waits for the end of the span.
    ``point.changed``: the episode goes on, and another event is due. Where times run backwards, none is due until they
    have caught up: points of two clocks in one source must not make an event each.
    ``point.kind``: that of an episode that would open here; becomes that of the episode that the point is in, or ends.
    """
    point.opened = False
    point.closed = False
    point.changed = False
    point.reason = 0
    maintained = point.maintenance >= 0
    if not point.repeat and not maintained:
        if source.open == 1:
            may_end = point.alert < p.threshold and not point.lasts
            source.below = source.below + 1 if may_end and point.score < p.close_below else 0
            if source.below >= p.close_points or (may_end and point.recovered):
                point.reason = RECOVERED
            if may_end and point.adapted:
                point.reason = ADAPTED
            if point.reason > 0:
                source.open = 0
                point.closed = True
            else:
                source.length += 1
                peak = max(source.peak, point.alert)
                point.changed = raises(source.peak, peak) or point.time - source.told >= EVENT_EVERY_S
                source.peak = peak
                if point.changed:
                    source.told = point.time
        elif point.alert >= p.threshold:
            point.opened = True
            source.open = 1
            source.below = 0
            source.offset = point.named
            source.index = point.index
            source.kind = point.kind
            source.opened_at = point.time
            source.told = point.time
            source.peak = point.alert
            source.length = 1
    point.anomaly = source.open == 1 and not maintained
    if point.anomaly or point.closed:
        point.episode_offset = source.offset
        point.episode_index = source.index
        point.kind = source.kind
        point.opened_at = source.opened_at
        point.peak = source.peak
        point.length = source.length
    else:
        point.episode_offset = -1
        point.episode_index = -1
        point.kind = -1
