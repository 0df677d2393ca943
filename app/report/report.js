// The report: counts at any threshold, and charts of one source for each configuration.

import { clamp, clock, label, line, range, round, scale, spread, ticks } from "./axes.js";
import { count, duration, el, h, iso, number, say, score, svg } from "./dom.js";

const FULL = 1e6; // of a score of 1 in the data
const TOP = 8, BOTTOM = 20, RIGHT = 12, ROW = 9, STRIP = 56;
const DATED = 1e8; // times below it, in seconds, are numbers of rows or of a clock of their own

let report = null, tracks = [], labelled = false;
const thresholds = []; // of each configuration: null as configured, else what the slider says
const tallies = [];    // of each configuration, of each track
const shown = { track: null, metric: 0, from: 0, to: 0, cursor: null };

// --- data

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function prepare(track, place) {
  let now = 0;
  const time = Float64Array.from(track.steps, (step) => (now += step) / 1000), n = time.length;
  const marked = (runs) => {
    const marks = new Uint8Array(n);
    for (const [start, stop] of runs) marks.fill(1, start, stop);
    return marks;
  };
  const label = marked(track.windows ?? []);
  // Charts go by event time, late points where they belong; counts go by order of arrival.
  const order = Uint32Array.from(time, (_, i) => i);
  if (time.some((t, i) => i > 0 && t < time[i - 1])) order.sort((a, b) => time[a] - time[b] || a - b);
  const sorted = Float64Array.from(order, (i) => time[i]);
  const gaps = Float64Array.from(sorted.subarray(1), (t, i) => t - sorted[i]).sort();
  const runs = track.runs.map((run) => ({ ...run, repeat: marked(run.repeat), lasts: marked(run.lasts) }));
  return { ...track, runs, place, n, time, label, order, sorted, usual: gaps[gaps.length >> 1] ?? 0, dated: sorted[n - 1] >= DATED };
}

// --- counts, as app/evaluation.py says

// Episodes of a track as they would be with another threshold, as app/episodes.py says: one opens where the alert score
// reaches it, and ends after closePoints points in a row that are below it, whose anomaly score is below its part of it,
// and of which no detector says that the episode lasts. What a detector learns does not depend on the threshold.
function episodesAt(run, threshold) {
  if (threshold === null) return run.episodes;
  const { score, closePoints, repeat, lasts } = run, alert = run.alert ?? score, found = [];
  const reach = Math.round(threshold * FULL), end = (run.closeBelow / run.threshold) * reach;
  let open = -1, below = 0;
  for (let i = 0; i < score.length; i++) {
    if (repeat[i]) continue;
    if (open >= 0) {
      below = score[i] < end && alert[i] < reach && !lasts[i] ? below + 1 : 0;
      if (below >= closePoints) { found.push([open, i, ""]); open = -1; }
    } else if (alert[i] >= reach) {
      open = i;
      below = 0;
    }
  }
  if (open >= 0) found.push([open, score.length, ""]);
  const said = new Map(run.episodes.map(([start, , text]) => [start, text]));
  for (const one of found) one[2] = said.get(one[0]) ?? "";
  return found;
}

const NOTHING = {
  episodes: 0, inside: 0, total: 0, points: 0, labelled: 0, windows: 0, hit: 0, alerts: 0, falseAlerts: 0, right: 0, wrong: 0,
  delayPoints: 0, delaySeconds: 0, dated: 0,
};

function tally(track, episodes) {
  const found = { ...NOTHING, episodes: episodes.length, total: track.n, dated: track.dated ? 1 : 0 };
  for (const [start, stop] of episodes) found.inside += stop - start;
  if (track.windows === null) return found;
  const { first, label } = track;
  found.points = Math.max(track.n - first, 0);
  for (let i = first; i < track.n; i++) found.labelled += label[i];
  for (const [start, stop] of episodes) {
    for (let i = Math.max(start, first); i < stop; i++) label[i] ? found.right++ : found.wrong++;
    if (start < first) continue;
    found.alerts++;
    if (!label[start]) found.falseAlerts++;
  }
  for (const [start, stop] of track.windows) {
    if (stop <= first) continue;
    const begin = Math.max(start, first), alert = firstAlert(episodes, begin, stop);
    found.windows++;
    if (alert === null) continue;
    found.hit++;
    found.delayPoints += alert - begin;
    found.delaySeconds += track.time[alert] - track.time[begin];
  }
  return found;
}

