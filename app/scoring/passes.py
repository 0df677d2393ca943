"""The passes over a batch; CPython runs them as they stand, and they are compiled once for all profiles.

``learn`` goes through the points in order: is it the last point again, what did each kernel expect, how
odd is it, then learn it. ``part`` goes through those of several metrics: do two part that went together?
Detectors that are Python objects then fill their columns of the raw scores; ``judge`` turns raw scores into votes,
scores and episodes.

What they know of a profile stands in tables: see ``tables``. Each detector is called by its address, 2 ns, and is
compiled by itself: of what a first start takes, or a test of yet another profile, only what is new is compiled.
"""

from app.compiled.numeric import MAX_VALUE, finite, inf, nan, sqrt, whole
from app.scoring.calibration import above_past, on_line, on_surprise, restart
from app.scoring.calibration import learn as calibrate
from app.scoring.cells import (
    band,
    calibration,
    cell_at,
    clear,
    copy,
    errors,
    head,
    lasts,
    median_and_push,
    moments,
    newest,
    step,
    why,
)
from app.scoring.deviation_rules import counts, outside, within
from app.scoring.ensemble import combine, learn_error, share, voted, weigh
from app.scoring.episodes import follow, may_repeat, meet, remember
from app.scoring.pairs import ADAPTED, LASTS, RECOVERED, begin, follow_mate, is_above, last_size, try_mate, usual
from app.scoring.pairs import LINE as PARTED

ALONE, ONE_OF_SEVERAL, JOINT = 1, 2, 4  # a cell: its point's only one; what the metrics of a point say jointly
DEVIATIONS, OWN_PAST = 0, 1  # scales
RATE, PAIR = 7, 8  # the places of these kinds in KINDS
BEYOND, APART = -2, -3  # in place of the member that leads: outside the plausible range; metrics part
LINE = 0.8  # the vote of a detector at its alert line: see calibration


def learn(sources, cells, keep, profile, members, points, at, values, raw, bands):
    p = profile[0]
    for i in range(len(points)):
        point = points[i]
        source = sources[point.slot]
        again = may_repeat(source, point)
        if again:
            for c in range(point.first, point.last):
                cell = cell_at(cells, values[c].row)
                if head(cell).at != source.seen or newest(cell, p) != values[c].x:
                    again = False
        point.repeat = again
        learns = not again and point.maintenance < 0
        point.lasts = False
        point.adapted = False
        point.recovered = False
        squares = 0.0
        several = point.joint >= 0
        for place in range(point.first, point.last + (1 if several else 0)):
            joint = place == point.last
            c = point.joint if joint else place
            case = JOINT if joint else ONE_OF_SEVERAL if several else ALONE
            value = values[c]
            if joint:
                value.x = min(sqrt(squares / (point.last - point.first)), MAX_VALUE)
            x = value.x
            if not learns:
                copy(keep, 0, cells, value.row)
            elif p.resets and head(cell_at(cells, value.row)).at <= source.anew:
                copy(cells, value.row, keep, 1)
                value.reset = True
            cell = cell_at(cells, value.row)
            value.count = moments(cell, p).n
            for k in range(len(members)):
                m = members[k]
                if m.learns & case:
                    if m.band >= 0:
                        expected, lower, upper = band(cell, p, m, at[i])
                        bands[c, m.band], bands[c, m.band + 1], bands[c, m.band + 2] = expected, lower, upper
                    score = step(cell, p, m, x, at[i])
                    if not finite(score):
                        clear(cell, m)
                        score = nan
                    raw[c, k] = score
                    if m.has_lasts:
                        says = lasts(cell, p, m, x)
                        value.reported = value.reported or says == 1
                        point.lasts = point.lasts or says == 1
                        point.adapted = point.adapted or says == 2
                        point.recovered = point.recovered or says == 3
                    if m.reason >= 0:
                        reason, figure, usual = why(cell, p, m, x)
                        raw[c, m.reason], raw[c, m.reason + 1], raw[c, m.reason + 2] = float(reason), figure, usual
                    if m.channel and finite(score):
                        squares += score * score
                if m.channel and joint:
                    raw[c, k] = x
            value.middle = median_and_push(cell, p, x)
            head(cell).at = source.seen + 1
            if not learns:
                copy(cells, value.row, keep, 0)
        meet(source, point)
        if learns:
            remember(source, point)


