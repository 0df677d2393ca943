// Episodes of some hours as lanes: a row for each source, a bar for each episode. A span of time that is chosen there
// ranks the sources by what happened in it.

import { clock } from "./axes.js";
import { count, duration, h, iso, nameOf, say, severity, time } from "./dom.js";
import { SEVERITIES, isOpen, isReplayed, peakOf, placeOf, rankOf } from "./episodes.js";
import { sourceHref } from "./episode_list.js";

const ROWS = 30;
const LEAST_S = 60;   // an episode of one point counts as so long, or it would be nothing
const DRAG_PX = 5;    // less is a click
const WORD_PX = 50;   // a bar that has room for its severity

// [{source, episodes: [{row, from, to}], worst, sum}] of what lies in [from, to): sum of peak score x seconds in it.
// By that sum, or with `bySeverity` the worst severity first.
export function lanesOf(rows, from, to, now, bySeverity) {
  const lanes = new Map();
  for (const row of rows) {
    const [begin, until] = placeOf(row, now), end = Math.max(until, begin + LEAST_S);
    if (end <= from || begin >= to) continue;
    let lane = lanes.get(row.source);
    if (!lane) lanes.set(row.source, lane = { source: row.source, episodes: [], worst: SEVERITIES.length, sum: 0, open: false });
    lane.episodes.push({ row, from: begin, to: until });
    lane.worst = Math.min(lane.worst, rankOf(row));
    lane.sum += peakOf(row) * (Math.min(end, to) - Math.max(begin, from));
  }
  const first = bySeverity ? (a, b) => a.worst - b.worst || b.sum - a.sum : (a, b) => b.sum - a.sum || a.worst - b.worst;
  return [...lanes.values()].sort((a, b) => first(a, b) || (a.source < b.source ? -1 : 1));
}

export class Lanes {
  // `choose(from, to)` is called with a span, or null; `open(row)` with an episode that somebody opens.
  constructor({ box, readout, note }, choose, open) {
    this.box = box;
    this.readout = readout;
    this.note = note;
    this.choose = choose;
    this.open = open;
    this.rows = h("div", { class: "lane-rows" });
    this.ticks = h("div", { class: "ticks", "aria-hidden": "true" });
    this.shade = h("div", { class: "shade", "aria-hidden": "true" });
    this.plot = h("div", { class: "plot", "aria-hidden": "true" }, this.ticks, this.shade);
    this.box.append(this.plot, this.rows);
    this.bars = new Map(); // episode -> bar
    this.lanes = new Map(); // source -> row of the picture
    this.held = null;       // where a drag began
    this.current = null;    // the episode whose bar the keyboard is at
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    box.addEventListener("pointerup", (event) => this.up(event));
    box.addEventListener("pointercancel", () => this.drop());
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("focusin", (event) => this.describe(event.target.closest(".bar")));
    box.addEventListener("pointerover", (event) => this.describe(event.target.closest(".bar")));
  }

  // `span`: null, or [from, to] within [from, to] of the picture; `chosen`: the episode that is shown
  // elsewhere; `remark`: what may be missing.
  show(rows, { from, to, now, span, chosen, remark }) {
    Object.assign(this, { from, to, span, width: this.plot.clientWidth });
    const all = lanesOf(rows, ...(span ?? [from, to]), now, !span);
    const lanes = all.slice(0, ROWS);
    this.draw(lanes, rows, now, chosen);
    this.drawTicks();
    this.drawShade(span);
    const more = all.length - lanes.length;
    const what = span ? `Ranked by what happened from ${time(span[0])} to ${time(span[1])} UTC: the sum of peak score x minutes open (at least one).`
      : "The worst severity first, then the sum of peak score x minutes open. Drag over the lanes, or give two times, to rank by what happened in between.";
    say(this.note, `${what}${more ? ` And ${count(more)} more sources.` : ""}${remark ? ` Not all may be here: ${remark}.` : ""}`);
    return all.length;
  }

  percent(at) {
    return ((at - this.from) / (this.to - this.from)) * 100;
  }

  draw(lanes, rows, now, chosen) {
    const wanted = new Set(lanes.flatMap((lane) => lane.episodes.map(({ row }) => row.episode)));
    for (const [name, bar] of this.bars) if (!wanted.has(name)) { bar.remove(); this.bars.delete(name); }
    const sources = new Set(lanes.map((lane) => lane.source));
    for (const [source, lane] of this.lanes) if (!sources.has(source)) { lane.node.remove(); this.lanes.delete(source); }
    // Bars of a row in which a span is chosen are those of the whole picture.
    const beyond = new Map();
    if (this.span) {
      for (const lane of lanesOf(rows.filter((row) => sources.has(row.source)), this.from, this.to, now, true)) beyond.set(lane.source, lane.episodes);
    }
    const focus = this.box.contains(document.activeElement) ? document.activeElement : null;
    lanes.forEach((lane, i) => {
      const shown = this.lanes.get(lane.source) ?? this.makeLane(lane.source);
      const word = SEVERITIES[lane.worst];
      say(shown.word, word);
      shown.word.className = `severity ${word}`;
      say(shown.sum, lane.sum >= 6000 ? count(lane.sum / 60) : (lane.sum / 60).toFixed(1));
      const episodes = beyond.get(lane.source) ?? lane.episodes;
      shown.track.setAttribute("aria-label", `${lane.source}: ${episodes.length} ${episodes.length === 1 ? "episode" : "episodes"}, worst ${word}`);
      const bars = episodes.sort((a, b) => a.from - b.from || rankOf(b.row) - rankOf(a.row)).map((episode) => this.makeBar(episode, chosen));
      if (bars.length !== shown.track.children.length || bars.some((bar, k) => bar !== shown.track.children[k])) shown.track.replaceChildren(...bars);
      if (this.rows.children[i] !== shown.node) this.rows.insertBefore(shown.node, this.rows.children[i] ?? null);
    });
    if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
    this.rove();
  }

