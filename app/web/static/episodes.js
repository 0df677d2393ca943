// Episodes: which is worse, who was notified, and the texts for both. Rows are those of api/anomalies.

import { cell, count, duration, number, rough, score, severity, time, valueOf, metricsOf } from "./dom.js";

export const SEVERITIES = ["critical", "high", "medium", "low"]; // the worst first
const REPLAYED_S = 3600; // a larger difference between an episode's time and Kafka's is a replay

export const isOpen = (row) => row.state !== "closed";
export const peakOf = (row) => row.peak_score ?? row.alert_score ?? row.anomaly_score ?? 0;
export const rankOf = (row) => SEVERITIES.indexOf(severity(row.severity));

// The last time that is known of it, in its own time.
export const untilOf = (row) => row.closed_at ?? row.changed_at ?? row.timestamp ?? row.opened_at;

export const isReplayed = (row) => Math.abs((row.told_at ?? row.opened_at) - row.opened_at) > REPLAYED_S;

// Its end; an open one goes on until now, unless its points bear times of long ago.
export const endOf = (row, now) => (isOpen(row) && !isReplayed(row) ? Math.max(now, row.opened_at) : untilOf(row));

// [from, to] of it among what happened: of points that bear times of long ago when they came, not what they say.
export const placeOf = (row, now) => (isReplayed(row) ? [row.told_at, isOpen(row) ? now : row.told_at] : [row.opened_at, endOf(row, now)]);

const by = (...keys) => (a, b) => {
  for (const key of keys) {
    const [x, y] = [key(a), key(b)];
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
};

// By severity, those that nobody has acknowledged first, then by peak, then the newest.
export const worstFirst = by(rankOf, (row) => Boolean(row.acknowledged), (row) => -peakOf(row), (row) => -row.opened_at, (row) => row.episode);

// --- notifications

// sent: at least one channel was notified; failed, queued, muted: none was, for this reason; none: nothing is known.
export function notifiedState(row) {
  const states = (row.told ?? []).map((word) => word.state);
  for (const state of ["sent", "queued", "failed", "muted"]) if (states.includes(state)) return state;
  return row.muted ? "muted" : "none";
}

export function counts(rows) {
  const found = { open: rows.length, critical: 0, silent: 0, sent: 0, queued: 0, failed: 0, muted: 0, none: 0, acknowledged: 0 };
  for (const row of rows) {
    if (row.severity === "critical") found.critical += 1;
    if (row.kind === "silent") found.silent += 1;
    if (row.acknowledged) found.acknowledged += 1;
    found[notifiedState(row)] += 1;
  }
  return found;
}

const PLAIN = { queued: "queued", failed: "failed", muted: "muted", none: "without a notification" };

// The headline as [[words, class]]; and the other states, if not all were notified.
export function headline(rows) {
  const of = counts(rows);
  const parts = [
    [`${count(of.open)} open`, ""], [`${count(of.critical)} critical`, of.critical ? "critical" : ""], [`${count(of.silent)} silent`, ""],
    [`${count(of.sent)} of ${count(of.open)} notified`, of.sent < of.open ? "short" : ""],
  ];
  const behind = ["failed", "muted", "queued", "none"].filter((state) => of[state]).map((state) => `${count(of[state])} ${PLAIN[state]}`);
  if (of.acknowledged) behind.push(`${count(of.acknowledged)} acknowledged`);
  return { parts, behind };
}

const WORDS = { queued: "is queued", failed: "failed", muted: "muted" };

// [[channel, words, state, more]]: channels that were notified, then those that were not, and why.
export function notificationsOf(row) {
  const sentFirst = [...(row.told ?? [])].sort((a, b) => (b.state === "sent") - (a.state === "sent"));
  return sentFirst.map((word) => {
    const why = word.state !== "sent" && word.said ? `: ${word.said}` : "";
    const text = word.state === "sent" ? `at ${time(word.at)}` : `${WORDS[word.state] ?? word.state}${why}`;
    return [word.channel, text, word.state, [word.why, word.said].filter(Boolean).join(": ")];
  });
}

// --- what is known of it

// The metric that an anomaly is about, if it says so.
export function worstMetric(row) {
  const shares = Object.entries(row?.attribution ?? {});
  return shares.length ? shares.reduce((a, b) => (b[1] > a[1] ? b : a))[0] : metricsOf(row ?? {})[0];
}

export function bandOf(row, name) {
  const lower = cell(row, "expected_lower", name), upper = cell(row, "expected_upper", name);
  return lower === null || upper === null ? null : `${rough(lower)} to ${rough(upper)}`;
}

// [[name, text]]: value against expected, peak, how many points.
export function factsOf(row) {
  const facts = [], metric = worstMetric(row), value = valueOf(row, metric);
  if (typeof value === "number") facts.push([row.values ? metric : "value", number(value)]);
  const expected = cell(row, "expected", metric), band = bandOf(row, metric);
  if (band) facts.push(["expected", band]);
  else if (typeof expected === "number") facts.push(["expected", rough(expected)]);
  if (row.kind !== "silent") facts.push(["peak score", score(peakOf(row))]);
  if (row.points) facts.push(["", `${count(row.points)} ${row.points === 1 ? "point" : "points"}`]);
  return facts;
}

// Since when, and for how long at `now` (epoch s): by Kafka's clock where points bear times of long ago.
export function since(row, now) {
  const begun = row.told_at ?? row.opened_at;
  if (!isOpen(row)) return `${time(row.opened_at)} to ${time(row.closed_at)} UTC, ${duration(row.closed_at - row.opened_at)}`;
  if (isReplayed(row)) return `since ${time(row.opened_at)} UTC by its points, which came ${duration(Math.max(now - begun, 0))} ago`;
  return `since ${time(row.opened_at)} UTC, for ${duration(Math.max(now - row.opened_at, 0))}`;
}

export const REASONS = {
  recovered: "its points are usual again", adapted: "what opened it has become the new normal", silence: "its source sent nothing for too long",
  forgotten: "its source is not expected any more",
};

export const VERDICTS = {
  anomaly: "an anomaly", expected: "expected", new_normal: "the new normal", not_useful: "not useful",
};
