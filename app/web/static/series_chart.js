// Two charts of one series, above each other, with one cursor: values in their expected band, and scores. uPlot draws the
// lines; what it does not know (episodes, anomalous points, drifts, maintenance, the threshold) is drawn beside them.

import { clamp, spread } from "./axes.js";
import { iso, number } from "./dom.js";
import { nearest, reach } from "./series_points.js";

const FINE = 400, ZOOM = 2; // ms between two changes of the span that count as one; of a key
const RADIUS = { low: 2.5, medium: 2.8, high: 3.2, critical: 3.6 };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faint = (name, share) => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;

export const voteColour = (place) => `--vote-${place % 8}`;

// Times of the axis in UTC; the day stands under the first of it.
function times(plot, splits, _axis, _space, step) {
  let day = "";
  return splits.map((at) => {
    const text = iso(at), date = text.slice(0, 10);
    if (step >= 86400) return date;
    const clock = text.slice(11, step < 1 ? 23 : step < 60 ? 19 : 16), first = date !== day;
    day = date;
    return first ? `${clock}\n${date}` : clock;
  });
}

export class SeriesChart {
  // `zoomed(from, to, brief)` is called for a span that was chosen, `pointed(i, byKey)` for the point under the cursor, or null.
  constructor(box, { zoomed, pointed }) {
    Object.assign(this, { box, zoomed, pointed, cursor: null, shown: null, plots: null, left: 50 });
    box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
  }

  // columns: see series_points.js; episodes: [{from, to, severity}] in time; wouldBe: [start, stop] with the slider's
  // threshold; lines: what of the scores is drawn, [{name, colour, width}], name "score", "alert" or of a vote.
  show(shown) {
    const before = this.shown;
    this.shown = shown;
    if (this.cursor !== null && before?.columns !== shown.columns) {
      const at = before?.columns.t[this.cursor];
      this.cursor = shown.columns.n && at !== undefined ? clamp(nearest(shown.columns.t, at), 0, shown.columns.n - 1) : null;
    }
    const key = shown.lines.map(({ name }) => name).join("\n");
    if (!this.plots || key !== this.built) { this.rebuild(); return; }
    this.fill();
  }

  get height() { return this.box.clientWidth < 560 ? [210, 130] : [280, 150]; }

  rebuild() {
    if (!this.shown || this.box.clientWidth < 120) return;
    const focused = this.box === document.activeElement;
    for (const plot of this.plots ?? []) plot.destroy();
    this.built = this.shown.lines.map(({ name }) => name).join("\n");
    this.plots = [this.valuesPlot(), this.scoresPlot()];
    this.fill();
    if (focused) this.box.focus({ preventScroll: true });
  }

  resize() {
    const width = Math.floor(this.box.clientWidth);
    if (!this.plots) { this.rebuild(); return; }
    if (width < 120 || this.plots[0].width === width) return;
    this.plots.forEach((plot, k) => plot.setSize({ width, height: this.height[k] }));
  }

  fill() {
    const { columns, from, to, lines } = this.shown, begun = performance.now();
    const data = [
      [columns.t, columns.upper, columns.lower, columns.expected, columns.value],
      [columns.t, ...lines.map(({ name }) => columns[name] ?? columns.votes.get(name) ?? new Array(columns.n).fill(null))],
    ];
    const [low, high] = spread(from, to, 1);
    this.range = [low, high];
    this.plots.forEach((plot, k) => plot.batch(() => {
      plot.setData(data[k], false);
      plot.setScale("x", { min: low, max: high });
    }));
    this.mark(this.cursor);
    this.took = performance.now() - begun;
  }

  shared(k, series, range, more) {
    const grid = { stroke: colour("--rule"), width: 1 }, text = { stroke: colour("--quiet"), font: "11px system-ui, sans-serif" };
    const quiet = k === 0 ? { values: (_, splits) => splits.map(() => ""), size: 6 } : { values: times, size: 38, space: 92 };
    return {
      width: Math.floor(this.box.clientWidth), height: this.height[k], legend: { show: false }, padding: [8, 14, 0, 0],
      scales: { x: { time: true, range: (_, low, high) => [low, high] }, y: { range } },
      series: [{}, ...series],
      axes: [
        { ...text, grid, ticks: { show: false }, gap: 6, incrs: STEPS, ...quiet },
        { ...text, grid, ticks: { show: false }, gap: 6, space: 34, size: (_, found) => this.room(k, found), ...more.axis },
      ],
      bands: more.bands,
      cursor: {
        sync: { key: "series", scales: ["x", null] }, y: false, drag: { x: true, y: false, setScale: false, dist: 4 },
        points: { size: 8, width: 1.5, stroke: () => colour("--text"), fill: () => colour("--panel"), show: k === 0 },
        bind: { dblclick: () => () => this.zoom(1 / ZOOM ** 2) },
      },
      hooks: {
        drawClear: [(plot) => this.beneath(plot, k)], draw: [(plot) => this.above(plot, k)],
        setCursor: [(plot) => { if (k === 0 || plot.cursor.event) this.moved(plot.cursor.idx); }],
        setSelect: [(plot) => this.selected(plot)],
      },
    };
  }

