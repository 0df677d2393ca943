// The page of one series: what happened at any time, why, and what another threshold would have reported. Without a source in
// its address, the list of all. The state is in the address: source, metric, from and to or last, threshold.

import { get } from "./api.js";
import { count, duration, el, h, iso, nameOf, number, rough, say, score, severity, time, titleOf, valueOf, cell } from "./dom.js";
import { decisions, notifiedLine } from "./episode_list.js";
import { REASONS, factsOf, isOpen } from "./episodes.js";
import { firstTime, resultsBetween } from "./stored_results.js";
import { SeriesChart, voteColour } from "./series_chart.js";
import { Points, columnsOf, episodesAt, judged, metricsByBlame, secondsOf, tally } from "./series_points.js";
import { announce, start } from "./shell.js";
import { SourceList, hrefOf } from "./source_list.js";
import { readoutOf, spoken, wordOf } from "./source_readout.js";
import { read, write } from "./url_state.js";

const NAMES = ["source", "metric", "from", "to", "last", "threshold"];
const SPANS = [["", "Latest"], ["3600", "1 h"], ["21600", "6 h"], ["86400", "24 h"], ["604800", "7 d"], ["all", "All"]];
const POINTS = 500;            // what the view holds of a series
const MOST_LIVE = 5000;        // and the page, while it is open
const MOST_KEPT = 200000;
const SETTLED_MS = 250;        // after the last of several steps of zoom Kafka is asked
const PAGES = 20;              // read on by itself; each takes 2 s at most
const TABLE = 1000, EPISODES = 50, LISTED = 12;
const CLOSE = { close_below: 0.4, close_points: 5 };

let series = null;             // {of, metric, live, history, rule, ..} of the source that is shown
let turn = 0;                  // of the last request: an older answer must not win
const hidden = new Set();      // lines that are not drawn
const voted = new Set();       // votes that are

const chart = new SeriesChart(el("chart"), { zoomed, pointed });
const page = start({
  page: "source",
  title: () => (series ? titleOf(series.of).replace("\n", " ") : "Sources"),
  load: async (everything) => {
    if (!series) await list.again();
    else if (everything && !series.loading) await Promise.all([loadLive(series), loadEpisodes(series)]);
  },
  receive,
  connected: (is) => { if (series) { series.cut = !is; sayShown(); } },
});
const list = new SourceList(page.lost);

// --- address

const given = () => read(NAMES);
const timeOf = (text) => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : Date.parse(text) / 1000);
const inAddress = (t) => new Date(Math.round(t * 1000)).toISOString().replace(".000Z", "Z");

async function route() {
  const { source, metric, threshold } = given();
  el("choose").hidden = source !== "";
  el("one").hidden = source === "";
  if (!source) {
    series = null;
    turn += 1;
    page.live.watch(null);
    await list.show();
    return;
  }
  const same = series && series.of.source === source && (series.asked === metric || series.metric === metric);
  if (!same) await open(source, metric);
  if (!series) return;
  series.threshold = threshold === "" ? null : Math.min(Math.max(Number(threshold) || 0, 0), 1);
  if (same && series.of.metric === "") series.metric = metric || null;
  chooseSpan();
}

function go(changes, quiet = false) {
  write(changes, quiet);
  route().catch(page.lost);
}

// --- one series

async function open(source, metric) {
  const own = series = {
    of: { source, metric }, asked: metric, metric: null, live: new Points(), history: null, rule: null, sampled: false, missing: "", rows: [],
    threshold: null, span: null, loading: true,
  };
  turn += 1;
  showName(own);
  for (const id of ["state", "span", "shown", "would", "values-title"]) say(el(id), "");
  for (const id of ["readout", "episodes", "metrics", "marks", "lines", "spans"]) el(id).replaceChildren();
  el("as-table").open = false;
  say(el("shown"), "Loading …");
  await loadLive(own);
  if (own !== series) return;
  own.loading = false;
  showName(own); // the metric may be one of a vector
  page.live.watch(own.of);
  loadEpisodes(own).catch(page.lost);
}

function showName({ of }) {
  el("name").replaceChildren(...nameOf(of));
  el("name").title = titleOf(of);
}