function firstAlert(episodes, begin, stop) {
  let low = 0, high = episodes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (episodes[middle][0] < begin) low = middle + 1;
    else high = middle;
  }
  return low < episodes.length && episodes[low][0] < stop ? episodes[low][0] : null;
}

function sum(all) {
  const found = { ...NOTHING };
  for (const one of all) for (const name in found) found[name] += one[name];
  return found;
}

function measure(configuration) {
  tallies[configuration] = tracks.map((track) => tally(track, episodesAt(track.runs[configuration], thresholds[configuration])));
}

const share = (part, whole) => (whole > 0 ? part / whole : null);
const three = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
const perThousand = (value) => (typeof value === "number" ? value.toFixed(value < 9.995 ? 2 : 1) : "–");
const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)} %` : "–");

// [id, name, text, remark, explanation] of what there is to say of counts; of one track's, if it is labelled.
function told(found, fixed, track) {
  const facts = [
    ["episodes", "Episodes", count(found.episodes), "", "In all of the series"],
    ["inside", "Points in them", count(found.inside), percent(share(found.inside, found.total)), "In all of the series"],
  ];
  if (!labelled || track?.windows === null) return facts;
  const normal = found.points - found.labelled, delay = share(found.delayPoints, found.hit);
  facts.push(
    ["hit", "Windows hit", `${count(found.hit)} of ${count(found.windows)}`, "", "Labelled windows in which an episode starts"],
    ["delay", "Delay", delay === null ? "–" : `${number(Math.round(delay * 10) / 10)}`, delay === null ? "" : found.dated ? `points, ${duration(found.delaySeconds / found.hit)}` : "points",
      "From a window's first point to the first start of an episode in it; mean of the windows hit"],
    ["false", "False alerts", perThousand(share(1000 * found.falseAlerts, normal)), "per 1000", "Episodes that start outside windows, for 1000 points outside windows"],
    ["rate", "False-alarm rate", percent(share(found.wrong, normal)), "", "Share of the points outside windows that are in an episode"],
    ["precision", "Precision", three(share(found.right, found.right + found.wrong)), "", "Share of the points in episodes that are labelled"],
    ["recall", "Recall", three(share(found.right, found.labelled)), "", "Share of the labelled points that are in an episode"],
    ["f1", "F1", three(share(2 * found.right, found.right + found.wrong + found.labelled)), "", "Of precision and recall, by points"],
  );
  if (fixed) facts.push(
    ["best", "Best F1", three(fixed.best_f1), "", `Of points, by anomaly score at the best threshold (${score(fixed.best_threshold)})`],
    ["ap", "Average precision", three(fixed.average_precision), "", "Of the anomaly score, by points; mean of the sources that have labels"],
  );
  return facts;
}

// --- configurations

function showConfigurations() {
  el("configurations").replaceChildren(...report.configurations.map(({ name }, i) => {
    const at = tracks.length ? tracks[0].runs[i].threshold : 0.8;
    const slider = h("input", { type: "range", min: 0.001, max: 1, step: 0.001, value: at, "aria-label": `Threshold of ${name}` });
    const field = h("input", { type: "number", min: 0.001, max: 1, step: 0.001, value: at, "aria-label": `Threshold of ${name}, as a number` });
    const back = h("button", { type: "button", title: "As configured", disabled: "" }, "Reset");
    const move = (value) => {
      thresholds[i] = value;
      back.disabled = value === null;
      slider.value = field.value = value ?? at;
      plan(i);
    };
    slider.addEventListener("input", () => move(Number(slider.value)));
    field.addEventListener("change", () => move(field.value === "" ? null : clamp(Number(field.value), 0.001, 1)));
    back.addEventListener("click", () => move(null));
    return h("article", { class: "configuration" },
      h("div", {}, h("h2", { title: name }, h("bdi", {}, name)),
        h("div", { class: "threshold-of" }, h("span", { class: "quiet" }, "threshold"), slider, field, back)),
      h("dl", { id: `figures-${i}` }));
  }));
  report.configurations.forEach((_, i) => showFigures(i));
}

function showFigures(configuration) {
  const facts = told(sum(tallies[configuration]), report.configurations[configuration].figures);
  el(`figures-${configuration}`).replaceChildren(...facts.map(([id, name, text, remark, why]) =>
    h("div", { title: why }, h("dt", {}, name), h("dd", { "data-figure": id }, text, remark ? h("small", {}, ` ${remark}`) : null))));
}

const planned = new Set();
function plan(configuration) {
  if (planned.size === 0) requestAnimationFrame(() => {
    for (const one of planned) {
      measure(one);
      showFigures(one);
    }
    planned.clear();
    fillRows();
    drawAll();
  });
  planned.add(configuration);
}

// --- index of sources

const orders = {
  read: ["as read", (a, b) => a.place - b.place],
  name: ["by name", (a, b) => (a.source < b.source ? -1 : a.source > b.source ? 1 : a.place - b.place)],
  episodes: ["most episodes", (a, b) => most(b, "episodes") - most(a, "episodes") || a.place - b.place],
  false: ["most false alerts", (a, b) => most(b, "falseAlerts") - most(a, "falseAlerts") || a.place - b.place],
  missed: ["most missed", (a, b) => missed(b) - missed(a) || a.place - b.place],
};
const most = (track, name) => Math.max(...tallies.map((of) => of[track.place][name]));
const missed = (track) => Math.max(...tallies.map((of) => of[track.place].windows - of[track.place].hit));

function heads() {
  const single = report.configurations.length === 1;
  if (!labelled) return report.configurations.map(({ name }) => [single ? "episodes" : name, "Episodes", (t) => count(t.episodes)]);
  if (single) return [
    ["hit", "Windows hit, of all", hits],
    ["false", "False alerts", (t) => count(t.falseAlerts)],
    ["F1", "F1 of points", (t) => three(share(2 * t.right, t.right + t.wrong + t.labelled))],
  ];
  return report.configurations.map(({ name }) => [name, `${name}: windows hit, of all; and false alerts`, (t) => `${hits(t)}, ${count(t.falseAlerts)}`]);
}

const hits = (t) => (t.windows ? `${t.hit}/${t.windows}` : "–");

function showIndex() {
  const single = report.configurations.length === 1;
  el("heads").replaceChildren(h("th", { scope: "col" }, "Source"),
    ...heads().map(([name, why]) => h("th", { scope: "col", class: "figure", title: why }, name)));
  const names = Object.entries(orders).filter(([key]) => labelled || !["false", "missed"].includes(key));
  el("sort").replaceChildren(...names.map(([key, [text]]) => h("option", { value: key }, text)));
  document.querySelector(".sources").style.setProperty("--wide", single ? "62px" : "92px");
  say(el("sources-note"), single || !labelled ? "" : "windows hit, of all; and false alerts");
  fillRows();
}

function fillRows() {
  const wanted = el("search").value.toLowerCase();
  const found = tracks.filter((track) => `${track.source}\n${track.file}`.toLowerCase().includes(wanted)).sort(orders[el("sort").value][1]);
  const single = report.configurations.length === 1, columns = heads();
  const held = el("rows").contains(document.activeElement) ? document.activeElement.dataset.place : null;
  el("rows").replaceChildren(...found.map((track) => {
    const link = h("a", { href: `#${track.place}`, title: `${track.source}\n${track.file}`, "data-place": track.place }, h("bdi", {}, track.source));
    const row = h("tr", { class: track === shown.track ? "chosen" : "" },
      h("th", { scope: "row" }, link, track.folder ? h("span", { class: "file" }, track.folder) : null),
      ...columns.map(([, , text], i) => h("td", { class: "figure" }, track.windows === null && labelled ? "–" : text(tallies[single ? 0 : i][track.place]))));
    row.addEventListener("click", (event) => { if (!event.target.closest("a")) location.hash = link.hash; });
    return row;
  }));
  if (held !== null) el("rows").querySelector(`[data-place="${held}"]`)?.focus({ preventScroll: true });
}