  makeLane(source) {
    const lane = {
      word: h("span", { class: "severity" }), sum: h("span", { class: "sum", title: "Sum of peak score x minutes open" }),
      track: h("div", { class: "track-of", role: "group" }),
    };
    lane.node = h("div", { class: "lane" }, h("div", { class: "lane-name" }, h("a", { href: sourceHref({ source }), title: source }, ...nameOf({ source })), lane.word),
      lane.track, lane.sum);
    this.lanes.set(source, lane);
    return lane;
  }

  makeBar({ row, from, to }, chosen) {
    let bar = this.bars.get(row.episode);
    if (!bar) {
      bar = h("button", { type: "button", tabindex: -1 });
      bar.dataset.episode = row.episode;
      this.bars.set(row.episode, bar);
    }
    bar.row = row;
    const kind = severity(row.severity), left = Math.max(this.percent(from), 0), width = Math.min(this.percent(to), 100) - left;
    const wide = (width / 100) * this.width >= WORD_PX;
    bar.className = `bar ${kind} ${isOpen(row) ? "open" : "closed"}`;
    bar.style.left = `${left.toFixed(3)}%`;
    bar.style.width = `${Math.max(width, 0).toFixed(3)}%`;
    say(bar, wide ? kind : "");
    bar.setAttribute("aria-label", words(row, from, to));
    bar.setAttribute("aria-pressed", row.episode === chosen);
    return bar;
  }

  // One bar can be reached by Tab; arrows go to the others.
  rove() {
    const at = this.bars.get(this.current) ?? this.rows.querySelector(".bar");
    for (const bar of this.bars.values()) bar.tabIndex = bar === at ? 0 : -1;
  }

  describe(bar) {
    if (!bar) return;
    say(this.readout, `${[bar.row.source, bar.row.metric].filter(Boolean).join(" ")}: ${bar.getAttribute("aria-label")}`);
    if (bar === document.activeElement && this.current !== bar.row.episode) {
      this.current = bar.row.episode;
      this.rove();
    }
  }

  key(event) {
    const bar = event.target.closest(".bar");
    if (!bar) return;
    const own = [...bar.parentNode.children], tracks = [...this.rows.querySelectorAll(".track-of")], row = tracks.indexOf(bar.parentNode);
    const near = (track) => track && [...track.children].reduce((a, b) => (Math.abs(middle(b) - middle(bar)) < Math.abs(middle(a) - middle(bar)) ? b : a));
    const next = {
      ArrowLeft: () => own[own.indexOf(bar) - 1], ArrowRight: () => own[own.indexOf(bar) + 1], ArrowUp: () => near(tracks[row - 1]),
      ArrowDown: () => near(tracks[row + 1]), Home: () => own[0], End: () => own.at(-1),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    next()?.focus();
  }

  drawTicks() {
    const width = this.plot.clientWidth;
    if (!width) return;
    this.ticks.replaceChildren(...clock(this.from, this.to, width * 1.4).map(([at, text]) => {
      const tick = h("span", { class: "tick" }, h("span", {}, text));
      tick.style.left = `${this.percent(at).toFixed(3)}%`;
      return tick;
    }));
  }

  drawShade(span) {
    this.shade.hidden = !span;
    if (!span) return;
    const [left, right] = span.map((at) => Math.min(Math.max(this.percent(at), 0), 100));
    this.shade.style.left = `${left}%`;
    this.shade.style.width = `${Math.max(right - left, 0.1)}%`;
  }

  // --- a span, by dragging

  timeAt(event) {
    const box = this.plot.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return this.from + share * (this.to - this.from);
  }

  down(event) {
    if (event.button !== 0 || !event.target.closest(".track-of, .plot")) return;
    this.held = { x: event.clientX, at: this.timeAt(event), bar: event.target.closest(".bar"), moved: false };
  }

  move(event) {
    if (!this.held) return;
    if (!this.held.moved && Math.abs(event.clientX - this.held.x) < DRAG_PX) return;
    if (!this.held.moved) this.box.setPointerCapture(event.pointerId);
    this.held.moved = true;
    this.drawShade(ordered(this.held.at, this.timeAt(event)));
  }

  up(event) {
    const { held } = this;
    if (!held) return;
    this.held = null;
    if (held.moved) this.choose(...ordered(held.at, this.timeAt(event)).map((at) => Math.round(at / 60) * 60));
  }

  drop() {
    this.held = null;
    this.drawShade(this.span);
  }
}

const ordered = (a, b) => (a < b ? [a, b] : [b, a]);
const middle = (bar) => bar.offsetLeft + bar.offsetWidth / 2;

function words(row, from, to) {
  const when = isReplayed(row) ? [`came at ${time(from)} UTC with points of ${time(row.opened_at)}`, isOpen(row) ? "still open" : ""]
    : [`${time(from)} ${isOpen(row) ? "until now, still open" : `to ${time(to)} UTC`}`, duration(to - from)];
  return [severity(row.severity), row.metric, row.kind, ...when, `peak ${peakOf(row).toFixed(2)}`].filter(Boolean).join(", ");
}

// --- two times as the inputs have them: UTC, to the minute

export const toInput = (at) => (at === null ? "" : iso(at).slice(0, 16));

export function fromInput(text) {
  const at = Date.parse(/Z$|[+-]\d\d:?\d\d$/.test(text) ? text : `${text}Z`) / 1000;
  return Number.isFinite(at) ? at : null;
}
