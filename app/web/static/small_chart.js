// The last points of one series as a small picture: values, the expected band, anomalous points, and where it began.

import { clamp, range, round, scale, spread } from "./axes.js";
import { cell, iso, number, rough, severity, svg, valueOf } from "./dom.js";

const HEIGHT = 76, TOP = 6, BOTTOM = 6, LEFT = 4, RIGHT = 5;

// An SVG of `width` pixels, or null where there is nothing to draw.
export function smallChart(points, metric, width, openedAt) {
  const shown = points.filter((p) => typeof valueOf(p, metric) === "number").sort((a, b) => a.timestamp - b.timestamp);
  if (shown.length < 2 || width < 80) return null;
  const values = shown.map((p) => valueOf(p, metric));
  const lower = shown.map((p) => cell(p, "expected_lower", metric)), upper = shown.map((p) => cell(p, "expected_upper", metric));
  const [low, high] = range(values, lower, upper);
  const x = scale(...spread(shown[0].timestamp, shown.at(-1).timestamp, 1), LEFT, width - RIGHT);
  const y = scale(low, high, HEIGHT - BOTTOM, TOP);
  const xs = shown.map((p) => x(p.timestamp));
  const odd = shown.filter((p) => p.is_anomaly).length;
  const ends = [Math.min(...values), Math.max(...values)].map(number);
  const picture = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": `${metric}: ${shown.length} points from ${iso(shown[0].timestamp)} to ${iso(shown.at(-1).timestamp)}, ${odd} anomalous, ` +
      `from ${ends[0]} to ${ends[1]}, last ${number(values.at(-1))}${expectedOf(shown.at(-1), metric)}`,
  });
  picture.append(svg("path", { class: "band", d: bandPath(xs, lower, upper, (value) => clamp(y(value), 0, HEIGHT)) }));
  if (openedAt > shown[0].timestamp && openedAt <= shown.at(-1).timestamp) {
    picture.append(svg("line", { class: "began", x1: round(x(openedAt)), x2: round(x(openedAt)), y1: 0, y2: HEIGHT }));
  }
  picture.append(svg("path", { class: "value", d: values.map((value, i) => `${i ? "L" : "M"}${round(xs[i])} ${round(y(value))}`).join("") }));
  shown.forEach((p, i) => {
    if (p.is_anomaly) picture.append(svg("circle", { class: `mark ${severity(p.severity)}`, cx: round(xs[i]), cy: round(y(values[i])), r: 2.6 }));
  });
  return picture;
}

function expectedOf(point, metric) {
  const lower = cell(point, "expected_lower", metric), upper = cell(point, "expected_upper", metric);
  return lower === null || upper === null ? "" : `, expected ${rough(lower)} to ${rough(upper)}`;
}

// Each run of points that have a band is one closed shape.
function bandPath(xs, lower, upper, y) {
  let path = "", there = [], back = [];
  const close = () => {
    if (there.length) path += `M${there.join("L")}L${back.reverse().join("L")}Z`;
    there = [];
    back = [];
  };
  xs.forEach((at, i) => {
    if (lower[i] === null || upper[i] === null) return close();
    there.push(`${round(at)} ${round(y(upper[i]))}`);
    back.push(`${round(at)} ${round(y(lower[i]))}`);
  });
  close();
  return path;
}
