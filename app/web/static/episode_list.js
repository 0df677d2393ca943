// Open episodes as entries, the worst first. An entry is made again when its row changes; its chart stays.

import { count, h, nameOf, iso, say, severity, time, titleOf } from "./dom.js";
import { REASONS, VERDICTS, factsOf, isOpen, since, notificationsOf, notifiedState, worstFirst, worstMetric } from "./episodes.js";
import { smallChart } from "./small_chart.js";

const FIRST = 20, MORE = 50; // entries shown, and how many more at a time
const AT_ONCE = 3, FAILED_MS = 20000; // charts asked for at once, and when one is tried again

export const sourceHref = ({ source, metric }) => `source?${new URLSearchParams(metric ? { source, metric } : { source })}`;

export class EpisodeList {
  // `points(row)` gives {points, again}: of its series, and in how many ms there may be others; `decide(kind, row)` is what a button does, or null.
  constructor(box, more, points, decide) {
    this.box = box;
    this.more = more;
    this.points = points;
    this.decide = decide;
    this.may = () => false;
    this.entries = new Map(); // episode -> entry
    this.most = FIRST;
    this.charts = new Charts(points);
    more.addEventListener("click", () => {
      const first = this.order?.[this.most];
      this.most += MORE;
      this.show(this.order ?? [], this.now);
      this.entries.get(first?.episode)?.node.querySelector("a")?.focus();
    });
  }

  show(rows, now) {
    this.order = [...rows].sort(worstFirst);
    this.now = now;
    const shown = this.order.slice(0, this.most), wanted = new Set(shown.map((row) => row.episode));
    for (const [name, entry] of this.entries) {
      if (wanted.has(name)) continue;
      this.charts.forget(entry);
      entry.node.remove();
      this.entries.delete(name);
    }
    const nodes = shown.map((row) => this.entry(row, now).node);
    const focus = this.box.contains(document.activeElement) ? document.activeElement : null;
    nodes.forEach((node, i) => { if (this.box.children[i] !== node) this.box.insertBefore(node, this.box.children[i] ?? null); });
    if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
    const left = this.order.length - shown.length;
    this.more.hidden = left === 0;
    say(this.more, `Show ${count(Math.min(left, MORE))} more of ${count(left)} that are less bad`);
  }

  entry(row, now) {
    const text = JSON.stringify(row) + this.may();
    let entry = this.entries.get(row.episode);
    if (!entry) {
      entry = { row, text: "", node: h("li", {}), chart: h("a", { class: "small-chart", href: sourceHref(row), tabindex: -1, title: "To its chart" }), again: 0 };
      this.entries.set(row.episode, entry);
      this.charts.watch(entry);
    }
    if (entry.text !== text) {
      const before = entry.node.contains(document.activeElement) ? document.activeElement.dataset.does : null;
      const changed = entry.row !== row;
      Object.assign(entry, { row, text });
      entry.node.replaceChildren(makeEntry(row, now, entry.chart, this.may() ? this.decide : null));
      if (before) (entry.node.querySelector(`[data-does="${before}"]`) ?? entry.node.querySelector("a, button"))?.focus({ preventScroll: true });
      if (changed) entry.again = 0;
    } else say(entry.node.querySelector(".since"), since(row, now));
    return entry;
  }
}

// What can be done about an episode, as [what, words].
const doesOf = (row) => [
  ...(isOpen(row) && !row.acknowledged ? [["acknowledge", "Acknowledge"]] : []),
  row.muted?.silence ? ["end", "End silence"] : ["silence", "Silence"],
  ["feedback", "Feedback"],
];

