// The page Now: what is open, what happened in the last 24 hours, and the sources by their latest scores.

import { get, post, remove, session } from "./api.js";
import { count, duration, el, h, iso, say, severity, time } from "./dom.js";
import { Decide } from "./decide.js";
import { EpisodeList, drawChart, makeEntry, noChart } from "./episode_list.js";
import { counts, endOf, headline, isOpen, isReplayed, placeOf, untilOf } from "./episodes.js";
import { Lanes, fromInput, toInput } from "./lanes.js";
import { announce, start } from "./shell.js";
import { Held, SourceTable } from "./source_table.js";
import * as address from "./url_state.js";

const DAY = 86400, GRID = 300;  // s: length of the lanes, and what their end is rounded up to
const ASKED = 1000, OLDER = 200, KEPT = 3000; // episodes of one answer, of older ones, and remembered
const BEFORE = 6 * 3600;         // s before a span from which on its episodes may have begun
const HOURS = [1, 3, 6, 12];     // fewer are shown where nothing happened before
const OPEN_MS = 30000;           // decisions of others are seen within so long
const POINTS = 240, CHART_MS = 20000;
const SHOW_MS = 250, TICK_MS = 10000;

const known = new Map(); // episode -> row
let user = { name: "", decides: false };
let sources = null;      // how many are known
let asked = read();      // what the address says
let topic = "raw-data";

if (location.hash.startsWith("#source=")) location.replace(`source?${location.hash.slice(1)}`); // links of older messages

function read() {
  const found = address.read(["search", "sort", "from", "to", "episode"]);
  const [from, to] = [fromInput(found.from), fromInput(found.to)];
  return { ...found, sort: found.sort || "score", span: from !== null && to !== null && from < to ? [from, to] : null };
}

// Changes the address and with it what is shown.
function go(changes, quiet = false) {
  address.write(changes, quiet);
  follow();
}

function follow() {
  const before = asked;
  asked = read();
  const [from, to] = asked.span ?? [null, null];
  for (const [id, text] of [["search", asked.search], ["sort", asked.sort], ["from", toInput(from)], ["to", toInput(to)]]) {
    if (document.activeElement !== el(id) && el(id).value !== text) el(id).value = text;
  }
  el("clear").hidden = !asked.span;
  if (before.search !== asked.search || before.sort !== asked.sort) list.load(asked.search, asked.sort).catch(shell.lost);
  if (before.episode !== asked.episode) {
    chosen.again = 0;
    chosen.box.replaceChildren();
    loadChosen().then(show).catch(shell.lost);
  }
  if (dayOf(Date.now() / 1000)[0] < loaded.from) loadDay().then(show).catch(shell.lost);
  show();
}

// --- episodes

const came = new Map(); // episode -> when its row came, ms
const loaded = { open: 0, from: Infinity, note: "" };

function take(rows) {
  for (const row of rows) {
    known.set(row.episode, row);
    came.set(row.episode, Date.now());
  }
  if (known.size <= KEPT) return;
  const old = [...known.values()].filter((row) => !isOpen(row)).sort((a, b) => untilOf(a) - untilOf(b)).slice(0, known.size - KEPT);
  for (const { episode } of old) forget(episode);
}

function forget(name) {
  known.delete(name);
  came.delete(name);
}

async function all(query) {
  const rows = [];
  let cursor = "";
  do {
    const found = await get(`api/anomalies?${new URLSearchParams({ ...query, limit: ASKED, ...(cursor ? { cursor } : {}) })}`);
    rows.push(...found.anomalies);
    cursor = found.cursor ?? "";
    loaded.note = found.note ?? "";
  } while (cursor && rows.length < KEPT);
  return rows;
}

async function loadOpen() {
  const began = Date.now(), rows = await all({ state: "open" }), there = new Set(rows.map((row) => row.episode));
  for (const row of known.values()) if (isOpen(row) && !there.has(row.episode) && came.get(row.episode) < began) forget(row.episode);
  take(rows);
  loaded.open = began;
}