// The last points that the view holds. A metric in the address may be one of a vector, which is a series of its source.
async function loadLive(own) {
  const ask = (metric) => get(`api/series?${new URLSearchParams({ source: own.of.source, metric, limit: POINTS })}`);
  let found = null;
  try {
    found = await ask(own.of.metric);
  } catch (error) {
    if (error.status !== 404) throw error;
    own.missing = error.message;
  }
  if (!found && own.of.metric) {
    found = await ask("").catch((error) => { if (error.status !== 404) throw error; return null; });
    if (found?.points.some((point) => point.values && Object.hasOwn(point.values, own.of.metric))) {
      Object.assign(own, { of: { source: own.of.source, metric: "" }, metric: own.asked });
    } else {
      found = null;
    }
  }
  if (found) {
    const before = own.live.size, added = own.live.add(found.points);
    Object.assign(own, { missing: "", rule: { ...CLOSE, ...found.rule, threshold: found.threshold }, sampled: found.sampled });
    // Nothing of what came was known: there may be others in between.
    if (before && added === found.points.length) Object.assign(own, { history: null, asking: null });
  }
  if (own === series && !own.loading) chooseSpan();
}

async function loadEpisodes(own) {
  const { anomalies } = await get(`api/anomalies/${encodeURIComponent(own.of.source)}?${new URLSearchParams({ metric: own.of.metric, limit: EPISODES })}`);
  own.rows = anomalies;
  if (own === series) draw();
}

function receive(message) {
  if (!series) return;
  const own = (row) => row.source === series.of.source && (row.metric ?? "") === series.of.metric;
  if (message.type === "points" && own(message)) {
    const added = series.live.add(message.points);
    if (!added) return;
    series.missing = "";
    const { history: kept, span } = series;
    if (kept && !series.reading) {
      kept.seen += kept.points.add(span.kind === "fixed" ? message.points.filter(({ timestamp }) => secondsOf(timestamp) <= kept.to) : message.points);
    }
    if (series.live.size > 2 * MOST_LIVE) series.live.trim(-Infinity, MOST_LIVE);
    follow();
  } else if (message.type === "anomalies" && message.anomalies.some(own)) {
    loadEpisodes(series).catch(page.lost);
  }
}

// --- span of time

const lastOf = (own) => (own.live.size ? own.live.entries.at(-1).t : own.history?.points.size ? own.history.points.entries.at(-1).t : Date.now() / 1000);

// {from, to, kind}: latest, last (which follow the last point) or fixed; from null: where the first result is.
function spanAsked(own) {
  const { from, to, last } = given(), end = lastOf(own);
  const [begin, until] = [timeOf(from), timeOf(to)];
  if (Number.isFinite(begin) || Number.isFinite(until)) {
    const stop = Number.isFinite(until) ? until : end, start = Number.isFinite(begin) ? begin : stop - 3600;
    if (start < stop) return { from: start, to: stop, kind: "fixed" };
  }
  if (last === "all") return { from: own.first ?? null, to: end, kind: "last" };
  if (Number(last) > 0) return { from: end - Number(last), to: end, kind: "last", length: Number(last) };
  const first = own.live.entries[Math.max(own.live.size - MOST_LIVE, 0)]?.t ?? end - 3600;
  return { from: first, to: end, kind: "latest" };
}

const signatureOf = (own) => { const { from, to, last } = given(); return JSON.stringify([own.of, from, to, last]); };

function chooseSpan() {
  const own = series;
  own.span = spanAsked(own);
  const asked = signatureOf(own), { kind, from, to } = own.span;
  const held = own.history;
  const inside = held && held.complete && !held.thinned && from !== null && from >= held.from && to <= held.to;
  if (kind === "latest") {
    turn += 1;
    own.history = null;
    own.asking = null;
  } else if (asked !== own.asking && !inside) {
    own.asking = asked;
    clearTimeout(own.timer);
    own.timer = setTimeout(() => { if (own === series && own.asking === asked) readKept(own, asked); }, held ? SETTLED_MS : 0);
  } else if (inside) {
    own.asking = asked;
    own.failed = null;
  }
  draw();
}

// What came moves the right edge.
function follow() {
  const { kind, length, to } = series.span, end = lastOf(series);
  if (kind === "latest") series.span = spanAsked(series);
  else if (kind === "last") {
    Object.assign(series.span, { to: Math.max(end, to), from: length ? Math.max(end, to) - length : series.span.from });
    if (series.history) { series.history.to = Math.max(series.history.to, end); series.history.points.trim(length ? series.span.from : -Infinity, MOST_KEPT); }
  }
  draw();
}

