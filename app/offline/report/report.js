// The report: an index of sources, a slider and counts for each configuration, charts of the source that is chosen.

import { clamp, spread } from "./axes.js";
import { FULL, episodesAt, fateOf, prepare, reach, sum, tally, unpacked } from "./counts.js";
import { count, duration, el, h, iso, nameOf, number, rough, say, score, titleOf } from "./dom.js";
import { Plot } from "./plot.js";

let report = null, allSeries = [], labelled = false;
const thresholds = []; // of each configuration: null as configured, else what the slider says
const tallies = [];    // of each configuration, of each series
const shown = { series: null, metric: 0, from: 0, to: 0, cursor: null };
const plots = [];      // of each configuration

// --- figures

function measure(configuration) {
  tallies[configuration] = allSeries.map((series) => tally(series, episodesAt(series.results[configuration], thresholds[configuration])));
}

const share = (part, whole) => (whole > 0 ? part / whole : null);
const three = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
const perThousand = (value) => (typeof value === "number" ? value.toFixed(value < 9.995 ? 2 : 1) : "–");
const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)} %` : "–");

// [id, name, text, remark, explanation] of each figure; for one series, or for all. Without labels there are two.
function figuresOf(found, fixed, series) {
  const facts = [
    ["episodes", "Episodes", count(found.episodes), "", "In whole series, their uncounted first points included"],
    ["inside", "Points in episodes", count(found.inside), percent(share(found.inside, found.total)), "In whole series, their uncounted first points included"],
  ];
  if (!labelled || series?.windows === null) return facts;
  const normal = found.points - found.labelled, delay = share(found.delayPoints, found.hit);
  facts.push(
    ["hit", "Windows hit", `${count(found.hit)} of ${count(found.windows)}`, "", "Labelled windows in which an episode starts"],
    ["delay", "Delay", delay === null ? "–" : `${number(Math.round(delay * 10) / 10)}`, delay === null ? "" : found.dated ? `points, ${duration(found.delaySeconds / found.hit)}` : "points",
      "From a window's first point to the first episode that starts in it; mean over the windows hit"],
    ["false", "False alerts", perThousand(share(1000 * found.falseAlerts, normal)), "per 1000", "Episodes that start outside windows, per 1000 points outside windows"],
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
    const at = allSeries.length ? allSeries[0].results[i].threshold : 0.8;
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
  const facts = figuresOf(sum(tallies[configuration]), report.configurations[configuration].figures);
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
  read: ["in file order", (a, b) => a.place - b.place],
  name: ["by name", (a, b) => (titleOf(a) < titleOf(b) ? -1 : titleOf(a) > titleOf(b) ? 1 : a.place - b.place)],
  episodes: ["most episodes", (a, b) => most(b, "episodes") - most(a, "episodes") || a.place - b.place],
  false: ["most false alerts", (a, b) => most(b, "falseAlerts") - most(a, "falseAlerts") || a.place - b.place],
  missed: ["most missed", (a, b) => missed(b) - missed(a) || a.place - b.place],
};
const most = (series, name) => Math.max(...tallies.map((of) => of[series.place][name]));
const missed = (series) => Math.max(...tallies.map((of) => of[series.place].windows - of[series.place].hit));

function heads() {
  const single = report.configurations.length === 1;
  if (!labelled) return report.configurations.map(({ name }) => [single ? "episodes" : name, "Episodes", (t) => count(t.episodes)]);
  if (single) return [
    ["hit", "Windows hit / all windows", hits],
    ["false", "False alerts", (t) => count(t.falseAlerts)],
    ["F1", "F1 of points", (t) => three(share(2 * t.right, t.right + t.wrong + t.labelled))],
  ];
  return report.configurations.map(({ name }) => [name, `${name}: windows hit / all windows, false alerts`, (t) => `${hits(t)}, ${count(t.falseAlerts)}`]);
}

const hits = (t) => (t.windows ? `${t.hit}/${t.windows}` : "–");

function showIndex() {
  const single = report.configurations.length === 1;
  el("heads").replaceChildren(h("th", { scope: "col" }, "Source"),
    ...heads().map(([name, why]) => h("th", { scope: "col", class: "figure", title: why }, name)));
  const names = Object.entries(orders).filter(([key]) => labelled || !["false", "missed"].includes(key));
  el("sort").replaceChildren(...names.map(([key, [text]]) => h("option", { value: key }, text)));
  document.querySelector(".sources").style.setProperty("--wide", single && labelled ? "62px" : "84px");
  say(el("sources-note"), single || !labelled ? "" : "windows hit / all windows, false alerts");
  fillRows();
}

// No labels where others have them, or too few points to be judged.
const nothingToSay = (series, place) => (labelled ? series.windows === null : series.results[place].ready === series.n);

const words = ({ source, metric }) => (metric ? `${source} ${metric}` : source); // as in the view

function fillRows() {
  const wanted = el("search").value.toLowerCase();
  const found = allSeries.filter((series) => `${words(series)}\n${series.file}`.toLowerCase().includes(wanted)).sort(orders[el("sort").value][1]);
  const single = report.configurations.length === 1, columns = heads();
  const held = el("rows").contains(document.activeElement) ? document.activeElement.dataset.place : null;
  el("rows").replaceChildren(...found.map((series) => {
    const link = h("a", { href: `#${series.place}`, title: `${titleOf(series)}\n${series.file}`, "data-place": series.place }, ...nameOf(series));
    const row = h("tr", { class: series === shown.series ? "chosen" : "" },
      h("th", { scope: "row" }, link, series.folder ? h("span", { class: "file" }, series.folder) : null),
      ...columns.map(([, , text], i) => h("td", { class: "figure" }, nothingToSay(series, single ? 0 : i) ? "–" : text(tallies[single ? 0 : i][series.place]))));
    row.addEventListener("click", (event) => { if (!event.target.closest("a")) location.hash = link.hash; });
    return row;
  }));
  if (held !== null) el("rows").querySelector(`[data-place="${held}"]`)?.focus({ preventScroll: true });
}