// One episode; without `decide` there are no buttons.
export function makeEntry(row, now, chart, decide) {
  const kind = severity(row.severity), open = isOpen(row);
  const name = h("h3", { class: "name" }, h("a", { href: sourceHref(row), title: titleOf(row), "data-does": "name" }, ...nameOf(row)));
  const facts = factsOf(row).map(([word, text]) => h("div", {}, word ? h("dt", {}, word) : null, h("dd", {}, text)));
  const buttons = decide ? doesOf(row).map(([does, text]) => {
    const button = h("button", { type: "button", "data-does": does, "aria-label": `${text}: ${[row.source, row.metric].filter(Boolean).join(" ")}` }, text);
    button.addEventListener("click", () => decide(does, row));
    return button;
  }) : [];
  return h("article", { class: `episode ${kind} ${open ? "open" : "closed"}`, "data-episode": row.episode },
    h("div", { class: "what" },
      h("div", { class: "line" },
        h("span", { class: `severity ${kind}` }, kind),
        name,
        row.kind ? h("span", { class: "kind", title: "What was found" }, row.kind) : null,
        row.acknowledged ? h("span", { class: "kind done" }, "acknowledged") : null,
        notifiedState(row) === "muted" ? h("span", { class: "kind done" }, "muted") : null),
      row.explanation ? h("p", { class: "why" }, row.explanation) : null,
      h("dl", { class: "facts" }, ...facts),
      h("p", { class: "quiet since", title: iso(row.opened_at) }, since(row, now)),
      open ? null : h("p", { class: "quiet" }, `ended: ${REASONS[row.reason] ?? row.reason ?? "no reason is given"}`),
      notifiedLine(row), ...decisions(row)),
    chart,
    buttons.length ? h("div", { class: "does" }, ...buttons) : null);
}

// Who was notified, when, or why not. An episode that is muted as a whole has its own line.
export function notifiedLine(row) {
  const words = notificationsOf(row).filter(([, , state]) => !(row.muted && state === "muted"));
  if (!words.length) return row.muted ? null : h("p", { class: "told" }, "nobody was notified so far");
  const parts = words.map(([channel, text, state, more]) => h("span", { class: `word ${state}`, title: more }, h("b", {}, channel), ` ${text}`));
  return h("p", { class: "told" }, words[0][2] === "sent" ? "notified: " : null, ...parts);
}

export function decisions(row) {
  const said = (what, { by, at, comment }) => h("p", { class: "decided" },
    h("b", {}, what), `${by ? ` by ${by}` : ""}${at ? ` at ${time(at)}` : ""}${comment ? `: ${comment}` : ""}`);
  const found = [];
  if (row.acknowledged) found.push(said("acknowledged", row.acknowledged));
  if (row.muted) {
    const { why, until, by } = row.muted;
    found.push(h("p", { class: "decided" }, h("b", {}, "muted"), `${until ? ` until ${time(until)}` : ""}${by ? ` by ${by}` : ""}${why ? `: ${why}` : ""}`));
  }
  if (row.feedback) found.push(said(VERDICTS[row.feedback.verdict] ?? row.feedback.verdict, row.feedback));
  return found;
}

// Draws charts of entries that are in sight, few at a time, and again while they stay there.
class Charts {
  constructor(points) {
    this.points = points;
    this.seen = new Set();
    this.busy = 0;
    this.of = new Map(); // chart's box -> entry
    this.eye = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const entry = this.of.get(target);
        if (entry) this.seen[isIntersecting ? "add" : "delete"](entry);
      }
      this.next();
    }, { rootMargin: "200px" });
    setInterval(() => { if (!document.hidden) this.next(); }, 1000);
  }

  watch(entry) {
    this.of.set(entry.chart, entry);
    this.eye.observe(entry.chart);
  }

  forget(entry) {
    this.eye.unobserve(entry.chart);
    this.of.delete(entry.chart);
    this.seen.delete(entry);
  }

  next() {
    for (const entry of this.seen) {
      if (this.busy >= AT_ONCE) return;
      if (Date.now() > entry.again) this.draw(entry);
    }
  }

  async draw(entry) {
    entry.again = Infinity;
    this.busy += 1;
    try {
      const { points, again } = await this.points(entry.row);
      drawChart(entry.chart, entry.row, points);
      entry.again = Date.now() + again;
    } catch (error) {
      noChart(entry.chart, error);
      entry.again = Date.now() + FAILED_MS;
    } finally {
      this.busy -= 1;
      this.next();
    }
  }
}

export function drawChart(box, row, points) {
  const picture = smallChart(points, worstMetric(row), Math.floor(box.clientWidth), row.opened_at);
  box.replaceChildren(picture ?? h("span", { class: "quiet" }, "too few points for a chart"));
}

// What was drawn before stays: it is better than none.
export function noChart(box, error) {
  if (!box.querySelector("svg")) box.replaceChildren(h("span", { class: "quiet" }, error.status === 404 ? "no points at hand" : `no chart: ${error.message}`));
}