  // Both charts leave the same room at the left for the numbers of the values.
  room(k, found) {
    if (k === 0 && found) this.left = Math.max(46, Math.max(0, ...found.map((text) => text.length)) * 6.4 + 14);
    return this.left;
  }

  valuesPlot() {
    const hidden = { stroke: "transparent", width: 0, auto: false, points: { show: false } }, gaps = this.gaps();
    return new uPlot(this.shared(0, [
      { ...hidden, gaps }, { ...hidden, gaps },
      { stroke: faint("--value", 45), width: 1, dash: [3, 4], auto: false, points: { show: false }, gaps },
      { stroke: colour("--value"), width: 1.5, gaps, points: { size: 4, fill: colour("--value"), stroke: colour("--value"), show: (plot, _, i0, i1) => i1 - i0 < plot.width / 14 } },
    ], (plot, low, high) => this.reachOf(low, high), {
      bands: [{ series: [1, 2], fill: colour("--band") }], axis: { values: (_, splits) => splits.map(number) },
    }), [[], [], [], [], []], this.box);
  }

  scoresPlot() {
    const series = this.shown.lines.map((line) => ({
      stroke: colour(line.colour), width: line.width, points: { show: false }, gaps: this.gaps(), alpha: line.name === "score" ? 0.75 : 1,
    }));
    return new uPlot(this.shared(1, series, () => [0, 1.04], {
      axis: { splits: () => [0, 0.5, 1], values: (_, splits) => splits.map(String), space: 20 },
    }), [[], ...series.map(() => [])], this.box);
  }

  gaps() {
    return (plot, _series, i0, i1, found) => {
      const { gaps, t } = this.shown.columns;
      for (let k = reach(gaps, i0 + 1); k < gaps.length && gaps[k] <= i1; k++) {
        uPlot.addGap(found, Math.round(plot.valToPos(t[gaps[k] - 1], "x", true)), Math.round(plot.valToPos(t[gaps[k]], "x", true)));
      }
      return found.sort((a, b) => a[0] - b[0]);
    };
  }

  // All values that are shown, and of the band what lies within one height of them: a band still open must not flatten the line.
  reachOf(low, high) {
    if (low === null || high === null) return [0, 1];
    const { columns: { t, lower, upper } } = this.shown, least = Math.abs(high) * 0.02 || 1, height = Math.max(high - low, least);
    let [bottom, top] = [low, high];
    for (let i = Math.max(reach(t, this.range[0]) - 1, 0); i < t.length && t[i] <= this.range[1]; i++) {
      if (lower[i] !== null && lower[i] < bottom) bottom = Math.max(lower[i], low - height);
      if (upper[i] !== null && upper[i] > top) top = Math.min(upper[i], high + height);
    }
    [bottom, top] = spread(bottom, top, least);
    const pad = (top - bottom) * 0.06;
    return [bottom - pad, top + pad];
  }

