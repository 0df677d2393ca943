// Scales, ticks and lines of charts, for the page and for reports.

import { iso, svg, time } from "./dom.js";

export const round = (value) => Math.round(value * 10) / 10;

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export function scale(from, to, start, end) {
  const factor = (end - start) / (to - from);
  return (value) => start + (value - from) * factor;
}

export function spread(low, high, least) {
  return high > low ? [low, high] : [low - least / 2, high + least / 2];
}

// All values, and of the band what lies within one height of them: a band still open must not flatten the line.
export function range(values, lower, upper) {
  let low = Math.min(...values), high = Math.max(...values);
  const least = Math.abs(high) * 0.02 || 1, height = Math.max(high - low, least);
  const limits = [...lower, ...upper].filter((v) => v !== null).map((v) => clamp(v, low - height, high + height));
  low = Math.min(low, ...limits);
  high = Math.max(high, ...limits);
  [low, high] = spread(low, high, least);
  const pad = (high - low) * 0.06;
  return [low - pad, high + pad];
}

export function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((f) => f >= rough) ?? rough;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high && found.length < 12; k++) found.push(k * step + 0); // not -0
  return found;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// Times at round seconds of UTC, with the date where a day begins. Beyond some days: any number of them.
export function clock(from, to, width) {
  const most = Math.max(Math.floor(width / 110), 2), length = to - from;
  if (!(length > 0)) return [[from, time(from)]];
  const step = STEPS.find((s) => length / s <= most) ?? Math.ceil(length / most / 86400) * 86400;
  const found = [];
  for (let k = Math.ceil(from / step); k * step <= to && found.length <= most; k++) {
    const text = (k * step) % 86400 === 0 ? iso(k * step).slice(0, 10) : iso(k * step).slice(11, step < 60 ? 19 : 16);
    found.push([k * step, text]);
  }
  return found;
}

export function nearest(xs, at) {
  if (xs.length === 0) return null;
  let best = 0;
  for (let i = 1; i < xs.length; i++) if (Math.abs(xs[i] - at) < Math.abs(xs[best] - at)) best = i;
  return best;
}

export function line(kind, x1, x2, y1, y2) {
  return svg("line", { class: kind, x1: round(x1), x2: round(x2), y1: round(y1), y2: round(y2) });
}

export function label(x, y, text, anchor) {
  return svg("text", { x: round(x), y: round(y), "text-anchor": anchor }, text);
}