// Where series of several files have the same name, the part of the path that differs.
function addFolders() {
  const files = [...new Set(allSeries.map((series) => series.file))].map((file) => file.split("/")), named = new Map();
  for (const series of allSeries) named.set(titleOf(series), (named.get(titleOf(series)) ?? 0) + 1);
  let same = 0;
  while (files.length > 1 && files.every((parts) => parts.length > same + 1 && parts[same] === files[0][same])) same++;
  for (const series of allSeries) {
    const own = series.file.split("/").slice(same), repeats = own.at(-1).replace(/\.[^.]*$/, "") === series.source;
    series.folder = named.get(titleOf(series)) < 2 ? "" : own.slice(0, repeats ? -1 : undefined).join("/");
  }
}

// --- one source

function choose(series) {
  if (!series) return;
  Object.assign(shown, { series, metric: 0, cursor: null });
  showAll();
  el("detail-name").replaceChildren(...nameOf(series));
  el("detail-name").title = `${titleOf(series)}\n${series.file}`;
  const buttons = series.metrics.length < 2 ? [] : series.metrics.map(({ name }, i) => {
    const button = h("button", { type: "button", title: name, "aria-pressed": i === 0 }, h("bdi", {}, name));
    button.addEventListener("click", () => { chooseMetric(i); drawAll(); });
    return button;
  });
  el("metrics").replaceChildren(...buttons);
  for (const row of el("rows").children) row.classList.toggle("chosen", row.querySelector("a").dataset.place === String(series.place));
  el("charts").replaceChildren(...report.configurations.map(({ name }, i) => h("div", { class: "result", "data-result": i },
    h("div", { class: "about" }, report.configurations.length > 1 ? h("h2", {}, h("bdi", {}, name)) : null, h("p", { class: "facts" })),
    h("div", { class: "chart" }), h("details", report.configurations.length === 1 ? { open: "" } : {}, h("summary"), h("div", { class: "list" })))));
  for (const box of el("charts").querySelectorAll(".chart")) listen(box);
  drawAll();
}

function chooseMetric(place) {
  shown.metric = place;
  [...el("metrics").children].forEach((one, i) => one.setAttribute("aria-pressed", i === place));
}

function showAll() {
  const { sorted, n, usual } = shown.series;
  [shown.from, shown.to] = spread(sorted[0], sorted[n - 1], usual || 1);
}