// Those of the lanes: by their own times, and the last of those before, which may have come only now.
async function loadDay() {
  const [from, to] = dayOf(Date.now() / 1000);
  loaded.from = from;
  const rows = await all({ since: from - BEFORE, until: to + GRID });
  const { anomalies } = await get(`api/anomalies?${new URLSearchParams({ until: from - BEFORE, limit: OLDER })}`);
  take([...anomalies, ...rows]);
}

async function loadChosen() {
  const name = asked.episode;
  if (!name || known.has(name)) return;
  try {
    take([await get(`api/episodes/${encodeURIComponent(name)}`)]);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

function matching() {
  const needle = asked.search.toLowerCase(), rows = [...known.values()];
  return needle ? rows.filter((row) => `${row.source} ${row.metric ?? ""}`.toLowerCase().includes(needle)) : rows;
}

// {points, again}: those of its series, with some before it began, and in how many ms there may be others. What this
// process remembers is asked for first; what it has forgotten is read out of Kafka.
async function points(row) {
  if (!isOpen(row)) return kept(row);
  let found = [];
  try {
    found = (await get(`api/series?${new URLSearchParams({ source: row.source, metric: row.metric ?? "", limit: POINTS })}`)).points;
    if (found.length && found[0].timestamp <= row.opened_at) return { points: found, again: CHART_MS };
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  try {
    return await kept(row);
  } catch (error) {
    if (!found.length) throw error;
    return { points: found, again: 3 * CHART_MS }; // Kafka is read for few at a time
  }
}

async function kept(row) {
  const end = endOf(row, Date.now() / 1000), around = Math.max((end - row.opened_at) / 2, 300);
  const of = { source: row.source, metric: row.metric ?? "" }, span = { from: Math.max(row.opened_at - around, 0), to: end + around };
  const { results } = await get(`api/results?${new URLSearchParams({ ...of, ...span, most: POINTS })}`);
  return { points: results, again: 8 * CHART_MS };
}

const decide = new Decide(el("decide"), send, () => user.name);
const episodes = new EpisodeList(el("episodes"), el("more"), points, (kind, row) => decide.ask(kind, row));
const held = new Held(el("episodes"), () => showSoon());
episodes.may = () => user.decides;

// What somebody decided; what is returned shows it.
async function send(kind, row, said) {
  const now = known.get(row.episode) ?? row;
  if (kind === "end") {
    await remove(`api/silences/${encodeURIComponent(now.muted.silence)}`);
    take([{ ...now, muted: undefined }]);
  } else if (kind === "silence") {
    const { id, ends_at: until, by, comment } = await post("api/silences", said);
    take([{ ...now, muted: { silence: id, why: comment, until, by } }]);
  } else {
    const decided = await post(`api/episodes/${encodeURIComponent(row.episode)}/${kind === "acknowledge" ? "acknowledgement" : "feedback"}`, said);
    take([{ ...now, [kind === "acknowledge" ? "acknowledged" : "feedback"]: decided }]);
  }
  announce(`Saved: ${kind}, ${row.source}`);
  return () => show(true);
}

// --- the picture of a day

const lanes = new Lanes({ box: el("lanes"), readout: el("lanes-readout"), note: el("lanes-note") },
  (from, to) => go({ from: short(from), to: short(to) }), (row) => go({ episode: row.episode }));
const short = (at) => `${iso(at).slice(0, 16)}Z`;

const upTo = (at) => Math.ceil(at / GRID) * GRID;
const today = (now) => [upTo(now) - DAY, upTo(now)];

// The last 24 hours, or those around a span that is older.
function dayOf(now) {
  const [from, to] = today(now);
  if (!asked.span || asked.span[0] >= from) return [from, to];
  const until = upTo(Math.max(asked.span[1], asked.span[0] + DAY));
  return [Math.min(asked.span[0], until - DAY), Math.min(until, to)];
}

// [from, to, what to say] of the lanes: the last 24 hours, or as many as hold all that happened in them; where nothing
// is in them but in older ones, those before the last.
function windowOf(rows, now) {
  const [from, until] = dayOf(now);
  if (from !== today(now)[0]) return [from, until, until - from > DAY ? `${time(from)} to ${time(until)} UTC` : `24 hours until ${time(until)} UTC`];
  const places = rows.map((row) => placeOf(row, now)), within = places.filter(([, to]) => to >= from);
  if (rows.length && !within.length) {
    const last = upTo(Math.max(...places.map(([, to]) => to)));
    return [last - DAY, last, `24 hours until ${time(last)} UTC: nothing came later`];
  }
  const first = Math.min(asked.span?.[0] ?? until, ...within.map(([begin]) => begin));
  const hours = HOURS.find((n) => until - n * 3600 <= first) ?? 24;
  return [until - hours * 3600, until, hours === 24 ? "Last 24 hours" : hours === 1 ? "Last hour" : `Last ${hours} hours`];
}

// --- what is shown

let soon = null;
function showSoon() {
  soon ??= setTimeout(() => { soon = null; requestAnimationFrame(show); }, SHOW_MS);
}

// `decided`: entries are made again although somebody is in them.
function show(decided = false) {
  if (sources === null) return;
  const now = Date.now() / 1000, rows = matching(), open = rows.filter(isOpen);
  const { parts, behind } = headline(open);
  showHeadline(open.length ? parts : [["Nothing is open", ""]]);
  say(el("headline-note"), [asked.search ? `of names with “${asked.search}”` : "", ...behind].filter(Boolean).join(", "));
  if (decided === true || (!held.is && !el("decide").open) || !episodes.entries.size) episodes.show(open, now);
  showEmpty(rows, open, now);
  const [from, to, title] = windowOf(rows, now);
  say(el("lanes-title"), title);
  const there = lanes.show(rows, { from, to, now, span: asked.span, chosen: asked.episode, remark: loaded.note });
  el("lanes-empty").hidden = there > 0;
  say(el("lanes-empty"), there ? "" : asked.span ? "Nothing happened in this span." : "No episode in this time.");
  showChosen(now);
  el("main").setAttribute("aria-busy", "false");
}

function showHeadline(parts) {
  if (el("headline").textContent === parts.map(([text]) => text).join(", ")) return;
  el("headline").replaceChildren(...parts.flatMap(([text, kind], i) => [i ? ", " : "", h("span", { class: kind }, text)]));
}

function showEmpty(rows, open, now) {
  const box = el("no-episodes");
  box.hidden = open.length > 0;
  el("day").hidden = rows.length === 0 && !asked.span && !asked.search;
  if (open.length) return;
  if (sources === 0 && known.size === 0) return box.replaceChildren(...howToBegin());
  const last = rows.reduce((a, b) => (a && placeOf(a, now)[1] > placeOf(b, now)[1] ? a : b), null);
  box.replaceChildren(...(last
    ? [h("p", {}, "The last episode, of ", h("bdi", {}, last.source), `, ${isReplayed(last) ? "came" : "ended"} ${ago(placeOf(last, now)[1], now)}.`)]
    : [h("p", { class: "strong" }, "No anomalies yet"), h("p", {}, "An entry appears here when a source's alert score reaches its threshold.")]));
}

const ago = (at, now) => (now - at < 2 * DAY ? `${duration(Math.max(now - at, 0))} ago` : `at ${time(at)} UTC`);

function howToBegin() {
  return [
    h("p", { class: "strong" }, "No results yet"),
    h("p", {}, "Produce points to the topic ", h("code", {}, topic), ", with the source as the key:"),
    h("pre", {}, '{"source": "pump-7", "timestamp": "2023-10-27T09:37:40Z", "value": 45.2}'),
    h("p", {}, "or run ", h("code", {}, "faust-anomaly generate"), ". Sources appear here when they are scored."),
  ];
}

async function draw(row) {
  chosen.again = Infinity;
  try {
    const found = await points(row);
    drawChart(chosen.box, row, found.points);
    chosen.again = Date.now() + found.again;
  } catch (error) {
    noChart(chosen.box, error);
    chosen.again = Date.now() + CHART_MS;
  }
}

const chosen = { again: 0, text: "", box: h("a", { class: "small-chart", title: "To its chart" }) };

// The episode that somebody has chosen in the lanes.
function showChosen(now) {
  const row = known.get(asked.episode), box = el("chosen");
  box.hidden = !asked.episode;
  if (!asked.episode) return;
  const text = row ? JSON.stringify(row) + episodes.may() : asked.episode;
  if (text !== chosen.text) {
    chosen.text = text;
    const focus = box.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    el("chosen-entry").replaceChildren(row ? makeEntry(row, now, chosen.box, episodes.may() ? (kind) => decide.ask(kind, row) : null)
      : h("p", { class: "empty" }, `Nothing is known of the episode ${asked.episode} here.`));
    if (focus) el("chosen-entry").querySelector(`[data-does="${focus}"]`)?.focus();
  }
  if (row && Date.now() > chosen.again) draw(row);
}

// --- sources, and all together

const list = new SourceTable({ table: el("table"), body: el("rows"), note: el("sources-note"), empty: el("no-sources") }, get, howToBegin);

async function load(everything) {
  const jobs = [list.load(asked.search, asked.sort)];
  if (everything || Date.now() - loaded.open > OPEN_MS) jobs.push(loadOpen());
  if (everything) jobs.push(loadDay());
  [sources] = await Promise.all(jobs);
  await loadChosen();
  show();
}

function receive(message) {
  if (message.type === "sources") list.add(message.sources);
  else if (message.type === "anomalies") {
    for (const row of message.anomalies) {
      if (!known.has(row.episode) && isOpen(row)) announce(`Episode opened: ${[row.source, row.metric, severity(row.severity)].filter(Boolean).join(", ")}`);
    }
    take(message.anomalies.map((row) => joined(known.get(row.episode), row)));
    showSoon();
  } else if (message.type === "decided") {
    for (const { episode, ...said } of message.decided ?? []) if (known.has(episode)) take([{ ...known.get(episode), ...said }]);
    if (message.silences) loadOpen().then(showSoon, shell.lost); // the server knows which they fit
    else showSoon();
  } else if (message.type === "reset") Promise.all([loadOpen(), loadDay()]).then(showSoon, shell.lost);
}

// What comes is of what this process has read lately; the history may have said more before.
function joined(before, row) {
  if (!before) return row;
  const { acknowledged, feedback, muted, ...others } = before;
  const words = new Map([...(before.told ?? []), ...(row.told ?? [])].sort((a, b) => a.at - b.at).map((word) => [word.channel, word]));
  return { ...others, ...row, told: [...words.values()] };
}

function wire() {
  let typing = null;
  el("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => go({ search: el("search").value }, true), 150); });
  el("sort").addEventListener("change", () => go({ sort: el("sort").value === "score" ? "" : el("sort").value }));
  for (const id of ["from", "to"]) {
    el(id).addEventListener("change", () => {
      const [from, to] = [fromInput(el("from").value), fromInput(el("to").value)];
      const wrong = from !== null && to !== null && from >= to;
      el("to").setCustomValidity(wrong ? "It must be after the first time." : "");
      if (wrong) el("to").reportValidity();
      else if (from !== null && to !== null) go({ from: short(from), to: short(to) });
    });
  }
  el("clear").addEventListener("click", () => { el("from").focus(); go({ from: "", to: "" }); });
  el("lanes").addEventListener("click", (event) => {
    const bar = event.target.closest(".bar");
    if (bar) go({ episode: bar.dataset.episode === asked.episode ? "" : bar.dataset.episode });
  });
  el("close").addEventListener("click", () => {
    const name = asked.episode;
    go({ episode: "" });
    (lanes.bars.get(name) ?? el("headline")).focus();
  });
  addEventListener("popstate", follow);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) { event.preventDefault(); el("search").focus(); }
    else if (event.key === "Escape" && asked.episode && !event.target.closest("dialog, input, details")) el("close").click();
  });
  new ResizeObserver(() => { if (sources !== null) lanes.drawTicks(); }).observe(el("lanes"));
  setInterval(() => { if (!document.hidden) show(); }, TICK_MS);
}

wire();
const shell = start({
  page: "now",
  title: () => { const { open } = counts([...known.values()].filter(isOpen)); return open ? `(${open})` : ""; },
  load,
  receive,
  statistics: (found) => { topic = found.input_topic; },
});
follow();
session().then((found) => { user = found; show(); }, () => {});
