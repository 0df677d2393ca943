// Elements and numbers. Text only ever enters the page as text nodes: names of sources come from anybody.

export const el = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Writing only what changed keeps a selection, and spares the layout.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const plain = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 6 });
const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

export function number(value) {
  if (typeof value !== "number") return "–";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e9 || size < 1e-4) ? value.toExponential(3) : plain.format(value);
}

const short = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 });

// Four figures, and every one before the point: for what is computed, such as bands.
export function rough(value) {
  const size = Math.abs(value);
  return typeof value !== "number" || size === 0 || size >= 1e9 || size < 1e-4 ? number(value) : (size >= 1e4 ? whole : short).format(value);
}

export const count = (value) => (typeof value === "number" ? whole.format(value) : "–");

export const score = (value) => (typeof value === "number" ? value.toFixed(3) : "–");

export function rate(value) {
  return typeof value !== "number" ? "–" : value < 9.95 && value > 0 ? value.toFixed(1) : whole.format(value);
}

// Event time: epoch seconds to UTC. With the date when it is not today; any number can come.
export function time(seconds, now = Date.now()) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return number(seconds);
  const iso = date.toISOString();
  const clock = iso.slice(-13, -5);
  return iso.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? clock : `${iso.slice(0, -14)} ${clock}`;
}

export function iso(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `${seconds} s since 1970` : date.toISOString();
}

export function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 60) return `${number(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} d`;
}

const SEVERITIES = ["low", "medium", "high", "critical"];
export const severity = (value) => (SEVERITIES.includes(value) ? value : "low");

// The name of a series: its source, and the metric where it is one of several series of its source.
export const nameOf = ({ source, metric }) => [h("bdi", {}, source), ...(metric ? [h("span", { class: "of" }, h("bdi", {}, metric))] : [])];
export const titleOf = ({ source, metric }) => (metric ? `${source}\n${metric}` : source);

// A point's cell of one metric: results hold plain numbers for one metric, objects by name for several.
export function cell(point, field, metric) {
  const found = point[field];
  return found !== null && typeof found === "object" ? (Object.hasOwn(found, metric) ? found[metric] : null) : (found ?? null);
}

export function metricsOf(point) {
  return point.values ? Object.keys(point.values) : [point.metric ?? "value"];
}

export const valueOf = (point, metric) => (point.values ? cell(point, "values", metric) : (point.value ?? null));