def part(pairs, members, points, values, raw, cell_of):
    """What metrics of a point have to do with each other: ``pairs`` has a row for each metric of such sources.

    ``cell_of``: room for the cell of each metric of a point, by its place among those of its source; all -1.
    """
    for i in range(len(points)):
        point = points[i]
        if point.joint < 0:
            continue
        learns = not point.repeat and point.maintenance < 0
        jointly = values[point.joint].reported or opens(members, raw, point.joint, JOINT)
        places = 0
        for c in range(point.first, point.last):
            value = values[c]
            value.reported = value.reported or opens(members, raw, c, ONE_OF_SEVERAL)
            own = pairs[value.pair]
            if value.reset:
                begin(own)
            cell_of[own.place] = c
            places = max(places, own.place + 1)
        rarest = 0.0
        for c in range(point.first, point.last if learns else point.first):
            own = pairs[values[c].pair]
            y = values[c].x
            if places > 2 or own.mate == 0:
                tried = cell_of[own.tried - 1] if 0 < own.tried <= places else -1
                reported = jointly or values[c].reported or (tried >= 0 and values[tried].reported)
                try_mate(own, y, values[tried].x if tried >= 0 else 0.0, tried >= 0, places, reported)
            mate = cell_of[own.mate - 1] if 0 < own.mate <= places else -1
            if mate < 0:
                continue
            reported = jointly or values[c].reported or values[mate].reported
            score, says = follow_mate(own, y, values[mate].x, point.last - point.first, reported)
            point.lasts = point.lasts or says == LASTS
            point.adapted = point.adapted or says == ADAPTED
            point.recovered = point.recovered or says == RECOVERED
            if says == LASTS and (not point.parted or score > rarest):
                rarest = max(rarest, score)
                point.parted = True
                point.apart = score
                point.one = c
                point.other = mate
                point.figure = last_size(own)
                point.usual = usual(own)
                point.on_line = y - point.figure if is_above(own) else y + point.figure
        for c in range(point.first, point.last):
            cell_of[pairs[values[c].pair].place] = -1


def opens(members, raw, c, case):
    """Whether a detector would open an episode at this cell."""
    for k in range(len(members)):
        m = members[k]
        if m.alerts and m.learns & case and float(raw[c, k]) >= m.alert_at:
            return True
    return False


def foreseen(value):
    """A peak or dip that was expected here: the value lies in the band, and that lies apart from the values before."""
    wide = value.upper - value.lower
    return value.lower <= value.x <= value.upper and abs(value.expected - value.middle) > 2.0 * wide


