// The page Now: what it shows of what the API answers.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { cell, count, duration, el, h, iso, metricsOf, nameOf, number, rate, rough, say, score, severity, time, titleOf, valueOf } from "./dom.js";
import { announce, start } from "./shell.js";

const SOURCES = 200, EPISODES = 100, POINTS = 500;

const rows = new Map();     // key of a series (keyOf) -> row of the table
const episodes = new Map(); // episode -> entry of the list
let shown = null;           // the series in the detail panel: {key, of, points, metric, threshold, sampled}
let topic = "raw-data";
let asked = 0;              // number of the last request for the list: an older answer must not win

// --- series: a source, or a source and the metric that its results name

const keyOf = ({ source, metric }) => JSON.stringify([source, metric ?? ""]);
const hrefOf = ({ source, metric }) =>
  `#source=${encodeURIComponent(source)}${metric ? `&metric=${encodeURIComponent(metric)}` : ""}`;

// --- header

function showStatistics(statistics) {
  topic = statistics.input_topic;
  say(el("rate"), rate(statistics.results.per_s));
  say(el("known"), count(statistics.sources));
  say(el("open"), count(statistics.episodes_open));
  el("open").className = statistics.episodes_open ? "raised" : "";
  say(el("lag"), count(statistics.worker.lag_records));
}

// --- table of sources

function reading(point) {
  const names = metricsOf(point);
  return names.length > 1 ? `${names.length} metrics` : number(valueOf(point, names[0]));
}

function state(point) {
  if (point.is_anomaly) return [severity(point.severity), severity(point.severity)];
  if (point.status === "warming_up") return ["warming up", ""];
  if (point.status === "degraded") return ["degraded", "medium"];
  return ["ok", ""];
}

function makeRow(series) {
  const link = h("a", { href: hrefOf(series), title: titleOf(series) }, ...nameOf(series));
  const row = {
    node: null, value: h("td", { class: "number value" }), fill: h("span", { class: "fill" }), score: h("span", { class: "figure" }),
    status: h("td", { class: "status" }), time: h("td", { class: "number time" }),
  };
  const bar = h("span", { class: "track", "aria-hidden": "true" }, row.fill);
  row.node = h("tr", {}, h("th", { scope: "row", class: "name" }, link), row.value,
    h("td", { class: "score" }, row.score, bar), row.status, row.time);
  row.node.addEventListener("click", (event) => { if (!event.target.closest("a")) location.hash = link.hash; });
  return row;
}

function patch(row, point) {
  const [word, kind] = state(point);
  say(row.value, reading(point));
  say(row.score, score(point.anomaly_score));
  row.fill.style.width = `${Math.min(Math.max(point.anomaly_score ?? 0, 0), 1) * 100}%`;
  say(row.status, word);
  say(row.time, time(point.timestamp));
  if (row.time.textContent.length > 8) el("table").classList.add("dated");
  row.time.title = iso(point.timestamp);
  row.status.title = point.is_anomaly ? "in an episode" : "";
  row.point = point;
  row.node.className = `${point.is_anomaly ? "anomalous" : ""} ${kind} ${keyOf(point) === shown?.key ? "chosen" : ""}`;
}

// A row must not move away under a pointer or the keyboard.
function isHeld() {
  const body = el("rows");
  return rows.size > 0 && (body.matches(":hover") || body.contains(document.activeElement));
}

function arrange(order) {
  const body = el("rows");
  if (order.length !== body.children.length || order.some((node, i) => node !== body.children[i])) body.replaceChildren(...order);
}

const precedes = (a, b) => a.source < b.source || (a.source === b.source && (a.metric ?? "") < (b.metric ?? ""));

// Rows sorted by their scores stay so while new scores come in.
function sortByScore() {
  if (el("sort").value !== "score" || isHeld()) return;
  const found = [...rows.values()].filter((row) => row.point);
  found.sort((a, b) => (b.point.anomaly_score ?? 0) - (a.point.anomaly_score ?? 0) || (precedes(a.point, b.point) ? -1 : 1));
  arrange(found.map((row) => row.node));
}

