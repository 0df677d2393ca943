// The points of one series as columns for charts; its episodes as they were judged, and with another threshold.

import { cell, severity, valueOf } from "./dom.js";

const SEVERITIES = ["low", "medium", "high", "critical"];

export const secondsOf = (time) => (typeof time === "string" ? Date.parse(time) / 1000 : time);

// Results in order of event time, each once. Where times are equal, in the order of their ids, which is that of arrival.
export class Points {
  constructor() {
    this.ids = new Set();
    this.list = []; // of {t, offset, index, point}
    this.sorted = true;
  }

  get size() { return this.list.length; }

  // How many of them are new.
  add(results) {
    const before = this.size;
    for (const point of results) {
      const t = secondsOf(point.timestamp);
      if (!Number.isFinite(t) || this.ids.has(point.id)) continue;
      this.ids.add(point.id);
      const entry = { t, ...placeOf(String(point.id)), point }, last = this.list.at(-1);
      if (last && compare(last, entry) > 0) this.sorted = false;
      this.list.push(entry);
    }
    return this.size - before;
  }

  get entries() {
    if (!this.sorted) this.list.sort(compare);
    this.sorted = true;
    return this.list;
  }

  // Those with a time in [from, to].
  between(from, to) {
    const all = this.entries;
    return all.slice(place(all, from, (t, at) => t < at), place(all, to, (t, at) => t <= at));
  }

  // Without those before a time, and the oldest of too many.
  trim(from, most) {
    const kept = this.between(from, Infinity).slice(-most);
    if (kept.length === this.size) return;
    this.list = kept;
    this.ids = new Set(kept.map(({ point }) => point.id));
  }
}

const compare = (a, b) => a.t - b.t || a.offset - b.offset || a.index - b.index;

// An id is topic:partition:offset:index.
function placeOf(id) {
  const last = id.lastIndexOf(":"), before = id.lastIndexOf(":", last - 1);
  return { offset: Number(id.slice(before + 1, last)) || 0, index: Number(id.slice(last + 1)) || 0 };
}

function place(entries, at, precedes) {
  let low = 0, high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (precedes(entries[middle].t, at)) low = middle + 1;
    else high = middle;
  }
  return low;
}

// What charts draw of a metric: arrays of one length, null where there is nothing. `coarse`: s between points that are apart
// only because others were left out.
export function columnsOf(entries, metric, coarse = 0) {
  const n = entries.length, make = () => new Array(n).fill(null);
  const found = {
    n, points: entries.map(({ point }) => point), t: Float64Array.from(entries, ({ t }) => t), value: make(), lower: make(), upper: make(),
    expected: make(), score: make(), alert: make(), votes: new Map(), anomalous: [], drifts: [], maintenance: [], gaps: [],
  };
  for (let i = 0; i < n; i++) {
    const { point } = entries[i];
    found.value[i] = numeric(valueOf(point, metric));
    found.lower[i] = numeric(cell(point, "expected_lower", metric));
    found.upper[i] = numeric(cell(point, "expected_upper", metric));
    found.expected[i] = numeric(cell(point, "expected", metric));
    found.score[i] = numeric(point.anomaly_score);
    found.alert[i] = numeric(point.alert_score);
    if (point.is_anomaly) found.anomalous.push(i);
    if (point.drift) found.drifts.push(i);
    if (point.maintenance) {
      const last = found.maintenance.at(-1);
      if (last && last.stop === i && last.name === point.maintenance) last.stop = i + 1;
      else found.maintenance.push({ start: i, stop: i + 1, name: point.maintenance });
    }
    for (const name in point.detectors) {
      let votes = found.votes.get(name);
      if (!votes) found.votes.set(name, votes = make());
      votes[i] = numeric(point.detectors[name]);
    }
  }
  found.votes = new Map([...found.votes].sort(([a], [b]) => (a < b ? -1 : 1)));
  // A gap in time much longer than usual breaks the line: nothing is known about what lies between.
  const steps = found.t.slice(1).map((t, i) => t - found.t[i]).sort(), usual = Math.max(10 * (steps[steps.length >> 1] ?? 0), 3 * coarse);
  for (let i = 1; i < n && usual > 0; i++) if (found.t[i] - found.t[i - 1] > usual) found.gaps.push(i);
  return found;
}

const numeric = (value) => (typeof value === "number" ? value : null);