// Where sources of several files have one name, the part of the path that tells them apart.
function tellApart() {
  const files = [...new Set(tracks.map((track) => track.file))].map((file) => file.split("/")), named = new Map();
  for (const { source } of tracks) named.set(source, (named.get(source) ?? 0) + 1);
  let same = 0;
  while (files.length > 1 && files.every((parts) => parts.length > same + 1 && parts[same] === files[0][same])) same++;
  for (const track of tracks) {
    const own = track.file.split("/").slice(same), repeats = own.at(-1).replace(/\.[^.]*$/, "") === track.source;
    track.folder = named.get(track.source) < 2 ? "" : own.slice(0, repeats ? -1 : undefined).join("/");
  }
}

// --- one source

function choose(track) {
  if (!track) return;
  Object.assign(shown, { track, metric: 0, cursor: null });
  showAll();
  el("detail-name").replaceChildren(h("bdi", {}, track.source));
  el("detail-name").title = `${track.source}\n${track.file}`;
  const buttons = track.metrics.length < 2 ? [] : track.metrics.map(({ name }, i) => {
    const button = h("button", { type: "button", title: name, "aria-pressed": i === 0 }, h("bdi", {}, name));
    button.addEventListener("click", () => {
      shown.metric = i;
      buttons.forEach((one, k) => one.setAttribute("aria-pressed", k === i));
      drawAll();
    });
    return button;
  });
  el("metrics").replaceChildren(...buttons);
  for (const row of el("rows").children) row.classList.toggle("chosen", row.querySelector("a").dataset.place === String(track.place));
  el("charts").replaceChildren(...report.configurations.map(({ name }, i) => h("div", { class: "run", "data-run": i },
    h("div", { class: "about" }, report.configurations.length > 1 ? h("h2", {}, h("bdi", {}, name)) : null, h("p", { class: "facts" })),
    h("div", { class: "chart" }), h("details", report.configurations.length === 1 ? { open: "" } : {}, h("summary"), h("div", { class: "list" })))));
  for (const box of el("charts").querySelectorAll(".chart")) listen(box);
  drawAll();
}

