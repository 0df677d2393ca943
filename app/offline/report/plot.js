// One chart: values with their band and labels, episodes, and the scores beneath. With more points than pixels, each
// pixel shows their lowest, highest and most anomalous one, so that no anomaly disappears.

import { clamp, clock, label, line, range, round, scale, ticks } from "./axes.js";
import { FULL, fateOf, reach } from "./counts.js";
import { count, number, svg, titleOf } from "./dom.js";

const TOP = 8, BOTTOM = 20, RIGHT = 12, ROW = 9, STRIP = 56;
const LEFT = 64; // at least: for "episodes" in small letters

export class Plot {
  // `view` has series, metric, from and to; `found` has result, episodes and threshold; heights and widths are in pixels.
  constructor(box, view, found, height) {
    Object.assign(this, view, found, { height, width: Math.floor(box.clientWidth), id: box.parentNode.dataset.result });
    this.values = this.series.metrics[this.metric].values;
    this.states = statesOf(this.series, this.episodes);
    this.right = this.width - RIGHT;
    if (this.width < 120) return;
    this.place();
    this.picture = svg("svg", {
      viewBox: `0 0 ${this.width} ${this.zero + BOTTOM}`, width: this.width, height: this.zero + BOTTOM, role: "img", tabindex: 0,
      "aria-label": `${titleOf(this.series).replace("\n", ", ")}: ${count(this.series.n)} points, ${count(this.episodes.length)} episodes. Arrow keys read points.`,
    });
    this.cut = { "clip-path": `url(#clip-${this.id})` };
    this.picture.append(svg("clipPath", { id: `clip-${this.id}` },
      svg("rect", { x: this.left, y: TOP - 4, width: this.right - this.left, height: this.zero - TOP + 5 })));
    this.drawValues();
    this.drawFound();
    this.drawScores();
    this.drawCursor();
    const focused = box.contains(document.activeElement);
    box.replaceChildren(this.picture);
    if (focused) this.picture.focus({ preventScroll: true });
  }

  // Scales: the numbers beside the axis need room, so the pixels are counted again when it is known how much.
  place() {
    const valueAt = (k) => this.values[this.series.order[k]];
    const rough = this.pixels(scale(this.from, this.to, LEFT, this.right)).filter(({ first }) => first !== null);
    const extremes = rough.length ? rough.flatMap(({ least, most }) => [valueAt(least), valueAt(most)]) : [0];
    const [low, high] = range(extremes, rough.map((p) => p.lower), rough.map((p) => p.upper));
    this.levels = ticks(low, high, 5).map((tick) => [tick, number(tick)]);
    this.left = Math.max(LEFT, Math.max(...this.levels.map(([, text]) => text.length)) * 6.5 + 18);
    this.floor = this.height - BOTTOM;
    this.ceiling = this.height + 4 + (this.series.windows === null ? 1 : 2) * (ROW + 3) + 14; // of the scores
    this.zero = this.ceiling + STRIP;
    this.x = scale(this.from, this.to, this.left, this.right);
    this.y = scale(low, high, this.floor, TOP);
    this.s = scale(0, FULL, this.zero, this.ceiling);
    this.columns = this.pixels(this.x);
  }

  // What each pixel shows: places, in order of time, of the first, lowest, highest and last value, and the widest band;
  // the highest scores; the point to mark, which is the start of an episode before the others.
  pixels(x) {
    const { series, result, states, values } = this, band = result.bands[this.metric], alert = result.alert ?? result.score;
    const low = Math.max(reach(series.sorted, this.from) - 1, 0), high = Math.min(reach(series.sorted, this.to + 1e-9) + 1, series.n);
    const found = [];
    let now = null;
    for (let k = low; k < high; k++) {
      const i = series.order[k], at = x(series.sorted[k]), column = Math.floor(at), value = values[i];
      if (now === null || now.column !== column) {
        now = { column, at, first: null, last: null, least: null, most: null, lower: null, upper: null, score: 0, alert: 0, mark: null };
        // A gap in time much longer than usual breaks the line: nothing is known about what lies between.
        now.broken = k > low && series.usual > 0 && series.sorted[k] - series.sorted[k - 1] > 10 * series.usual;
        found.push(now);
      }
      if (result.score[i] > now.score) now.score = result.score[i];
      if (alert[i] > now.alert) now.alert = alert[i];
      if (value === null) continue;
      now.first ??= k;
      now.last = k;
      if (now.least === null || value < values[series.order[now.least]]) now.least = k;
      if (now.most === null || value > values[series.order[now.most]]) now.most = k;
      if (band && band[0][i] !== null) {
        now.lower = now.lower === null ? band[0][i] : Math.min(now.lower, band[0][i]);
        now.upper = now.upper === null ? band[1][i] : Math.max(now.upper, band[1][i]);
      }
      if (states[i] && (now.mark === null || states[i] > states[now.mark] || (states[i] === states[now.mark] && result.score[i] > result.score[now.mark]))) now.mark = i;
    }
    return found;
  }

