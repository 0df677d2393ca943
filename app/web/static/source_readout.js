// What is known of one point: value against expected, scores, how each detector voted, and why.

import { cell, h, iso, number, rough, score, severity, time, valueOf } from "./dom.js";

const percent = (share) => `${Math.round(share * 100)} %`;

// Nodes for the box. `swatch(name)`: the colour of a detector's line, or null where it is not drawn.
export function readoutOf(point, metric, { swatch, latest, choose }) {
  const value = valueOf(point, metric), expected = cell(point, "expected", metric);
  const lower = cell(point, "expected_lower", metric), upper = cell(point, "expected_upper", metric), kind = point.is_anomaly ? severity(point.severity) : "";
  const facts = [["value", number(value)]];
  if (typeof expected === "number") facts.push(["expected", rough(expected)]);
  if (lower !== null && upper !== null) facts.push(["band", `${rough(lower)} to ${rough(upper)}`]);
  facts.push(["alert score", score(point.alert_score)], ["anomaly score", score(point.anomaly_score)]);
  return [
    h("div", { class: "panel-head" },
      h("h2", { id: "readout-title" }, latest ? "Last point" : "Point"),
      h("time", { class: "quiet", datetime: iso(point.timestamp), title: iso(point.timestamp) }, `${time(point.timestamp)} UTC`)),
    h("div", { class: "body" },
      h("p", { class: `verdict ${kind}` }, h("strong", {}, wordOf(point)), ...[point.is_anomaly ? point.kind : null, point.direction && point.is_anomaly ? `${point.direction} expected` : null]
        .filter(Boolean).map((text) => h("span", { class: "tag" }, text))),
      h("p", { class: "sentence" }, point.explanation ?? sentenceOf(point)),
      h("dl", { class: "pairs" }, ...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
      votes(point, swatch), blame(point, metric, choose), labels(point)),
  ];
}

// A line for screen readers.
export function spoken(point, metric) {
  const lower = cell(point, "expected_lower", metric), upper = cell(point, "expected_upper", metric);
  return [
    `${time(point.timestamp)} UTC`, `${metric} ${number(valueOf(point, metric))}`,
    lower !== null && upper !== null ? `expected ${rough(lower)} to ${rough(upper)}` : null,
    `alert score ${score(point.alert_score)}`, wordOf(point), point.is_anomaly ? point.explanation : null,
  ].filter(Boolean).join(", ");
}

export function wordOf(point) {
  if (point.maintenance) return `maintenance: ${point.maintenance}`;
  if (point.is_anomaly) return `anomalous, ${severity(point.severity)}`;
  if (point.status === "warming_up") return "warming up";
  return point.status === "degraded" ? "not anomalous; a detector failed" : "not anomalous";
}

function sentenceOf(point) {
  if (point.maintenance) return "In a span of maintenance nothing alerts and nothing is learned.";
  if (point.drift) return "Drift: the scores have settled on another level here.";
  if (point.status === "warming_up") return "The detectors have not seen enough points yet.";
  return "";
}

// Each detector's vote, the highest first; the share that it has in the score, where the result says so.
function votes(point, swatch) {
  const all = Object.entries(point.detectors ?? {}).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  if (!all.length) return null;
  const weights = point.weights ?? {};
  return h("div", { class: "votes" }, h("h3", {}, "Votes of the detectors"), h("table", { "aria-label": "Votes of the detectors, 0 to 1, and their shares of the anomaly score" },
    columns(), h("tbody", {}, ...all.map(([name, vote]) => {
      const weight = Object.hasOwn(weights, name) ? weights[name] : null;
      return h("tr", { class: vote >= 0.8 ? "high-vote" : "" },
        h("th", { scope: "row", title: name }, h("bdi", {}, name)), h("td", {}, bar(vote, swatch(name)), h("span", { class: "figure" }, score(vote))),
        h("td", { class: "weight", title: weight === null ? null : "its share of the anomaly score" }, weight === null ? "" : percent(weight)));
    }))));
}

const columns = () => h("colgroup", {}, ...["name", "vote", "weight"].map((kind) => h("col", { class: `${kind}-column` })));

function bar(share, colour) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
  if (colour) fill.style.background = colour;
  return h("span", { class: "track", "aria-hidden": "true" }, fill);
}

// Of a vector: how anomalous each metric is, the worst first.
function blame(point, shown, choose) {
  const all = Object.entries(point.attribution ?? {}).sort((a, b) => b[1] - a[1]);
  if (all.length < 2) return null;
  return h("div", { class: "votes" }, h("h3", {}, "Scores of the metrics"), h("table", { "aria-label": "Scores of the metrics, 0 to 1" }, columns(), h("tbody", {}, ...all.slice(0, 12).map(([name, share]) => {
    const button = h("button", { type: "button", class: "plain", "aria-pressed": name === shown }, h("bdi", {}, name));
    button.addEventListener("click", () => choose(name));
    return h("tr", {}, h("th", { scope: "row", title: name }, button), h("td", {}, bar(share), h("span", { class: "figure" }, score(share))), h("td", {}));
  }))), all.length > 12 ? h("p", { class: "quiet" }, `and ${all.length - 12} more`) : null);
}

function labels(point) {
  const all = Object.entries(point.labels ?? {});
  return all.length ? h("dl", { class: "pairs labels" }, ...all.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(text))))) : null;
}