async function loadSources(force = false) {
  const number = ++asked, search = el("search").value;
  const query = new URLSearchParams({ search, sort: el("sort").value, limit: SOURCES });
  const list = await get(`api/sources?${query}`);
  if (number !== asked) return;
  const held = !force && isHeld();
  if (!held) {
    const wanted = new Map(list.sources.map((point) => [keyOf(point), point]));
    for (const key of rows.keys()) if (!wanted.has(key)) rows.delete(key);
    for (const [key, point] of wanted) if (!rows.has(key)) rows.set(key, makeRow(point));
    arrange([...wanted.keys()].map((key) => rows.get(key).node));
  }
  showPoints(list.sources);
  mark();
  const empty = el("no-sources");
  empty.hidden = list.matching > 0;
  if (list.known === 0) empty.replaceChildren(...howToBegin());
  else if (list.matching === 0) empty.replaceChildren(h("p", {}, `No name contains “${search}”.`));
  const total = list.matching === list.known ? count(list.known) : `${count(list.matching)} matching of ${count(list.known)}`;
  say(el("sources-note"), list.known === 0 ? "" : list.sources.length < list.matching
    ? `The first ${count(list.sources.length)} of ${total}; filter by name to see others` : `${total} series`);
}

function howToBegin() {
  return [
    h("p", { class: "strong" }, "No results yet"),
    h("p", {}, "Produce points to the topic ", h("code", {}, topic), ", with the source as the key:"),
    h("pre", {}, '{"source": "pump-7", "timestamp": "2023-10-27T09:37:40Z", "value": 45.2}'),
    h("p", {}, "or run ", h("code", {}, "faust-anomaly generate"), ". Sources appear here when they are scored."),
  ];
}

function showPoints(points) {
  for (const point of points) {
    const row = rows.get(keyOf(point));
    if (row) patch(row, point);
  }
}

function mark() {
  for (const [key, row] of rows) row.node.classList.toggle("chosen", key === shown?.key);
}

// --- episodes

function band(row, name) {
  const lower = cell(row, "expected_lower", name), upper = cell(row, "expected_upper", name);
  return lower === null || upper === null ? null : `${rough(lower)} to ${rough(upper)}`;
}

const REASONS = {
  recovered: "its points are usual again", adapted: "what opened it has become the new normal", silence: "its source sent nothing for too long",
};

const WORDS = { queued: "is being told", sent: "told", failed: "could not be told", muted: "not told" };

// Who was told of it, or why not.
function toldOf(row) {
  const words = (row.told ?? []).map((word) => h("span", { class: `word ${word.state}`, title: `${word.why}, ${iso(word.at)}${word.said ? `: ${word.said}` : ""}` },
    word.state === "sent" ? `${word.channel} ${time(word.at)}`
      : `${word.channel} ${WORDS[word.state] ?? word.state}${word.state === "muted" && word.said ? `: ${word.said.split(":")[0]}` : ""}`));
  return words.length ? h("p", { class: "told" }, h("span", { class: "label" }, "told"), ...words) : null;
}

