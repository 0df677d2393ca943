// Value over event time with its expected band, marked anomalies and drifts; the anomaly score beneath. Plain SVG.

import { clamp, clock, label, line, nearest, range, round, scale, spread, ticks } from "./axes.js";
import { cell, iso, number, rough, score, severity, svg, time, valueOf } from "./dom.js";

const HEIGHT = 230, STRIP = 60, GAP = 24, RIGHT = 12, TOP = 8, BOTTOM = 20;

export class Chart {
  // `describePoint(text)` shows the text of the point under the cursor, or of the last one.
  constructor(box, describePoint) {
    this.box = box;
    this.describePoint = describePoint;
    this.points = [];
    this.cursor = null;
    this.planned = false;
    new ResizeObserver(() => this.plan()).observe(box);
    box.addEventListener("pointermove", (event) => this.point(event));
    box.addEventListener("pointerleave", () => this.at(null));
    box.addEventListener("keydown", (event) => this.key(event));
  }

  show(points, metric, threshold) {
    // By event time: late points come late. Where times are equal the order of arrival stays.
    this.points = points.filter((p) => typeof valueOf(p, metric) === "number")
      .sort((a, b) => a.timestamp - b.timestamp);
    this.metric = metric;
    this.threshold = threshold;
    if (this.cursor !== null && this.cursor >= this.points.length) this.cursor = null;
    this.plan();
  }