// Episodes as they were judged: {id, start, stop, from, to, severity, kind, peak, open}; stop is the first place after it.
export function judged(columns) {
  const found = new Map();
  for (const i of columns.anomalous) {
    const point = columns.points[i], id = point.episode ?? point.id;
    const one = found.get(id) ?? { id, start: i, points: 0, peak: 0, severity: "low", from: columns.t[i] };
    Object.assign(one, { stop: i + 1, to: columns.t[i], points: one.points + 1, kind: point.kind ?? one.kind, peak: Math.max(one.peak, point.alert_score ?? 0) });
    if (SEVERITIES.indexOf(point.severity) > SEVERITIES.indexOf(one.severity)) one.severity = severity(point.severity);
    found.set(id, one);
  }
  const all = [...found.values()];
  for (const one of all) one.open = one.stop === columns.n;
  return all;
}

// The episodes with another threshold, by the rule of app/scoring/episodes.py, as [start, stop]. One opens where the alert
// score reaches the threshold. It ends after close_points points in a row whose alert score is below it and whose anomaly
// score is below its part of it. Detectors may say that an episode goes on, or is over, for reasons that results do not
// hold: see `heard`.
export function episodesAt(columns, rule, threshold) {
  const { score, alert, points, n } = columns, { lasts, over } = heard(columns, rule), found = [];
  const end = rule.close_below * (threshold / rule.threshold);
  let open = -1, below = 0;
  for (let i = 0; i < n; i++) {
    if (points[i].maintenance) continue;
    const high = alert[i] ?? 0;
    if (open >= 0) {
      const may = high < threshold && !lasts[i];
      below = may && (score[i] ?? 0) < end ? below + 1 : 0;
      // A higher threshold never ends an episode later than it was ended; a lower one may.
      if (below >= rule.close_points || (may && (over[i] === EARLY || (over[i] === USUAL && threshold >= rule.threshold)))) {
        found.push([open, i]);
        open = -1;
      }
    } else if (high >= threshold) {
      open = i;
      below = 0;
    }
  }
  if (open >= 0) found.push([open, n]);
  return found;
}

const USUAL = 1, EARLY = 2; // how an episode ended: after its quiet points, or because a detector said so

// What detectors must have said, by the episodes as they were judged. `lasts`: one went on though so many points were quiet
// that it would have ended, or it is one that a detector ended, which then said too that it went on. `over`: it ended.
function heard({ score, alert, points, n }, rule) {
  const lasts = new Uint8Array(n), over = new Uint8Array(n);
  let inside = null, opened = 0, run = []; // places of the last quiet points in a row
  for (let i = 0; i < n; i++) {
    const point = points[i];
    if (point.maintenance) continue;
    const id = point.is_anomaly ? point.episode ?? point.id : null;
    const quiet = (alert[i] ?? 0) < rule.threshold && (score[i] ?? 0) < rule.close_below;
    if (inside !== null && id !== inside) {
      const closing = quiet ? [...run, i] : run;
      over[i] = closing.length < rule.close_points ? EARLY : USUAL;
      if (over[i] === EARLY) lasts.fill(1, opened, i);
      else for (const k of closing.slice(0, -rule.close_points)) lasts[k] = 1;
      opened = i;
      run = [];
    } else if (id !== null && id === inside && quiet) {
      run.push(i);
    } else {
      if (run.length >= rule.close_points) for (const k of run) lasts[k] = 1;
      run = [];
      if (id !== inside) opened = i;
    }
    inside = id;
  }
  if (run.length >= rule.close_points) for (const k of run) lasts[k] = 1;
  return { lasts, over };
}

// {episodes, points} of [start, stop]; points in maintenance are in none.
export function tally(columns, episodes) {
  let points = 0;
  for (const [start, stop] of episodes) for (let i = start; i < stop; i++) if (!columns.points[i].maintenance) points++;
  return { episodes: episodes.length, points };
}

// Names of metrics of these results; those first that the last episode is about.
export function metricsByBlame(points) {
  const names = new Set();
  for (const point of points) for (const name of point.values ? Object.keys(point.values) : [point.metric ?? "value"]) names.add(name);
  const anomalous = points.filter((point) => point.is_anomaly && point.attribution);
  const blamed = (anomalous.findLast(({ id, episode }) => id === episode) ?? anomalous.at(-1))?.attribution ?? {};
  const blame = (name) => (Object.hasOwn(blamed, name) ? blamed[name] : -1);
  return [...names].sort((a, b) => blame(b) - blame(a) || (a < b ? -1 : 1));
}

// First place in sorted times that is not before t.
export function reach(times, t) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function nearest(times, t) {
  const i = reach(times, t);
  return i > 0 && (i === times.length || t - times[i - 1] <= times[i] - t) ? i - 1 : i;
}