function showAll() {
  const { sorted, n, usual } = shown.track;
  [shown.from, shown.to] = spread(sorted[0], sorted[n - 1], usual || 1);
}

function zoom(from, to) {
  const { sorted, n, usual } = shown.track;
  const [least, last] = spread(sorted[0], sorted[n - 1], usual || 1);
  const length = clamp(to - from, Math.min(usual * 4 || 1e-3, last - least), last - least);
  shown.from = clamp((from + to - length) / 2, least, last - length);
  shown.to = shown.from + length;
  drawAll();
}

function shift(by, times) {
  const length = shown.to - shown.from, middle = (shown.from + shown.to) / 2 + by * length;
  zoom(middle - (length * times) / 2, middle + (length * times) / 2);
}

const moment = (t) => (shown.track.dated ? iso(t).replace("T", " ").replace(/(\.000)?Z$/, "") : number(t));

// First place in sorted times that is not before t.
function reach(sorted, t) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

const drawn = []; // of each chart what the cursor needs

function drawAll() {
  if (!shown.track) return;
  for (const node of el("charts").children) draw(node, Number(node.dataset.run));
  point(shown.cursor);
}

// What a chart's pixels show: of each the first, lowest, highest and last value, the widest band, the highest scores.
function pixels(track, run, states, x) {
  const values = track.metrics[shown.metric].values, band = run.bands[shown.metric], alert = run.alert ?? run.score;
  const low = Math.max(reach(track.sorted, shown.from) - 1, 0), high = Math.min(reach(track.sorted, shown.to + 1e-9) + 1, track.n);
  const found = [];
  let now = null;
  for (let k = low; k < high; k++) {
    const i = track.order[k], at = x(track.sorted[k]), column = Math.floor(at), value = values[i];
    if (now === null || now.column !== column) {
      now = { column, at, first: null, last: null, least: null, most: null, lower: null, upper: null, score: 0, alert: 0, mark: null, broken: false };
      now.broken = k > low && track.usual > 0 && track.sorted[k] - track.sorted[k - 1] > 10 * track.usual;
      found.push(now);
    }
    if (run.score[i] > now.score) now.score = run.score[i];
    if (alert[i] > now.alert) now.alert = alert[i];
    if (value === null) continue;
    now.first ??= k;
    now.last = k;
    if (now.least === null || value < values[track.order[now.least]]) now.least = k;
    if (now.most === null || value > values[track.order[now.most]]) now.most = k;
    if (band && band[0][i] !== null) {
      now.lower = now.lower === null ? band[0][i] : Math.min(now.lower, band[0][i]);
      now.upper = now.upper === null ? band[1][i] : Math.max(now.upper, band[1][i]);
    }
    const better = states[i] && (now.mark === null || states[i] > states[now.mark] || (states[i] === states[now.mark] && run.score[i] > run.score[now.mark]));
    if (better) now.mark = i;
  }
  return found;
}