// With its source in the list of all; one line each beneath a source's chart.
function makeEpisode(row, withSource) {
  const kind = severity(row.severity), known = row.value !== undefined || row.values !== undefined;
  const ended = row.state === "closed";
  const facts = [];
  const metric = worst(row) ?? metricsOf(row)[0];
  if (known) facts.push([row.values ? metric : "", number(valueOf(row, metric))]);
  const expected = known && band(row, metric);
  if (expected) facts.push(["expected", expected]);
  const peak = row.peak_score ?? row.anomaly_score;
  facts.push([row.peak_score === undefined ? "score" : "peak", score(peak)]);
  const until = row.closed_at ?? row.changed_at;
  if (until !== undefined && row.points) facts.push(["", `${count(row.points)} ${row.points === 1 ? "point" : "points"} in ${duration(until - row.opened_at)}${ended ? "" : " so far"}`]);
  const link = h("a", { href: hrefOf(row), title: titleOf(row) }, ...nameOf(row));
  return h("article", { class: `episode ${kind} ${ended ? "closed" : "open"}`, title: withSource ? null : row.explanation },
    h("div", { class: "line" },
      h("time", { datetime: iso(row.opened_at), title: iso(row.opened_at) }, time(row.opened_at)),
      withSource ? h("span", { class: "name" }, link) : null,
      row.kind ? h("span", { class: "kind", title: "What the episode is" }, row.kind) : null,
      h("span", { class: `severity ${kind}` }, kind),
      h("span", { class: "state", title: ended ? REASONS[row.reason] : null }, ended ? row.reason ?? "closed" : "open")),
    h("dl", { class: "facts" }, ...facts.map(([name, text]) => h("div", {}, name ? h("dt", {}, name) : null, h("dd", {}, text)))),
    withSource && row.explanation ? h("p", { class: "why" }, row.explanation) : null,
    withSource ? toldOf(row) : null);
}

function showEpisodes(found, fresh = false) {
  const list = el("episodes");
  for (const row of found) {
    const before = episodes.get(row.episode);
    if (before && JSON.stringify(before.row) === JSON.stringify(row)) continue;
    const node = makeEpisode(row, true);
    if (fresh && !before) {
      node.classList.add("fresh");
      announce(`Episode opened: ${[row.source, row.metric, severity(row.severity)].filter(Boolean).join(", ")}`);
    }
    before?.node.remove();
    episodes.set(row.episode, { row, node });
  }
  const order = [...episodes.values()].sort((a, b) => b.row.told_at - a.row.told_at || b.row.opened_at - a.row.opened_at || (a.row.episode < b.row.episode ? 1 : -1));
  for (const { row } of order.splice(EPISODES)) episodes.delete(row.episode);
  const focus = list.contains(document.activeElement) ? document.activeElement : null;
  order.forEach(({ node }, i) => { if (list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null); });
  while (list.children.length > order.length) list.lastChild.remove();
  if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
  el("no-episodes").hidden = order.length > 0;
  el("no-episodes").replaceChildren(h("p", { class: "strong" }, "No anomalies yet"),
    h("p", {}, "An entry appears here when a source's alert score reaches its threshold."));
  if (shown && found.some((row) => keyOf(row) === shown.key)) loadOwnEpisodes().catch(shell.lost);
}

// An episode that opens moves its source up at once, not at the next turn.
let soon = null;
function loadSoon() {
  soon ??= setTimeout(() => { soon = null; loadSources().catch(shell.lost); }, 1000);
}

async function loadEpisodes() {
  showEpisodes((await get(`api/anomalies?limit=${EPISODES}`)).anomalies);
}

// --- one series

const chart = new Chart(el("chart"), (text) => say(el("readout"), text));

async function open(of) {
  shown = { key: keyOf(of), of, points: [], metric: null, threshold: null, sampled: false };
  el("detail").hidden = false;
  el("detail-name").replaceChildren(...nameOf(of));
  el("detail-name").title = titleOf(of);
  el("detail-episodes").replaceChildren();
  el("metrics").replaceChildren();
  say(el("chart-note"), "");
  draw();
  mark();
  shell.live.watch(shown?.of ?? null);
  el("detail-name").focus({ preventScroll: true });
  el("detail").scrollIntoView({ block: "nearest" });
  await Promise.all([loadSeries(), loadOwnEpisodes()]);
}

function close() {
  shown = null;
  el("detail").hidden = true;
  shell.live.watch(shown?.of ?? null);
  mark();
}

async function loadSeries() {
  const own = shown;
  try {
    const found = await get(`api/series?${new URLSearchParams({ ...own.of, limit: POINTS })}`);
    Object.assign(own, { points: found.points, threshold: found.threshold, sampled: found.sampled });
  } catch (error) {
    if (error.status !== 404) throw error;
    own.missing = error.message;
  }
  if (own === shown) draw();
}