async function readKept(own, asked, goOn = null) {
  const number = ++turn, current = () => own === series && number === turn && asked === own.asking;
  Object.assign(own, { failed: null, reading: { pages: 0 } });
  draw();
  try {
    await readPages(own, current, goOn);
  } catch (error) {
    if (current()) own.failed = error;
  } finally {
    if (current()) own.reading = null;
    if (own === series) draw();
  }
}

async function readPages(own, current, goOn) {
  const of = { source: own.of.source, metric: own.of.metric };
  if (own.span.from === null) {
    const first = await firstTime(of, own.span.to + 1);
    if (!current()) return;
    own.first = first === null ? own.live.entries[0]?.t ?? own.span.to - 1 : secondsOf(first);
    own.span = { ...own.span, from: own.first };
  }
  const { from, to } = goOn ?? own.span, most = Math.min(Math.max(8 * el("chart").clientWidth, 4000), 10000);
  let kept = goOn;
  for await (const found of resultsBetween(of, from, to + 0.001, most, goOn ?? undefined)) { // with its last point
    if (!current()) return;
    if (kept === null) kept = own.history = { from, to, points: new Points(), seen: 0, complete: false, thinned: false, most, whole: null };
    if (found.thinned) kept.whole ??= kept.until;
    kept.points.add(found.results);
    kept.seen += found.seen;
    Object.assign(kept, { complete: found.complete, cursor: found.cursor, until: found.results.length ? secondsOf(found.results.at(-1).timestamp) : kept.until });
    own.reading.pages += 1;
    draw();
    if (own.reading.pages >= PAGES) break;
  }
  kept.thinned = kept.points.size < kept.seen;
  // What was written after Kafka was asked: nothing else of what came is missing in it.
  const follows = own.span.kind !== "fixed";
  if (follows) kept.to = Math.max(to, own.span.to);
  const since = own.live.entries.filter(({ t }) => t > (kept.until ?? from) && (follows || t <= to)).map(({ point }) => point);
  kept.seen += kept.points.add(since);
  own.missing = "";
}

function zoomed(from, to, brief) {
  const least = 0.001;
  if (!(to - from > least)) return;
  go({ from: inAddress(from), to: inAddress(to), last: "" }, brief);
}

// --- drawing

let planned = false;
function draw() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => { planned = false; if (series && !series.loading) drawNow(series); });
}

function drawNow(own) {
  const { from, to } = own.span, source = own.history ?? { points: own.live };
  const entries = source.points.between(from ?? -Infinity, to + 0.001);
  const known = entries.length ? entries : own.live.entries;
  const metrics = metricsByBlame(known.slice(-2 * POINTS).map(({ point }) => point));
  if (!metrics.includes(own.metric)) own.metric = metrics[0] ?? own.metric ?? "value";
  const coarse = own.history?.thinned ? (4 * (own.history.to - own.history.from)) / own.history.most : 0;
  own.columns = columnsOf(entries, own.metric, coarse);
  own.judged = judged(own.columns);
  showGone(own);
  showTitle(own);
  showSpans(own);
  showMetrics(own, metrics);
  showLines(own);
  judge(own);
  showEpisodes(own);
  sayShown();
  showTable(own);
}

function drawChart(own) {
  const { columns, span } = own, nothing = columns.n === 0;
  el("chart").hidden = nothing && !own.reading;
  el("no-points").hidden = !nothing || Boolean(own.reading);
  if (nothing && !own.reading) el("no-points").replaceChildren(...whyNothing(own));
  if (el("chart").hidden) return;
  const threshold = own.threshold ?? own.rule?.threshold;
  chart.show({
    columns, from: span.from ?? span.to - 1, to: span.to, episodes: spansOf(own), threshold, wouldBe: own.threshold === null ? [] : own.wouldBe,
    lines: [
      ...(hidden.has("score") ? [] : [{ name: "score", colour: "--score", width: 1 }]),
      ...[...columns.votes.keys()].map((name, place) => ({ name, colour: voteColour(place), width: 1 })).filter(({ name }) => voted.has(name)),
      ...(hidden.has("alert") ? [] : [{ name: "alert", colour: "--alert", width: 1.5 }]),
    ],
  });
  el("chart").setAttribute("aria-label", summary(own));
  pointed(chart.cursor, false);
}

const plural = (n, word) => `${count(n)} ${n === 1 ? word : `${word}s`}`;

