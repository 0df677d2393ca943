// Points of one series as a small picture: values, what was expected, what was anomalous, and where the episode began.

import { clamp, round, scale, spread } from "./axes.js";
import { cell, iso, number, rough, severity, svg, valueOf } from "./dom.js";

const HEIGHT = 76, TOP = 6, BOTTOM = 6, LEFT = 4, RIGHT = 5;
const MOST = 160; // points drawn

// An SVG of `width` pixels, or null where there is nothing to draw. `points` have `timestamp` (epoch s).
export function smallChart(points, metric, width, openedAt) {
  const all = points.filter((p) => typeof valueOf(p, metric) === "number").sort((a, b) => a.timestamp - b.timestamp);
  if (all.length < 2 || width < 80) return null;
  const shown = thinned(all, metric), of = (field) => shown.map((p) => cell(p, field, metric));
  const values = shown.map((p) => valueOf(p, metric)), lower = of("expected_lower"), upper = of("expected_upper");
  const [low, high] = heights([...values, ...of("expected").filter((v) => v !== null)], [...lower, ...upper].filter((v) => v !== null));
  const x = scale(...spread(shown[0].timestamp, shown.at(-1).timestamp, 1), LEFT, width - RIGHT);
  const y = scale(low, high, HEIGHT - BOTTOM, TOP);
  const xs = shown.map((p) => round(x(p.timestamp))), ys = values.map((value) => round(y(value)));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": words(all, metric) });
  picture.append(svg("path", { class: "band", d: band(xs, lower, upper, (value) => clamp(y(value), 0, HEIGHT)) }));
  if (openedAt > shown[0].timestamp && openedAt <= shown.at(-1).timestamp) {
    picture.append(svg("line", { class: "began", x1: round(x(openedAt)), x2: round(x(openedAt)), y1: 0, y2: HEIGHT }));
  }
  picture.append(svg("path", { class: "value", d: xs.map((at, i) => `${i ? "L" : "M"}${at} ${ys[i]}`).join("") }));
  for (const [from, to] of runs(shown)) {
    const kind = severity(shown[to].severity);
    if (to > from) picture.append(svg("path", { class: `odd ${kind}`, d: xs.slice(from, to + 1).map((at, i) => `${i ? "L" : "M"}${at} ${ys[from + i]}`).join("") }));
    picture.append(svg("circle", { class: `mark ${kind}`, cx: xs[from], cy: ys[from], r: 3 }));
  }
  return picture;
}

// Of so many points next to each other the one that is furthest from what was expected.
function thinned(points, metric) {
  const step = Math.ceil(points.length / MOST);
  if (step < 2) return points;
  const far = (p) => Math.abs(valueOf(p, metric) - (cell(p, "expected", metric) ?? valueOf(p, metric)));
  const found = [];
  for (let i = 0; i < points.length; i += step) found.push(points.slice(i, i + step).reduce((a, b) => (far(b) > far(a) ? b : a)));
  return found;
}

// Values and expected ones, and of the band what lies within their height: a band still open must not flatten the line.
function heights(values, limits) {
  const low = Math.min(...values), high = Math.max(...values), height = Math.max(high - low, Math.abs(high) * 0.02 || 1);
  const near = limits.map((limit) => clamp(limit, low - height, high + height));
  return spread(Math.min(low, ...near), Math.max(high, ...near), height);
}

// [[first, last]] of anomalous points next to each other.
function runs(points) {
  const found = [];
  points.forEach((p, i) => {
    if (!p.is_anomaly) return;
    if (found.length && found.at(-1)[1] === i - 1) found.at(-1)[1] = i;
    else found.push([i, i]);
  });
  return found;
}

function words(points, metric) {
  const values = points.map((p) => valueOf(p, metric)), last = points.at(-1), odd = points.filter((p) => p.is_anomaly).length;
  const lower = cell(last, "expected_lower", metric), upper = cell(last, "expected_upper", metric);
  return `${metric}: ${points.length} points from ${iso(points[0].timestamp)} to ${iso(last.timestamp)}, ${odd} anomalous, ` +
    `from ${number(Math.min(...values))} to ${number(Math.max(...values))}, last ${number(values.at(-1))}` +
    (lower === null || upper === null ? "" : `, expected ${rough(lower)} to ${rough(upper)}`);
}

// Each run of points that have a band is one closed shape.
function band(xs, lower, upper, y) {
  let path = "", there = [], back = [];
  const close = () => {
    if (there.length) path += `M${there.join("L")}L${back.reverse().join("L")}Z`;
    there = [];
    back = [];
  };
  xs.forEach((at, i) => {
    if (lower[i] === null || upper[i] === null) return close();
    there.push(`${at} ${round(y(upper[i]))}`);
    back.push(`${at} ${round(y(lower[i]))}`);
  });
  close();
  return path;
}