// By point: 0 not in an episode; in one 1, labelled 2; where one starts 3 and 4.
function statesOf(track, episodes) {
  const states = new Uint8Array(track.n);
  for (const [start, stop] of episodes) {
    for (let i = start; i < stop; i++) states[i] = track.windows === null || track.label[i] ? 2 : 1;
    states[start] += 2;
  }
  return states;
}

function draw(node, configuration) {
  const { track } = shown, run = track.runs[configuration], box = node.querySelector(".chart");
  const episodes = episodesAt(run, thresholds[configuration]), states = statesOf(track, episodes);
  node.querySelector(".facts").replaceChildren(...told(tally(track, episodes), null, track).map(([, name, text, remark, why]) =>
    h("span", { title: why }, `${name} `, h("b", {}, text), remark ? ` ${remark}` : "")));
  list(node, track, run, episodes);
  const width = Math.floor(box.clientWidth);
  if (width < 120) return;
  const height = report.configurations.length > 1 ? 190 : 250, values = track.metrics[shown.metric].values;
  let left = 60;
  const measured = pixels(track, run, states, scale(shown.from, shown.to, left, width - RIGHT)).filter(({ first }) => first !== null);
  const valueAt = (k) => values[track.order[k]];
  const extremes = measured.flatMap(({ least, most }) => [valueAt(least), valueAt(most)]);
  if (extremes.length === 0) extremes.push(0);
  const [low, high] = range(extremes, measured.map((p) => p.lower), measured.map((p) => p.upper));
  const levels = ticks(low, high, 5).map((tick) => [tick, number(tick)]);
  left = Math.max(...levels.map(([, text]) => text.length), 7) * 6.5 + 18;
  const x = scale(shown.from, shown.to, left, width - RIGHT), y = scale(low, high, height - BOTTOM, TOP);
  const columns = pixels(track, run, states, x);
  const rows = track.windows === null ? 1 : 2, strips = height + 4, above = strips + rows * (ROW + 3) + 14, zero = above + STRIP;
  const s = scale(0, FULL, zero, above);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${zero + BOTTOM}`, width, height: zero + BOTTOM, role: "img", tabindex: 0,
    "aria-label": `${track.source}: ${count(track.n)} points, ${count(episodes.length)} episodes. Arrow keys read points.` });
  const bar = (kind, from, to, top, size, title) => {
    const a = clamp(x(from), left, width - RIGHT), b = clamp(x(to), left, width - RIGHT);
    if (to < shown.from || from > shown.to) return;
    picture.append(svg("rect", { class: kind, x: round(a - (b - a < 2 ? 1 : 0)), width: round(Math.max(b - a, 2)), y: top, height: size }, title ? svg("title", {}, title) : null));
  };
  const span = ([start, stop]) => [track.time[start], track.time[stop - 1]];
  if (track.windows !== null && track.first > 0 && track.first <= track.n) bar("early", track.sorted[0], track.time[track.first - 1], TOP, height - BOTTOM - TOP, "first points, not counted");
  for (const [tick, text] of levels) picture.append(line("grid", left, width - RIGHT, y(tick), y(tick)), label(left - 6, y(tick) + 4, text, "end"));
  const times = track.dated ? clock(shown.from, shown.to, width - left) : ticks(shown.from, shown.to, Math.max((width - left) / 110, 2)).map((t) => [t, number(t)]);
  for (const [tick, text] of times) {
    picture.append(line("grid", x(tick), x(tick), TOP, height - BOTTOM), line("grid", x(tick), x(tick), above, zero),
      label(clamp(x(tick), left, width - 4 - text.length * 3.3), height - 5, text, "middle"));
  }
  const clip = `clip-${configuration}`, cut = { "clip-path": `url(#${clip})` };
  picture.append(svg("clipPath", { id: clip }, svg("rect", { x: left, y: 0, width: width - RIGHT - left, height: zero + 1 })));
  picture.append(svg("path", { class: "band", d: area(columns, y, height), ...cut }));
  for (const one of track.windows ?? []) bar("window", ...span(one), TOP, height - BOTTOM - TOP);
  picture.append(svg("path", { class: "value", d: path(columns, track, values, x, y), ...cut }));
  if (columns.length <= 60) picture.append(...columns.filter(({ first }) => first !== null).map((p) =>
    svg("circle", { class: "dot", cx: round(p.at), cy: round(y(valueAt(p.first))), r: 1.8, ...cut })));
  const size = columns.filter(({ mark }) => mark !== null).length * 8 > width ? 0.6 : 1; // not to hide the line
  for (const { mark } of columns) {
    if (mark === null || track.time[mark] < shown.from || track.time[mark] > shown.to) continue;
    const state = states[mark];
    picture.append(svg("circle", { class: state % 2 ? "mark false" : "mark", cx: round(x(track.time[mark])), cy: round(y(values[mark])), r: size * (state > 2 ? 4.2 : 2.8) }));
  }
  let top = strips;
  if (track.windows !== null) {
    picture.append(label(left - 6, top + 8, "labelled", "end"));
    for (const one of track.windows) bar(`window-bar${firstAlert(episodes, ...one) === null ? " missed" : ""}`, ...span(one), top, ROW, `labelled, ${firstAlert(episodes, ...one) === null ? "missed" : "hit"}`);
    top += ROW + 3;
  }
  picture.append(label(left - 6, top + 8, "episodes", "end"));
  for (const one of episodes) bar(`episode-bar${states[one[0]] % 2 ? " false" : ""}`, ...span(one), top, ROW);
  const reached = Math.round((thresholds[configuration] ?? run.threshold) * FULL);
  const thick = round(clamp(((width - left) / columns.length) * 0.6, 1, 5)), bars = { hill: "", calm: "", over: "" };
  for (const p of columns) {
    const d = (level) => `M${thick > 1 ? round(p.at) : p.column + 0.5} ${zero}V${round(s(level))}`;
    bars.hill += d(p.score);
    if (p.alert >= reached) bars.over += d(p.alert);
    else if (run.alert && p.alert > 0) bars.calm += d(p.alert);
  }
  picture.append(label(left, above - 3, run.alert ? "anomaly score, and as bars the alert score" : "anomaly score", "start"),
    line("grid", left, width - RIGHT, above, above), line("grid", left, width - RIGHT, zero, zero), label(left - 6, zero + 4, "0", "end"),
    ...Object.entries(bars).map(([kind, d]) => svg("path", { class: `bars ${kind}`, d, "stroke-width": thick, ...cut })),
    line("threshold", left, width - RIGHT, s(reached), s(reached)), label(left - 6, s(reached) + 4, number(reached / FULL), "end"));
  const hair = line("hair", 0, 0, TOP, zero), ring = svg("circle", { class: "ring", r: 5.5 }), selection = svg("rect", { class: "selection", y: TOP, height: zero - TOP, width: 0 });
  picture.append(hair, ring, selection);
  const focused = box.contains(document.activeElement);
  box.replaceChildren(picture);
  if (focused) picture.focus({ preventScroll: true });
  drawn[configuration] = { x, y, left, right: width - RIGHT, hair, ring, selection, values, states };
}

// A gap in time much longer than usual breaks the line: nothing is known about what lies between.
function path(columns, track, values, x, y) {
  let d = "";
  for (const p of columns) {
    if (p.first === null) continue;
    const corners = [...new Set([p.first, Math.min(p.least, p.most), Math.max(p.least, p.most), p.last])];
    corners.forEach((k, i) => {
      d += `${d === "" || (i === 0 && p.broken) ? "M" : "L"}${round(x(track.sorted[k]))} ${round(y(values[track.order[k]]))}`;
    });
  }
  return d;
}

// Runs of pixels that have a band, each as one closed shape.
function area(columns, y, height) {
  let d = "", there = [], back = [];
  const close = () => {
    if (there.length) d += `M${there.join("L")}L${back.reverse().join("L")}Z`;
    there = [];
    back = [];
  };
  for (const p of columns) {
    if (p.first === null) continue;
    if (p.lower === null || p.broken) close();
    if (p.lower === null) continue;
    for (const at of [round(p.at), round(p.at + 0.6)]) {
      there.push(`${at} ${round(clamp(y(p.upper), 0, height - BOTTOM))}`);
      back.push(`${at} ${round(clamp(y(p.lower), 0, height - BOTTOM))}`);
    }
  }
  close();
  return d;
}

// --- list of episodes, and of windows without one

const LISTED = 200;

function list(node, track, run, episodes) {
  const alert = run.alert ?? run.score;
  const rows = episodes.map(([start, stop, why]) => {
    let peak = 0;
    for (let i = start; i < stop; i++) if (alert[i] > peak) peak = alert[i];
    return { start, stop, peak, why, what: track.windows === null ? "episode" : track.label[start] ? "right" : "false" };
  });
  const lost = (track.windows ?? []).filter(([start, stop]) => stop > track.first && firstAlert(episodes, Math.max(start, track.first), stop) === null);
  rows.push(...lost.map(([start, stop]) => ({ start, stop, peak: null, why: "no episode starts in this window", what: "missed" })));
  rows.sort((a, b) => a.start - b.start);
  const missing = lost.length ? `, ${count(lost.length)} missed ${lost.length === 1 ? "window" : "windows"}` : "";
  say(node.querySelector("summary"), `${count(episodes.length)} ${episodes.length === 1 ? "episode" : "episodes"}${missing}`);
  node.querySelector(".list").replaceChildren(rows.length === 0 ? "" : h("table", {},
    h("colgroup", {}, ...["when", "what", "long", "peak", "why"].map((kind) => h("col", { class: kind }))),
    h("tbody", {}, ...rows.slice(0, LISTED).map((row) => {
      const begin = track.time[row.start], end = track.time[row.stop - 1];
      const line = h("tr", { tabindex: 0 }, h("td", {}, moment(begin)), h("td", {}, row.what),
        h("td", { class: "number" }, `${count(row.stop - row.start)} ${row.stop - row.start === 1 ? "point" : "points"}`),
        h("td", { class: "number" }, row.peak === null ? "" : score(row.peak / FULL)), h("td", { class: "why" }, row.why));
      const margin = Math.max(2 * (end - begin), 60 * track.usual);
      const look = () => zoom(begin - margin, end + margin);
      line.addEventListener("click", look);
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") look(); });
      return line;
    }))), rows.length > LISTED ? h("p", { class: "note" }, `and ${count(rows.length - LISTED)} more`) : "");
}

// --- the pointer and the keyboard

function listen(box) {
  const configuration = Number(box.parentNode.dataset.run);
  let from = null;
  const at = (event) => event.clientX - box.getBoundingClientRect().left;
  const time = (px) => {
    const { left, right } = drawn[configuration];
    return shown.from + ((clamp(px, left, right) - left) / (right - left)) * (shown.to - shown.from);
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !drawn[configuration]) return;
    from = at(event);
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (!drawn[configuration]) return;
    const { selection, left, right } = drawn[configuration], now = at(event);
    if (from === null) return point(closest(time(now)));
    const [a, b] = [from, now].map((px) => clamp(px, left, right)).sort((p, q) => p - q);
    selection.setAttribute("x", a);
    selection.setAttribute("width", b - a);
  });
  box.addEventListener("pointerup", (event) => {
    const begin = from, end = at(event);
    from = null;
    if (begin === null) return;
    drawn[configuration].selection.setAttribute("width", 0);
    if (Math.abs(end - begin) > 5) zoom(...[time(begin), time(end)].sort((a, b) => a - b));
  });
  box.addEventListener("pointercancel", () => { from = null; });
  box.addEventListener("pointerleave", () => { if (from === null) point(null); });
  box.addEventListener("dblclick", () => { showAll(); drawAll(); });
  box.addEventListener("keydown", (event) => {
    const last = shown.track.n - 1, low = reach(shown.track.sorted, shown.from), high = Math.min(reach(shown.track.sorted, shown.to + 1e-9) - 1, last);
    const now = shown.cursor ?? high;
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: low, End: high }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    point(clamp(next, low, high));
  });
}