function summary({ columns, metric, judged: episodes, of }) {
  if (!columns.n) return `${titleOf(of)}: no points`;
  return `${titleOf(of).replace("\n", ", ")}, ${metric}: ${plural(columns.n, "point")} from ${iso(columns.t[0])} to ${iso(columns.t[columns.n - 1])}, ` +
    `${plural(episodes.length, "episode")}, ${count(columns.anomalous.length)} anomalous, last value ${number(columns.value.findLast((value) => value !== null))}`;
}

// Spans of episodes: as they are known, and as the points say.
function spansOf(own) {
  const found = new Map(own.judged.map((one) => [one.id, one]));
  for (const row of own.rows) {
    const seen = found.get(row.episode), to = row.closed_at ?? (isOpen(row) ? Math.max(lastOf(own), row.opened_at) : row.opened_at);
    found.set(row.episode, { from: row.opened_at, to: row.reason === "silence" ? seen?.to ?? row.opened_at : to, severity: severity(row.severity) });
  }
  return [...found.values()];
}

function whyNothing(own) {
  if (own.failed) return [h("p", { class: "strong" }, "The history could not be read"), h("p", {}, own.failed.message), again(own)];
  const end = own.live.size ? lastOf(own) : null;
  const words = own.metric ? "No points in this span" : "No points";
  return [
    h("p", { class: "strong" }, words),
    end === null ? h("p", {}, "Results are read from Kafka, which keeps them as long as the topic's retention says.")
      : h("p", {}, `The last point is from ${time(end)} UTC. `, button("Show the latest", () => go({ from: "", to: "", last: "" }))),
  ];
}

function button(text, act, attributes = {}) {
  const node = h("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", act);
  return node;
}

const again = (own) => button("Try again", () => { own.asking = null; chooseSpan(); });

function showGone(own) {
  const gone = own.missing !== "" && own.live.size === 0 && !own.history && own.span.kind === "latest";
  el("gone").hidden = !gone;
  el("board").hidden = el("as-table").hidden = gone;
  if (!gone) return;
  el("gone").replaceChildren(
    h("p", { class: "strong" }, "Nothing of this source was seen"), h("p", {}, `${own.missing}. It may have sent nothing since, or its name may be another.`),
    h("p", {}, button("Look for it in Kafka", () => go({ last: "all", from: "", to: "" })), " ", h("a", { href: `source?${new URLSearchParams({ search: own.of.source })}` }, "Find others by name")));
}

function showTitle(own) {
  const point = own.live.entries.at(-1)?.point;
  const value = point ? valueOf(point, own.metric) : null;
  const text = point ? `${typeof value === "number" ? `${number(value)}, ` : ""}${wordOf(point)} at ${time(point.timestamp)} UTC` : "";
  say(el("state"), text);
  el("state").className = `state ${point?.is_anomaly ? severity(point.severity) : ""}`;
  say(el("values-title"), own.metric === "value" ? "Value" : own.metric);
}

function showSpans(own) {
  const { last } = given(), { kind } = own.span;
  fill("spans", SPANS.map(([value, text]) => ({
    text, pressed: value === "" ? kind === "latest" : kind === "last" && last === value, act: () => go({ last: value, from: "", to: "" }),
  })));
  fill("moves", [
    { text: "◀", label: "Earlier", act: () => chart.pan(-0.5) }, { text: "−", label: "Zoom out", act: () => chart.zoom(0.5) },
    { text: "+", label: "Zoom in", act: () => chart.zoom(2) }, { text: "▶", label: "Later", act: () => chart.pan(0.5) },
  ]);
  const { from, to } = own.span;
  say(el("span"), from === null ? "" : `${time(from)} to ${time(to)} UTC, ${duration(to - from)}`);
}

// Buttons are kept while their texts are the same, so that the keyboard stays where it is.
function fill(id, wanted) {
  const box = el(id), texts = wanted.map(({ text }) => text).join("\n");
  if (box.dataset.texts !== texts || !box.children.length) {
    box.dataset.texts = texts;
    box.replaceChildren(...wanted.map(({ text, label, swatch }) => {
      const node = h("button", { type: "button", "aria-label": label, title: label }, text);
      if (swatch) {
        const key = h("span", { class: "swatch", "aria-hidden": "true" });
        key.style.background = `var(${swatch})`;
        node.prepend(key);
      }
      return node;
    }));
  }
  wanted.forEach(({ pressed, act }, k) => {
    const node = box.children[k];
    node.onclick = act;
    if (pressed !== undefined) node.setAttribute("aria-pressed", String(pressed));
  });
}