def judge(
    sources, cells, profile, members, groups, parts, kinds, weighing, points, values, raw, bands, votes, shares, room
):
    p = profile[0]
    fixed, leads = weighing[0], weighing[1]
    own, weights, top_own, top_weights = room[0], room[1], room[2], room[3]
    root = groups[len(groups) - 1]
    for k in range(len(weights)):
        weights[k] = fixed[k]
    for i in range(len(points)):
        point = points[i]
        source = sources[point.slot]
        learns = not point.repeat and point.maintenance < 0
        several = point.joint >= 0
        best = -1.0
        alert = 0.0
        alerting = -1
        alerted = -1
        shown = -1
        ready = False
        failed = False
        some = False
        beyond = -1
        for place in range(point.first, point.last + (1 if several else 0)):
            joint = place == point.last
            c = point.joint if joint else place
            case = JOINT if joint else ONE_OF_SEVERAL if several else ALONE
            value = values[c]
            cell = cell_at(cells, value.row)
            strongest = -1.0
            lead = -1
            banded = -1
            value.expected = nan
            value.lower = nan
            value.upper = nan
            for k in range(len(own)):
                own[k] = nan
            for k in range(len(members)):
                m = members[k]
                if (
                    m.band >= 0
                    and m.learns & case
                    and calibration(cell, m).seen >= m.warmup
                    and finite(float(raw[c, k]))
                    and value.expected != value.expected
                ):
                    banded = k
                    value.expected = float(bands[c, m.band])
                    value.lower = float(bands[c, m.band + 1])
                    value.upper = float(bands[c, m.band + 2])
            rated = False  # a counter: only its rate says something
            if banded >= 0 and members[banded].reason >= 0:
                m = members[banded]
                rated = kinds[m.kind + whole(float(raw[c, m.reason]))] == RATE
            if joint:
                counted = some
            else:
                counted = counts(p, value.x, value.expected if value.expected == value.expected else value.middle)
                some = some or counted
            for k in range(len(members)):
                m = members[k]
                if not m.judged & case:
                    continue
                score = float(raw[c, k])
                known = calibration(cell, m)
                if not finite(score):
                    failed = True
                    if learns:
                        restart(known)
                    continue
                if known.seen >= m.warmup:
                    ready = True
                    if m.of_values and not counted:
                        vote = 0.0
                    elif m.scale == DEVIATIONS:
                        vote = on_line(score, m.alert_at)
                    elif m.scale == OWN_PAST:
                        vote = on_line(above_past(known, score), m.alert_at)
                    else:
                        vote = on_surprise(score, m.alert_at)
                    if m.shown & case and not votes[i, k] >= vote:
                        votes[i, k] = vote
                    less = joint and value.x < value.middle  # all metrics nearer to their levels than is usual
                    if m.alerts and vote > alert and not (less or (m.band < 0 and (rated or foreseen(value)))):
                        alert = vote
                        alerting = k
                        alerted = c
                    if m.scores & case:
                        own[k] = vote
                        if leads[k] * vote > strongest:
                            strongest = leads[k] * vote
                            lead = k
                if learns:
                    calibrate(known, score, m.silent)
            for g in range(len(groups)):
                group = groups[g]
                of = parts[group.first : group.last]
                if group.skilled:
                    least = inf
                    for k in of:
                        if k < len(members) and members[k].skilled:
                            known = errors(cell, members[k])
                            least = min(least, known.squared if known.seen > 0 else inf)
                    for k in of:
                        if k < len(members) and members[k].skilled:
                            known = errors(cell, members[k])
                            weights[k] = weigh(fixed[k], known, least)
                            if learns:
                                learn_error(known, value.x, float(bands[c, members[k].band]))
                if g < len(groups) - 1 and voted(of, own) > 0:
                    own[group.column] = combine(group.mode, of, own, weights)
                    if not votes[i, group.column] >= own[group.column]:
                        votes[i, group.column] = own[group.column]
            value.score = combine(root.mode, parts[root.first : root.last], own, weights)
            if not joint:
                value.lower = within(p, value.lower)
                value.upper = within(p, value.upper)
                value.expected = within(p, value.expected)
                if beyond < 0 and outside(p, value.x) != 0:
                    beyond = c
                    value.score = 1.0
            if joint or value.score > best or beyond == c:
                best = value.score
                for k in range(len(own)):
                    top_own[k] = own[k]
                    top_weights[k] = weights[k]
                if not joint:
                    point.top = c
                    point.lead = lead
                    shown = banded
        if point.parted and alert < p.threshold and counts(p, values[point.one].x, point.on_line):
            vote = on_surprise(point.apart, PARTED)
            if vote > alert:
                alert = vote
                alerting = APART
                alerted = point.one
        point.alert = alert if p.by_alerts else best
        point.score = best
        if p.by_alerts and alert >= min(p.threshold, LINE):
            # Sorting by the anomaly score finds every opening, and its metric. From LINE up the threshold makes no
            # difference, so the report can show other thresholds: app/offline/report/counts.js.
            point.score = max(best, min(alert, LINE))
            if alerted != point.joint:
                values[alerted].score = max(values[alerted].score, alert if several else min(alert, LINE))
        if p.by_alerts and alert >= p.threshold:
            point.lead = alerting
            if alerted != point.joint:
                point.top = alerted
        elif point.parted and source.open == 1 and source.kind == PAIR:
            point.lead = APART
            point.top = point.one
        elif shown >= 0 and members[shown].alerts:
            point.lead = shown  # inside an episode: how far the value is from what is shown as expected
        top = values[point.top]
        point.status = 2 if failed else 1 if ready else 0
        point.direction = 1 if top.x > top.expected else -1 if top.x < top.expected else 0
        if beyond >= 0:
            point.score = 1.0
            point.alert = 1.0
            point.top = beyond
            point.lead = BEYOND
            point.direction = outside(p, values[beyond].x)
        point.lasts = point.lasts and some
        if learns:
            source.status = point.status
        point.kind = PAIR if point.lead == APART else 0
        if point.lead >= 0:
            m = members[point.lead]
            point.kind = kinds[m.kind]
            if m.reason >= 0:
                c = point.joint if m.learns & JOINT and point.joint >= 0 else point.top
                point.kind = kinds[m.kind + whole(float(raw[c, m.reason]))]
        if point.maintenance >= 0:
            point.alert = 0.0
        follow(source, p, point)
        for k in range(shares.shape[1]):
            shares[i, k] = nan
        if point.anomaly and best >= point.score:
            for g in range(len(groups)):
                of = parts[groups[g].first : groups[g].last]
                for k in of:
                    shares[i, k] = share(k, of, top_own, top_weights)