// Place, in order of time, of the point that is closest to a time.
function closest(t) {
  const { sorted, n } = shown.track, k = clamp(reach(sorted, t), 0, n - 1);
  return k > 0 && t - sorted[k - 1] < sorted[k] - t ? k - 1 : k;
}

function point(cursor) {
  const { track } = shown;
  shown.cursor = cursor;
  if (!track) return;
  const on = cursor !== null && track.sorted[cursor] >= shown.from && track.sorted[cursor] <= shown.to;
  const i = on ? track.order[cursor] : null;
  for (const one of drawn) {
    one.hair.classList.toggle("on", on);
    one.ring.classList.toggle("on", on && one.values[i] !== null);
    if (!on) continue;
    const at = round(one.x(track.time[i]));
    one.hair.setAttribute("x1", at);
    one.hair.setAttribute("x2", at);
    one.ring.setAttribute("cx", at);
    one.ring.setAttribute("cy", one.values[i] === null ? 0 : round(one.y(one.values[i])));
  }
  if (!on) return say(el("readout"), `${moment(shown.from)} to ${moment(shown.to)}${track.dated ? " UTC" : ""}`);
  const metric = track.metrics[shown.metric], parts = [moment(track.time[i]), `${metric.name} ${number(metric.values[i])}`];
  track.runs.forEach((run, k) => {
    const band = run.bands[shown.metric], name = track.runs.length > 1 ? `${report.configurations[k].name}: ` : "";
    const facts = [`score ${score(run.score[i] / FULL)}`];
    if (run.alert) facts.push(`alert ${score(run.alert[i] / FULL)}`);
    if (band && band[0][i] !== null) facts.unshift(`expected ${number(band[0][i])} to ${number(band[1][i])}`);
    if (i < run.ready) facts.push("warming up");
    else if (drawn[k]?.states[i]) facts.push("in an episode");
    parts.push(name + facts.join(", "));
  });
  if (track.windows !== null && track.label[i]) parts.push("labelled");
  say(el("readout"), parts.join("   "));
}