  // Episodes and maintenance lie behind the lines.
  beneath(plot, k) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, { columns, episodes } = this.shown;
    ctx.save();
    const x = (t) => clamp(plot.valToPos(t, "x", true), bbox.left, bbox.left + bbox.width);
    for (const { from, to, severity } of episodes) {
      if (to < this.range[0] || from > this.range[1]) continue;
      const left = x(from), width = Math.max(x(to) - left, 2 * ratio);
      ctx.fillStyle = faint(`--${severity}`, 13);
      ctx.fillRect(left, bbox.top, width, bbox.height);
      if (k > 0) continue;
      ctx.fillStyle = colour(`--${severity}`);
      ctx.fillRect(left, bbox.top, width, 3 * ratio);
    }
    ctx.strokeStyle = faint("--quiet", 40);
    ctx.lineWidth = ratio;
    for (const { start, stop } of columns.maintenance) {
      const left = x(columns.t[start]), right = Math.max(x(columns.t[stop - 1]), left + 2 * ratio);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, right - left, bbox.height);
      ctx.clip();
      ctx.beginPath();
      for (let at = left - bbox.height; at < right; at += 8 * ratio) { ctx.moveTo(at, bbox.top + bbox.height); ctx.lineTo(at + bbox.height, bbox.top); }
      ctx.stroke();
      ctx.restore();
    }
    ctx.restore();
  }

  above(plot, k) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    this.drifts(plot);
    if (k === 0) this.anomalies(plot);
    else this.threshold(plot);
    ctx.restore();
  }

  drifts(plot) {
    const { ctx, bbox } = plot, { columns } = this.shown;
    ctx.strokeStyle = colour("--text");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    for (const i of columns.drifts) {
      const x = plot.valToPos(columns.t[i], "x", true);
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
    ctx.setLineDash([]);
  }

  // A mark for each, but one for those at one pixel; the first of an episode is larger.
  anomalies(plot) {
    const { ctx } = plot, ratio = devicePixelRatio, { columns } = this.shown;
    const dense = columns.anomalous.length > plot.width ? 0.7 : 1;
    const last = new Map();
    ctx.strokeStyle = colour("--panel");
    ctx.lineWidth = ratio;
    for (const i of columns.anomalous) {
      const t = columns.t[i], value = columns.value[i];
      if (value === null || t < this.range[0] || t > this.range[1]) continue;
      const x = plot.valToPos(t, "x", true), y = plot.valToPos(value, "y", true), { severity, id, episode } = columns.points[i];
      const opens = id === episode, place = `${Math.round(x / ratio / 2)} ${Math.round(y / ratio / 2)}`;
      if (!opens && last.has(place)) continue;
      last.set(place, i);
      const kind = severity in RADIUS ? severity : "low";
      ctx.fillStyle = colour(`--${kind}`);
      ctx.beginPath();
      ctx.arc(x, y, (RADIUS[kind] * dense + (opens ? 1.6 : 0)) * ratio, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
  }

  // The line, and where it would have alerted: bars at the foot.
  threshold(plot) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, { threshold, wouldBe, columns } = this.shown;
    if (typeof threshold !== "number") return;
    const y = Math.round(plot.valToPos(threshold, "y", true)) + 0.5;
    ctx.strokeStyle = colour("--text");
    ctx.lineWidth = ratio;
    ctx.setLineDash([5 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.fillStyle = colour("--accent");
    for (const [start, stop] of wouldBe ?? []) {
      const left = plot.valToPos(columns.t[start], "x", true), right = plot.valToPos(columns.t[stop - 1], "x", true);
      ctx.fillRect(left, bbox.top + bbox.height - 4 * ratio, Math.max(right - left, 2 * ratio), 4 * ratio);
    }
  }

  // --- cursor and span

  moved(index) {
    if (this.held) return;
    this.cursor = index ?? null;
    this.pointed(this.cursor, false);
  }

  // Shows the cursor at a point. There may be more points than pixels: the place says nothing, so uPlot is not asked.
  mark(index) {
    this.cursor = index;
    this.held = true;
    const [plot] = this.plots, { columns } = this.shown;
    const left = index === null ? -10 : plot.valToPos(columns.t[index], "x"), top = index === null ? -10 : 10;
    for (const one of this.plots) one.setCursor({ left, top }, false, false);
    this.held = false;
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = plot.posToVal(left, "x"), to = plot.posToVal(left + width, "x");
    for (const one of this.plots) one.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.zoomed(from, to, false);
  }

  zoom(factor, brief = false) {
    const [from, to] = this.range, { columns } = this.shown;
    const at = this.cursor === null ? (from + to) / 2 : columns.t[this.cursor], share = clamp((at - from) / (to - from), 0, 1);
    const length = (to - from) / factor;
    this.zoomed(at - share * length, at + (1 - share) * length, brief);
  }

  pan(share, brief = false) {
    const [from, to] = this.range, by = share * (to - from);
    this.zoomed(from + by, to + by, brief);
  }

  key(event) {
    if (!this.shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = Date.now(), brief = now - (this.changed ?? 0) < FINE;
    const change = {
      "+": () => this.zoom(ZOOM, brief), "=": () => this.zoom(ZOOM, brief), "-": () => this.zoom(1 / ZOOM, brief),
      PageUp: () => this.pan(-0.5, brief), PageDown: () => this.pan(0.5, brief),
    }[event.key];
    if (change) {
      event.preventDefault();
      this.changed = now;
      change();
      return;
    }
    const to = this.step(event.key, event.shiftKey);
    if (to === null) return;
    event.preventDefault();
    this.mark(to);
    this.pointed(to, true);
  }

  // The point that a key leads to; null for other keys, and without points.
  step(key, far) {
    const { t, anomalous } = this.shown.columns, first = reach(t, this.range[0]), last = reach(t, this.range[1] + 1e-6) - 1;
    if (last < first) return null;
    const now = this.cursor === null ? last + 1 : clamp(this.cursor, first, last), by = far ? Math.max(Math.round((last - first) / 20), 1) : 1;
    switch (key) {
      case "ArrowLeft": return clamp(now - by, first, last);
      case "ArrowRight": return clamp(now + by, first, last);
      case "Home": return first;
      case "End": return last;
      case "n": return anomalous.find((i) => i > now && i <= last) ?? clamp(now, first, last);
      case "p": return anomalous.findLast((i) => i < now && i >= first) ?? clamp(now, first, last);
      default: return null;
    }
  }
}

const STEPS = [1e-3, 1e-2, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];