  drawValues() {
    const { picture, series, columns, left, right, floor, x, y, cut } = this;
    if (series.windows !== null && series.first > 0) this.bar("early", series.sorted[0], series.time[Math.min(series.first, series.n) - 1], TOP, floor - TOP, "first points, not counted");
    picture.append(svg("path", { class: "band", d: this.band(), ...cut }));
    for (const [tick, text] of this.levels) picture.append(line("grid", left, right, y(tick), y(tick)), label(left - 6, y(tick) + 4, text, "end"));
    for (const [tick, text] of this.times()) {
      picture.append(line("grid", x(tick), x(tick), TOP, floor), line("grid", x(tick), x(tick), this.ceiling, this.zero),
        label(clamp(x(tick), left, this.width - 4 - text.length * 3.3), this.height - 5, text, "middle"));
    }
    for (const one of series.windows ?? []) this.bar("window", ...this.span(one), TOP, floor - TOP);
    picture.append(svg("path", { class: "value", d: this.path(), ...cut }));
    const known = columns.filter(({ first }) => first !== null);
    if (columns.length <= 60) picture.append(...known.map(({ at, first }) =>
      svg("circle", { class: "dot", cx: round(at), cy: round(y(this.values[series.order[first]])), r: 1.8, ...cut })));
    const marks = columns.map(({ mark }) => mark).filter((i) => i !== null && series.time[i] >= this.from && series.time[i] <= this.to);
    const dense = marks.length * 8 > this.width; // not to hide the line
    picture.append(...marks.map((i) => svg("circle", {
      class: `mark${this.states[i] % 2 ? " false" : ""}${dense ? " small" : ""}`, cx: round(x(series.time[i])), cy: round(y(this.values[i])),
      r: (dense ? 0.6 : 1) * (this.states[i] > 2 ? 4.2 : 2.8),
    })));
  }

  // Two rows of bars: labelled windows, and episodes.
  drawFound() {
    const { picture, series, episodes, left } = this;
    let top = this.height + 4;
    if (series.windows !== null) {
      picture.append(label(left - 6, top + 8, "labelled", "end"));
      for (const one of series.windows) this.bar(`window-bar ${fateOf(one, series, episodes)}`, ...this.span(one), top, ROW, `labelled, ${fateOf(one, series, episodes)}`);
      top += ROW + 3;
    }
    picture.append(label(left - 6, top + 8, "episodes", "end"));
    for (const one of episodes) this.bar(`episode-bar${this.states[one[0]] % 2 ? " false" : ""}`, ...this.span(one), top, ROW);
  }

  drawScores() {
    const { picture, result, columns, left, right, ceiling, zero, s } = this, reached = Math.round(this.threshold * FULL);
    const apart = (right - left) / columns.length, thick = round(apart < 3 ? apart + 0.5 : Math.min(0.6 * apart, 5));
    const bars = { hill: "", calm: "", over: "" };
    for (const p of columns) {
      const bar = (level) => `M${apart < 1.1 ? p.column + 0.5 : round(p.at)} ${zero}V${round(s(level))}`;
      bars.hill += bar(p.score);
      if (p.alert >= reached) bars.over += bar(p.alert);
      else if (result.alert && p.alert > 0) bars.calm += bar(p.alert);
    }
    picture.append(label(left, ceiling - 3, result.alert ? "anomaly score; dark bars: alert score" : "anomaly score", "start"),
      line("grid", left, right, ceiling, ceiling), line("grid", left, right, zero, zero), label(left - 6, zero + 4, "0", "end"),
      ...Object.entries(bars).map(([kind, d]) => svg("path", { class: `bars ${kind}`, d, "stroke-width": thick, ...this.cut })),
      line("threshold", left, right, s(reached), s(reached)), label(left - 6, s(reached) + 4, number(reached / FULL), "end"));
  }