function zoom(from, to) {
  const { sorted, n, usual } = shown.series;
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

const moment = (t) => (shown.series.dated ? iso(t).replace("T", " ").replace(/(\.000)?Z$/, "") : number(t));

function drawAll() {
  const { series } = shown, single = report.configurations.length === 1;
  if (!series) return;
  for (const node of el("charts").children) {
    const place = Number(node.dataset.result), result = series.results[place], episodes = episodesAt(result, thresholds[place]);
    node.querySelector(".facts").replaceChildren(...figuresOf(tally(series, episodes), null, series).map(([, name, text, remark, why]) =>
      h("span", { title: why }, `${name} `, h("b", {}, text), remark ? ` ${remark}` : "")));
    if (result.ready > 0) node.querySelector(".facts").append(unjudged(result.ready, series.n));
    const found = { result, episodes, threshold: thresholds[place] ?? result.threshold };
    plots[place] = new Plot(node.querySelector(".chart"), shown, found, single ? 250 : 190);
    list(node, series, result, episodes);
  }
  point(shown.cursor);
}

// Points from which the detectors only learned.
function unjudged(ready, n) {
  const text = ready === n ? "all points: too few" : `the first ${count(ready)} points`;
  return h("span", { title: "The detectors need these points before an episode can open" }, "Not judged ", h("b", {}, text));
}

// --- list of episodes, and of windows without one

const LISTED = 200;
// The metric that an explanation is about, where there are several.
const about = (series, why) => (series.metrics.length < 2 ? -1 : series.metrics.findIndex(({ name }) => why.startsWith(`${name}: `)));

function list(node, series, result, episodes) {
  const alert = result.alert ?? result.score;
  const rows = episodes.map(([start, stop, why, kind, reason]) => {
    let peak = 0;
    for (let i = start; i < stop; i++) if (alert[i] > peak) peak = alert[i];
    const metric = Math.max(about(series, why), 0), band = result.bands[metric], value = series.metrics[metric].values[start];
    const expected = band && band[0][start] !== null ? `${number(value)}, expected ${rough(band[0][start])} to ${rough(band[1][start])}` : number(value);
    return { start, stop, peak, why, kind, expected, end: reason || "open", what: series.label[start] ? "hit" : "false" };
  });
  const lost = (series.windows ?? []).filter((one) => fateOf(one, series, episodes) === "missed");
  rows.push(...lost.map(([start, stop]) => ({ start, stop, peak: null, why: "no episode starts in this window", kind: "", expected: "", end: "", what: "missed" })));
  rows.sort((a, b) => a.start - b.start);
  const missing = lost.length ? `, ${count(lost.length)} missed ${lost.length === 1 ? "window" : "windows"}` : "";
  say(node.querySelector("summary"), `${count(episodes.length)} ${episodes.length === 1 ? "episode" : "episodes"}${missing}`);
  const columns = { when: "Time", ...(series.windows === null ? {} : { what: "Label" }), kind: "Kind", long: "Points", peak: "Peak", end: "End", why: "Value and explanation" };
  node.querySelector(".list").replaceChildren(rows.length === 0 ? "" : h("table", {},
    h("colgroup", {}, ...Object.keys(columns).map((name) => h("col", { class: name }))),
    h("thead", {}, h("tr", {}, ...Object.entries(columns).map(([name, text]) =>
      h("th", { scope: "col", class: ["long", "peak"].includes(name) ? `${name} number` : name }, text)))),
    h("tbody", {}, ...rows.slice(0, LISTED).map((row) => {
      const begin = series.time[row.start], end = series.time[row.stop - 1];
      const texts = { when: moment(begin), what: row.what, kind: row.kind, long: count(row.stop - row.start), peak: row.peak === null ? "" : score(row.peak / FULL), end: row.end };
      const line = h("tr", { tabindex: 0 }, ...Object.keys(columns).filter((name) => name in texts).map((name) =>
        h("td", { class: ["long", "peak"].includes(name) ? `${name} number` : name }, texts[name])),
        h("td", { class: "why" }, row.expected ? h("div", { class: "expected" }, row.expected) : null, row.why));
      const margin = Math.max(2 * (end - begin), 60 * series.usual);
      const look = () => {
        if (about(series, row.why) >= 0) chooseMetric(about(series, row.why));
        zoom(begin - margin, end + margin);
      };
      line.addEventListener("click", look);
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") look(); });
      return line;
    }))), rows.length > LISTED ? h("p", { class: "note" }, `and ${count(rows.length - LISTED)} more`) : "");
}

// --- the pointer and the keyboard

function listen(box) {
  const plot = () => plots[Number(box.parentNode.dataset.result)];
  const at = (event) => event.clientX - box.getBoundingClientRect().left;
  let from = null;
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !plot().picture) return;
    from = at(event);
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (!plot().picture) return;
    if (from === null) point(closest(plot().timeAt(at(event))));
    else plot().select(from, at(event));
  });
  box.addEventListener("pointerup", (event) => {
    const begin = from, end = at(event);
    from = null;
    if (begin === null) return;
    plot().select(0, 0);
    if (Math.abs(end - begin) > 5) zoom(...[begin, end].map((px) => plot().timeAt(px)).sort((a, b) => a - b));
  });
  box.addEventListener("pointercancel", () => { from = null; });
  box.addEventListener("pointerleave", () => { if (from === null) point(null); });
  box.addEventListener("dblclick", () => { showAll(); drawAll(); });
  box.addEventListener("keydown", (event) => {
    const { sorted, n } = shown.series, low = reach(sorted, shown.from), high = Math.min(reach(sorted, shown.to + 1e-9), n) - 1;
    const now = shown.cursor ?? high;
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: low, End: high }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    point(clamp(next, low, high));
  });
}