function chooseMetric(name) {
  series.metric = name;
  write({ metric: name === "value" && !series.asked ? "" : name }, false);
  draw();
}

function showMetrics(own, metrics) {
  el("metrics").hidden = metrics.length < 2;
  if (metrics.length < 2) return;
  // In the order of names while one looks: blame changes with each episode, and a button must not run away.
  if (own.order?.length !== metrics.length) own.order = metrics;
  fill("metrics", own.order.map((name) => ({ text: name, pressed: name === own.metric, act: () => chooseMetric(name) })));
}

function showLines(own) {
  const { columns } = own, toggle = (set, name) => () => { if (!set.delete(name)) set.add(name); draw(); };
  fill("lines", [
    { text: "alert score", swatch: "--alert", pressed: !hidden.has("alert"), act: toggle(hidden, "alert") },
    { text: "anomaly score", swatch: "--score", pressed: !hidden.has("score"), act: toggle(hidden, "score") },
    ...[...columns.votes.keys()].map((name, place) => ({ text: name, swatch: voteColour(place), pressed: voted.has(name), act: toggle(voted, name) })),
  ]);
  const marks = [["line", own.metric === "value" ? "value" : own.metric], ["dashes", "expected"], ["band", "expected band"]];
  if (columns.anomalous.length) marks.push(["dot", "anomalous"], ["during", "episode"]);
  if (columns.drifts.length) marks.push(["drift", "drift"]);
  if (columns.maintenance.length) marks.push(["hatch", "maintenance"]);
  const texts = marks.join("\n");
  if (el("marks").dataset.texts === texts) return;
  el("marks").dataset.texts = texts;
  el("marks").replaceChildren(...marks.map(([kind, text]) => h("li", {}, h("span", { class: `key ${kind}`, "aria-hidden": "true" }), text)));
}

// --- threshold

function judge(own) {
  const { rule, columns } = own;
  el("what-if").hidden = !rule || columns.n === 0;
  own.wouldBe = null;
  if (rule && columns.n) {
    const slider = el("threshold"), now = rule.threshold, tried = own.threshold ?? now;
    slider.min = Math.min(0.5, now);
    if (Number(slider.value) !== tried) slider.value = tried;
    const same = Math.abs(tried - now) < 1e-9;
    own.wouldBe = episodesAt(columns, rule, tried);
    const would = tally(columns, own.wouldBe);
    const is = { episodes: own.judged.length, points: columns.anomalous.length };
    const words = ({ episodes, points }) => `${plural(episodes, "episode")}, ${plural(points, "point")}`;
    const least = own.history?.thinned && tried < now ? "at least " : "";
    say(el("threshold-value"), tried.toFixed(2));
    el("threshold-back").hidden = same;
    say(el("would"), same ? `At ${now}, as it is set: ${words(is)}. Move the slider to see what another threshold would have reported.`
      : `At ${tried}: ${least}${words(would)}; now ${now}: ${words(is)}.`);
    slider.setAttribute("aria-valuetext", `${tried.toFixed(2)}: ${words(would)}`);
    el("make-so").hidden = same;
    if (!same) [el("make-where").textContent, el("make-line").textContent] = settingsOf(own, tried);
  }
  drawChart(own);
}

const pattern = (name) => JSON.stringify(name.replace(/[[*?]/g, "[$&]"));

// Where to write it, and what.
function settingsOf({ of, rule }, threshold) {
  const metric = of.metric && rule.by_metric !== false ? `    metric: ${pattern(of.metric)}\n` : "";
  const line = `  - match: ${pattern(of.source)}\n${metric}    threshold: ${threshold}`;
  if (!rule.entry) return ["To make it so, for this source alone:", `sources:\n${line}`];
  return [`${rule.entry.place} (match ${rule.entry.match}) already applies to it, and the first entry that matches counts: set threshold: ${threshold} there for all that match, or put a copy of it before it, with`,
    `${line}\n    # and all else that the entry says`];
}

el("threshold").addEventListener("input", () => {
  const value = Number(el("threshold").value);
  series.threshold = Math.abs(value - series.rule.threshold) < 1e-9 ? null : value;
  write({ threshold: series.threshold === null ? "" : String(value) }, true);
  judge(series);
});
el("threshold-back").addEventListener("click", () => {
  series.threshold = null;
  write({ threshold: "" }, true);
  judge(series);
  el("threshold").focus();
});
el("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(el("make-line").textContent);
    say(el("copy"), "Copied");
  } catch {
    getSelection().selectAllChildren(el("make-line"));
    say(el("copy"), "Press Ctrl+C");
  }
  setTimeout(() => say(el("copy"), "Copy"), 2000);
});