// --- begin

function showSummary() {
  const windows = tracks.reduce((all, track) => all + (track.windows?.length ?? 0), 0);
  const facts = [
    ["Files", count(new Set(tracks.map((track) => track.file)).size)], ["Sources", count(tracks.length)],
    ["Points", count(tracks.reduce((all, track) => all + track.n, 0))], ["Labelled windows", labelled ? count(windows) : "none"],
  ];
  el("summary").replaceChildren(...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
}

async function begin() {
  report = await unpacked(el("data").textContent.trim());
  tracks = report.tracks.map(prepare);
  labelled = tracks.some((track) => track.windows !== null);
  document.body.classList.toggle("unlabelled", !labelled);
  for (const node of document.querySelectorAll(".legend .labelled")) node.hidden = !labelled;
  report.configurations.forEach((_, i) => {
    thresholds[i] = null;
    measure(i);
  });
  tellApart();
  showSummary();
  showConfigurations();
  showIndex();
  el("search").addEventListener("input", fillRows);
  el("sort").addEventListener("change", fillRows);
  el("earlier").addEventListener("click", () => shift(-0.5, 1));
  el("later").addEventListener("click", () => shift(0.5, 1));
  el("closer").addEventListener("click", () => shift(0, 0.5));
  el("wider").addEventListener("click", () => shift(0, 2));
  el("whole").addEventListener("click", () => { showAll(); drawAll(); });
  const route = () => choose(tracks[Number(location.hash.slice(1))] ?? tracks[0]);
  window.addEventListener("hashchange", route);
  new ResizeObserver(() => requestAnimationFrame(drawAll)).observe(el("charts"));
  if (tracks.length === 0) say(el("problem"), "No points were scored.");
  route();
}

begin().catch((error) => say(el("problem"), `This browser cannot show the report: ${error.message}`));