  drawCursor() {
    this.hair = line("hair", 0, 0, TOP, this.zero);
    this.ring = svg("circle", { class: "ring", r: 5.5 });
    this.selection = svg("rect", { class: "selection", y: TOP, height: this.zero - TOP, width: 0 });
    this.picture.append(this.hair, this.ring, this.selection);
  }

  // Highlight a point, or none.
  point(i) {
    if (!this.picture) return;
    const value = i === null ? null : this.values[i];
    this.hair.classList.toggle("on", i !== null);
    this.ring.classList.toggle("on", value !== null);
    if (i === null) return;
    const at = round(this.x(this.series.time[i]));
    this.hair.setAttribute("x1", at);
    this.hair.setAttribute("x2", at);
    this.ring.setAttribute("cx", at);
    this.ring.setAttribute("cy", value === null ? 0 : round(this.y(value)));
  }

  // Draw the selection from pixel a to pixel b.
  select(a, b) {
    const [from, to] = [a, b].map((px) => clamp(px, this.left, this.right)).sort((p, q) => p - q);
    this.selection.setAttribute("x", from);
    this.selection.setAttribute("width", to - from);
  }

  timeAt(px) {
    return this.from + ((clamp(px, this.left, this.right) - this.left) / (this.right - this.left)) * (this.to - this.from);
  }

  span([start, stop]) {
    return [this.series.time[start], this.series.time[stop - 1]];
  }

  // At least two pixels wide, so that a single point is visible too.
  bar(kind, from, to, top, height, title) {
    if (to < this.from || from > this.to) return;
    const [a, b] = [from, to].map((t) => clamp(this.x(t), this.left, this.right)), width = Math.max(b - a, 2);
    this.picture.append(svg("rect", { class: kind, x: round(a - (b - a < 2 ? 1 : 0)), width: round(width), y: top, height }, title ? svg("title", {}, title) : null));
  }

  times() {
    if (this.series.dated) return clock(this.from, this.to, this.right - this.left);
    return ticks(this.from, this.to, Math.max((this.right - this.left) / 110, 2)).map((tick) => [tick, number(tick)]);
  }

  path() {
    let d = "";
    for (const p of this.columns) {
      if (p.first === null) continue;
      const corners = [...new Set([p.first, Math.min(p.least, p.most), Math.max(p.least, p.most), p.last])];
      corners.forEach((k, i) => {
        const at = `${round(this.x(this.series.sorted[k]))} ${round(this.y(this.values[this.series.order[k]]))}`;
        d += (d === "" || (i === 0 && p.broken) ? "M" : "L") + at;
      });
    }
    return d;
  }

  // Runs of pixels that have a band, each as one closed shape.
  band() {
    let d = "", there = [], back = [];
    const close = () => {
      if (there.length) d += `M${there.join("L")}L${back.reverse().join("L")}Z`;
      there = [];
      back = [];
    };
    for (const p of this.columns) {
      if (p.first === null) continue;
      if (p.lower === null || p.broken) close();
      if (p.lower === null) continue;
      for (const at of [round(p.at), round(p.at + 0.6)]) {
        there.push(`${at} ${round(clamp(this.y(p.upper), 0, this.floor))}`);
        back.push(`${at} ${round(clamp(this.y(p.lower), 0, this.floor))}`);
      }
    }
    close();
    return d;
  }
}

// By point: 0 not in an episode; in one 1, in a window too (or nothing is labelled) 2; where one starts 3 and 4.
function statesOf(series, episodes) {
  const states = new Uint8Array(series.n);
  for (const [start, stop] of episodes) {
    for (let i = start; i < stop; i++) states[i] = series.windows === null || series.label[i] ? 2 : 1;
    states[start] += 2;
  }
  return states;
}