// --- point under the cursor

function pointed(index, byKey) {
  const { columns, metric } = series, latest = index === null;
  const point = columns.points[index ?? columns.n - 1];
  if (!point) { el("readout").replaceChildren(h("div", { class: "panel-head" }, h("h2", { id: "readout-title" }, "Point")), h("p", { class: "empty" }, "No point to show.")); return; }
  const places = [...columns.votes.keys()];
  if (byKey) announce(spoken(point, metric));
  if (el("readout").contains(document.activeElement)) return; // a button of it is in use
  el("readout").replaceChildren(...readoutOf(point, metric, {
    latest: latest && columns.t[columns.n - 1] >= lastOf(series), choose: chooseMetric,
    swatch: (name) => (voted.has(name) ? `var(${voteColour(places.indexOf(name))})` : null),
  }));
}

// --- episodes, sentence of what is shown, table

function showEpisodes(own) {
  const known = new Map(own.rows.map((row) => [row.episode, row]));
  for (const one of own.judged) {
    if (known.has(one.id)) continue;
    const opener = own.columns.points[one.start];
    known.set(one.id, { ...opener, episode: one.id, opened_at: one.from, severity: one.severity, points: one.points, peak_score: one.peak,
      state: one.open ? "open" : "closed", closed_at: one.open ? undefined : one.to });
  }
  const rows = [...known.values()].sort((a, b) => b.opened_at - a.opened_at);
  const most = own.listed ?? LISTED, texts = JSON.stringify([rows, given(), most]);
  if (own.episodeTexts === texts && el("episodes").children.length) return;
  own.episodeTexts = texts;
  const focused = document.activeElement?.closest?.("#episodes")?.querySelector("a:focus")?.href;
  el("episodes").replaceChildren(...rows.slice(0, most).map((row) => episode(own, row)));
  if (focused) [...el("episodes").querySelectorAll("a")].find((a) => a.href === focused)?.focus({ preventScroll: true });
  el("more").hidden = rows.length <= most;
  say(el("more"), `Show ${count(rows.length - most)} more`);
  el("more").onclick = () => { own.listed = Infinity; const first = most; showEpisodes(own); el("episodes").children[first]?.querySelector("a")?.focus(); };
  const open = rows.filter(isOpen).length;
  say(el("episodes-note"), rows.length ? `${count(rows.length)} known${open ? `, ${count(open)} open` : ""}; the newest first` : "");
  el("no-episodes").hidden = rows.length > 0;
  el("no-episodes").replaceChildren(h("p", {}, "No episode is known of this series. One opens where the alert score reaches the threshold."));
}

function episode(own, row) {
  const kind = severity(row.severity), until = row.closed_at ?? row.changed_at ?? lastOf(own), length = Math.max(until - row.opened_at, 0);
  const pad = Math.max(length, 60), from = row.opened_at - pad, to = (isOpen(row) ? Math.max(until, lastOf(own)) : until) + pad;
  const link = h("a", { href: hrefOf({ source: own.of.source, metric: own.asked }, { from: inAddress(from), to: inAddress(to) }) },
    h("time", { datetime: iso(row.opened_at) }, time(row.opened_at)));
  const facts = [...factsOf(row).map(([name, text]) => [name, text]), ["", isOpen(row) ? `${duration(length)} so far` : duration(length)]];
  return h("li", { class: `${kind} ${isOpen(row) ? "open" : "closed"}` },
    h("p", { class: "line" }, link, h("span", { class: "word" }, kind), row.kind ? h("span", { class: "tag" }, row.kind) : null,
      h("span", { class: "quiet ended", title: REASONS[row.reason] ?? null }, isOpen(row) ? "open" : row.reason ?? "closed"),
      isOpen(row) ? h("a", { class: "decide", href: `./?${new URLSearchParams({ episode: row.episode })}` }, "Decide") : null),
    row.explanation ? h("p", { class: "sentence" }, row.explanation) : null,
    h("p", { class: "facts" }, ...facts.map(([name, text]) => h("span", {}, name ? h("span", { class: "quiet" }, `${name} `) : null, text))),
    row.told || row.muted ? notifiedLine(row) : null, ...decisions(row));
}