// Place, in order of time, of the point that is closest to a time.
function closest(t) {
  const { sorted, n } = shown.series, k = clamp(reach(sorted, t), 0, n - 1);
  return k > 0 && t - sorted[k - 1] < sorted[k] - t ? k - 1 : k;
}

function point(cursor) {
  const { series } = shown;
  shown.cursor = cursor;
  if (!series) return;
  const on = cursor !== null && series.sorted[cursor] >= shown.from && series.sorted[cursor] <= shown.to;
  const i = on ? series.order[cursor] : null;
  for (const plot of plots) plot.point(i);
  if (!on) return say(el("readout"), `${moment(shown.from)} to ${moment(shown.to)}${series.dated ? " UTC" : ""}`);
  const metric = series.metrics[shown.metric], parts = [moment(series.time[i]), `${metric.name} ${number(metric.values[i])}`];
  series.results.forEach((result, k) => {
    const band = result.bands[shown.metric], name = series.results.length > 1 ? `${report.configurations[k].name}: ` : "";
    const facts = [`score ${score(result.score[i] / FULL)}`];
    if (result.alert) facts.push(`alert ${score(result.alert[i] / FULL)}`);
    if (band && band[0][i] !== null) facts.unshift(`expected ${rough(band[0][i])} to ${rough(band[1][i])}`);
    if (plots[k].states[i]) facts.push("in an episode");
    else if (i < result.ready) facts.push("not judged yet");
    parts.push(name + facts.join(", "));
  });
  if (series.windows !== null && series.label[i]) parts.push("labelled");
  say(el("readout"), parts.join("   "));
}

// --- begin

function showSummary() {
  const windows = allSeries.reduce((all, series) => all + (series.windows?.length ?? 0), 0);
  const facts = [
    ["Files", count(new Set(allSeries.map((series) => series.file)).size)], ["Series", count(allSeries.length)],
    ["Points", count(allSeries.reduce((all, series) => all + series.n, 0))], ["Labelled windows", labelled ? count(windows) : "none"],
  ];
  el("summary").replaceChildren(...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
}

async function begin() {
  report = await unpacked(el("data").textContent.trim());
  allSeries = report.series.map(prepare);
  labelled = allSeries.some((series) => series.windows !== null);
  document.body.classList.toggle("unlabelled", !labelled);
  for (const node of document.querySelectorAll(".legend .labelled")) node.hidden = !labelled;
  report.configurations.forEach((_, i) => {
    thresholds[i] = null;
    measure(i);
  });
  addFolders();
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
  const route = () => choose(allSeries[Number(location.hash.slice(1))] ?? allSeries[0]);
  window.addEventListener("hashchange", route);
  new ResizeObserver(() => requestAnimationFrame(drawAll)).observe(el("charts"));
  if (allSeries.length === 0) say(el("problem"), "No points were scored.");
  route();
}

begin().catch((error) => say(el("problem"), `This browser cannot show the report: ${error.message}`));