  plan() {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => { this.planned = false; this.draw(); });
  }

  draw() {
    const width = Math.floor(this.box.clientWidth);
    const { points, metric } = this;
    if (width < 120 || points.length === 0) { this.box.replaceChildren(); this.describePoint(""); return; }
    const values = points.map((p) => valueOf(p, metric));
    const lower = points.map((p) => cell(p, "expected_lower", metric));
    const upper = points.map((p) => cell(p, "expected_upper", metric));
    const [low, high] = range(values, lower, upper);
    const levels = ticks(low, high, 5).map((tick) => [tick, number(tick)]);
    const left = Math.max(...levels.map(([, text]) => text.length)) * 6.5 + 18;
    const x = scale(...spread(points[0].timestamp, points.at(-1).timestamp, 1), left, width - RIGHT);
    const y = scale(low, high, HEIGHT - BOTTOM, TOP);
    const zero = HEIGHT + GAP + STRIP, s = scale(0, 1, zero, HEIGHT + GAP);
    this.xs = points.map((p) => x(p.timestamp));
    this.y = y;

    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${zero + BOTTOM}`, width, height: zero + BOTTOM, role: "img", tabindex: 0,
      "aria-label": this.summary(values),
    });
    for (const [tick, text] of levels) {
      picture.append(line("grid", left, width - RIGHT, y(tick), y(tick)), label(left - 6, y(tick) + 4, text, "end"));
    }
    for (const [tick, text] of clock(points[0].timestamp, points.at(-1).timestamp, width)) {
      picture.append(line("grid", x(tick), x(tick), TOP, HEIGHT - BOTTOM), label(clamp(x(tick), left, width - text.length * 3.3), HEIGHT - 4, text, "middle"),
        line("grid", x(tick), x(tick), HEIGHT + GAP, zero));
    }
    picture.append(svg("path", { class: "band", d: band(this.xs, lower, upper, y) }));
    picture.append(svg("path", { class: "value", d: this.path(values, y) }));
    picture.append(label(left, HEIGHT + GAP - 6, "anomaly score", "start"));
    for (const tick of [0, 1]) {
      picture.append(line("grid", left, width - RIGHT, s(tick), s(tick)), label(left - 6, s(tick) + 4, String(tick), "end"));
    }
    const thick = round(clamp((width - left) / points.length * 0.6, 1.2, 5));
    const bars = { calm: "", low: "", medium: "", high: "", critical: "" };
    points.forEach((p, i) => {
      const kind = p.is_anomaly ? severity(p.severity) : "calm";
      bars[kind] += `M${round(this.xs[i])} ${zero}V${round(s(clamp(p.anomaly_score ?? 0, 0, 1)))}`;
      const anomalous = p.is_anomaly;
      if (anomalous || points.length <= 60) {
        const opener = anomalous && p.id === p.episode;
        picture.append(svg("circle", {
          class: anomalous ? `mark ${kind}` : "dot", cx: round(this.xs[i]), cy: round(y(values[i])), r: opener ? 4.5 : anomalous ? 3 : 1.8,
        }));
      }
    });
    for (const [kind, d] of Object.entries(bars)) if (d) picture.append(svg("path", { class: `bar ${kind}`, d, "stroke-width": thick }));
    if (typeof this.threshold === "number") {
      const at = s(this.threshold);
      picture.append(line("threshold", left, width - RIGHT, at, at), label(left - 6, at + 4, number(this.threshold), "end"));
    }
    points.forEach((p, i) => { if (p.drift) picture.append(line("drift", this.xs[i], this.xs[i], TOP, zero)); });
    this.hair = line("hair", 0, 0, TOP, zero);
    this.ring = svg("circle", { class: "ring", r: 5.5 });
    picture.append(this.hair, this.ring);
    const focused = this.box.contains(document.activeElement);
    this.box.replaceChildren(picture);
    if (focused) picture.focus({ preventScroll: true });
    this.at(this.cursor);
  }

  // A gap in time much longer than usual breaks the line: nothing is known about what lies between.
  path(values, y) {
    const steps = this.points.slice(1).map((p, i) => p.timestamp - this.points[i].timestamp);
    const usual = [...steps].sort((a, b) => a - b)[steps.length >> 1];
    return values.map((value, i) => {
      const broken = i === 0 || (usual > 0 && steps[i - 1] > 10 * usual);
      return `${broken ? "M" : "L"}${round(this.xs[i])} ${round(y(value))}`;
    }).join("");
  }

  summary(values) {
    const odd = this.points.filter((p) => p.is_anomaly).length, drifts = this.points.filter((p) => p.drift).length;
    return `${this.metric}: ${values.length} points from ${iso(this.points[0].timestamp)} to ` +
      `${iso(this.points.at(-1).timestamp)}, ${odd} anomalous,${drifts ? ` ${drifts} drifted,` : ""} last ${number(values.at(-1))}. Arrow keys read points.`;
  }

  point(event) {
    this.at(nearest(this.xs ?? [], event.clientX - this.box.getBoundingClientRect().left));
  }

  key(event) {
    const last = this.points.length - 1;
    const now = this.cursor ?? last;
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.at(clamp(next, 0, last));
  }

  at(index) {
    this.cursor = index;
    if (!this.hair || this.points.length === 0) return;
    const shown = index ?? this.points.length - 1;
    const p = this.points[shown], value = valueOf(p, this.metric);
    for (const node of [this.hair, this.ring]) node.classList.toggle("on", index !== null);
    this.hair.setAttribute("x1", this.xs[shown]);
    this.hair.setAttribute("x2", this.xs[shown]);
    this.ring.setAttribute("cx", this.xs[shown]);
    this.ring.setAttribute("cy", this.y(value));
    this.describePoint(describe(p, this.metric));
  }
}

export function describe(p, metric) {
  const lower = cell(p, "expected_lower", metric), upper = cell(p, "expected_upper", metric);
  const parts = [`${time(p.timestamp)} UTC`, `${metric} ${number(valueOf(p, metric))}`];
  if (lower !== null && upper !== null) parts.push(`expected ${rough(lower)} to ${rough(upper)}`);
  parts.push(`score ${score(p.anomaly_score)}`);
  if (p.status === "warming_up") parts.push("warming up");
  else if (p.is_anomaly) parts.push(["anomalous", severity(p.severity), p.kind].filter(Boolean).join(", "));
  if (p.maintenance) parts.push(`maintenance: ${p.maintenance}`);
  if (p.drift) parts.push("drift: scores have settled on another level");
  return parts.join("   ");
}

// Runs of points that have a band, each as one closed shape.
function band(xs, lower, upper, y) {
  let path = "", start = 0;
  for (let i = 0; i <= xs.length; i++) {
    if (i < xs.length && lower[i] !== null && upper[i] !== null) continue;
    if (i > start) {
      const there = [], back = [];
      for (let k = start; k < i; k++) {
        there.push(`${round(xs[k])} ${round(clamp(y(upper[k]), TOP, HEIGHT - BOTTOM))}`);
        back.push(`${round(xs[k])} ${round(clamp(y(lower[k]), TOP, HEIGHT - BOTTOM))}`);
      }
      path += `M${there.join("L")}L${back.reverse().join("L")}Z`;
    }
    start = i + 1;
  }
  return path;
}