function sayShown() {
  const own = series;
  if (!own?.columns) return;
  const { history, reading, failed, columns, span } = own, n = columns.n, sentences = [], nodes = [];
  if (span.kind === "latest" && !history) {
    if (n) sentences.push(`The last ${plural(n, "point")}${own.cut ? "" : "; new ones come as they are written"}.`);
    if (own.sampled) sentences.push("This is a sample: there are more results a second than the view reads. Choose a span to read all of it from Kafka.");
  } else if (history?.complete) {
    const inside = span.from >= history.from && span.to <= history.to;
    if (!history.thinned && inside) sentences.push(`All ${plural(n, "point")} of this span, read from Kafka.`);
    else if (inside) sentences.push(`${count(n)} of ${plural(history.seen, "point")} ${n < history.points.size ? "of the span before" : "of this span"}: all until ${time(history.whole ?? history.from)} UTC, then of each ${duration(4 * (history.to - history.from) / history.most)} the first, last, lowest and highest, and all that are in episodes. Zoom in to see all.`);
    else sentences.push(`${plural(n, "point")} that are known of this span.`);
  } else if (history && !reading) {
    sentences.push(`Kafka was read until ${time(history.until ?? history.from)} UTC so far: ${plural(n, "point")}.`);
    nodes.push(button("Read on", () => readKept(own, own.asking, history)));
  }
  if (failed && n) { sentences.push(`The history could not be read: ${failed.message}.`); nodes.push(again(own)); }
  if (own.cut) sentences.push("Not connected: new points are not shown until the connection is back.");
  const text = sentences.join(" ");
  if (el("shown").dataset.text !== text + nodes.length || nodes.length) {
    el("shown").dataset.text = text + nodes.length;
    el("shown").replaceChildren(text, " ", ...nodes);
  }
  el("progress").hidden = !reading;
  if (!reading) return;
  const whole = (span.to - (span.from ?? span.to)) || 1;
  if (history && reading.pages && history.until) el("bar").value = Math.min(Math.max((history.until - history.from) / whole, 0), 1);
  else el("bar").removeAttribute("value");
  say(el("reading"), reading.pages ? `Reading from Kafka: ${plural(history.seen, "point")} until ${time(history.until ?? span.from)} UTC` : "Reading from Kafka …");
}

function showTable(own) {
  if (!el("as-table").open) return;
  const { columns, metric } = own, first = Math.max(columns.n - TABLE, 0);
  const key = `${metric} ${columns.n} ${columns.t[0]} ${columns.t[columns.n - 1]}`;
  if (el("table-rows").dataset.of === key) return;
  el("table-rows").dataset.of = key;
  say(el("table-note"), first ? `The last ${count(TABLE)} of ${plural(columns.n, "point")} that are shown; zoom in to see others.` : `${plural(columns.n, "point")}, the last first.`);
  el("table-rows").replaceChildren(...columns.points.slice(first).reverse().map((point) => {
    const lower = cell(point, "expected_lower", metric), upper = cell(point, "expected_upper", metric);
    return h("tr", { class: point.is_anomaly ? `anomalous ${severity(point.severity)}` : null },
      h("th", { scope: "row" }, iso(point.timestamp).replace("T", " ").replace(/(\.000)?Z$/, "")), h("td", { class: "number" }, number(valueOf(point, metric))),
      h("td", { class: "number" }, lower !== null && upper !== null ? `${rough(lower)} to ${rough(upper)}` : "–"),
      h("td", { class: "number" }, score(point.anomaly_score)), h("td", { class: "number" }, score(point.alert_score)), h("td", {}, wordOf(point)));
  }));
}

el("as-table").addEventListener("toggle", () => { if (series?.columns) showTable(series); });

// --- start

addEventListener("popstate", () => route().catch(page.lost));
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || to.pathname !== location.pathname) return;
  event.preventDefault();
  history.pushState(null, "", to.href);
  const before = series?.of.source;
  route().then(() => { if (series && series.of.source !== before) el("name").focus({ preventScroll: true }); }).catch(page.lost);
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, textarea") && series === null) { event.preventDefault(); el("search").focus(); }
});
route().catch(page.lost);