async function loadOwnEpisodes() {
  const own = shown;
  const { anomalies } = await get(`api/anomalies?${new URLSearchParams({ ...own.of, limit: 4 })}`);
  if (own !== shown) return;
  const head = h("h3", {}, anomalies.length ? "Last episodes" : "No recent episode of this series");
  el("detail-episodes").replaceChildren(head, ...anomalies.map((row) => makeEpisode(row, false)));
}

function addPoints(series, points) {
  if (keyOf(series) !== shown?.key) return;
  const last = shown.points.at(-1)?.id;
  const known = new Set(shown.points.map((point) => point.id));
  shown.points = [...shown.points, ...points.filter((point) => !known.has(point.id))].slice(-POINTS);
  if (shown.points.at(-1)?.id !== last) draw();
}

function draw() {
  const { points, sampled, missing } = shown;
  const names = points.length ? [...new Set(points.flatMap(metricsOf))].sort() : [];
  if (!names.includes(shown.metric)) {
    const opener = points.findLast((point) => point.is_anomaly && point.id === point.episode);
    shown.metric = worst(opener ?? points.findLast((point) => point.is_anomaly)) ?? names[0] ?? null;
  }
  const buttons = names.length < 2 ? [] : names.map((name) => {
    const button = h("button", { type: "button", "aria-pressed": name === shown.metric }, name);
    button.addEventListener("click", () => { shown.metric = name; draw(); });
    return button;
  });
  const before = [...el("metrics").children].map((node) => [node.textContent, node.getAttribute("aria-pressed")].join());
  if (before.join("\n") !== buttons.map((node) => [node.textContent, node.getAttribute("aria-pressed")].join()).join("\n")) {
    el("metrics").replaceChildren(...buttons);
  }
  chart.show(points, shown.metric, shown.threshold);
  const notes = [];
  const dotted = points.some((point) => point.drift) ? "; dotted: drift" : "";
  if (points.length) notes.push(`${count(points.length)} points; shaded: expected band; dashed: alert threshold${dotted}`);
  else if (missing) notes.push(`${missing}.`);
  if (points.length && points.length < 30) notes.push("more points are kept while this panel is open");
  if (sampled) notes.push("a sample: there are more results per second than the view reads");
  say(el("chart-note"), notes.join(" · "));
}

// The metric that an anomaly is about, if the result says so.
function worst(point) {
  const shares = Object.entries(point?.attribution ?? {});
  return shares.length ? shares.reduce((a, b) => (b[1] > a[1] ? b : a))[0] : undefined;
}

function route() {
  const found = /^#source=(.+?)(?:&metric=(.+))?$/s.exec(location.hash);
  let of = null;
  try { of = found && { source: decodeURIComponent(found[1]), metric: decodeURIComponent(found[2] ?? "") }; } catch { of = null; }
  if (of === null) { if (shown) close(); return; }
  if (keyOf(of) !== shown?.key) open(of).catch(shell.lost);
}

// --- updates

function receive(message) {
  if (message.type === "sources") { showPoints(message.sources); sortByScore(); }
  else if (message.type === "anomalies") { showEpisodes(message.anomalies, true); loadSoon(); }
  else if (message.type === "points") addPoints(message, message.points);
}

async function load(everything) {
  await loadSources();
  if (!everything) return;
  await loadEpisodes();
  if (shown) await Promise.all([loadSeries(), loadOwnEpisodes()]);
}

let typing = null;
el("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => loadSources(true).catch(shell.lost), 150); });
el("sort").addEventListener("change", () => loadSources(true).catch(shell.lost));
el("close").addEventListener("click", () => { location.hash = ""; });
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && shown && event.target !== el("search")) location.hash = "";
  else if (event.key === "/" && !event.target.closest("input, select")) { event.preventDefault(); el("search").focus(); }
});
addEventListener("hashchange", route);
const shell = start({
  page: "now", load, receive, statistics: showStatistics,
  title: ({ episodes_open: open }) => (open ? `(${open})` : ""),
});
route();
