// The table of sources: the latest result of each, in an order that is kept while results come in.

import { count, h, iso, metricsOf, nameOf, number, say, score, severity, time, titleOf, valueOf } from "./dom.js";
import { sourceHref } from "./episode_list.js";

const MOST = 200;     // rows
const HELD_MS = 5000; // so long nothing moves after somebody has pointed at it

const keyOf = ({ source, metric }) => JSON.stringify([source, metric ?? ""]);

const named = (a, b) => (a.source !== b.source ? (a.source < b.source ? -1 : 1) : (a.metric ?? "") < (b.metric ?? "") ? -1 : (a.metric ?? "") > (b.metric ?? "") ? 1 : 0);
const alerted = (point) => (point.alert_score >= 0.5 ? point.alert_score : 0);

// As app/web/topics/records.py has them.
export const ORDERS = {
  score: (a, b) => (b.anomaly_score ?? 0) - (a.anomaly_score ?? 0) || named(a, b),
  alert: (a, b) => Boolean(b.is_anomaly) - Boolean(a.is_anomaly) || alerted(b) - alerted(a) || named(a, b),
  source: named,
  recent: (a, b) => b.timestamp - a.timestamp || named(a, b),
};

// Whether somebody is about to choose something in `box`: nothing in it may move then.
export class Held {
  constructor(box, released) {
    this.box = box;
    this.until = 0;
    const touch = () => {
      this.until = Date.now() + HELD_MS;
      clearTimeout(this.timer);
      this.timer = setTimeout(released, HELD_MS + 10);
    };
    const leave = () => { if (!box.matches(":hover")) { this.until = 0; clearTimeout(this.timer); released(); } };
    for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) box.addEventListener(kind, touch);
    box.addEventListener("pointerleave", leave);
    box.addEventListener("focusout", (event) => { if (!box.contains(event.relatedTarget)) leave(); });
  }

  get is() {
    return Date.now() < this.until && (this.box.matches(":hover") || this.box.contains(document.activeElement));
  }
}

export class SourceTable {
  // `get` asks the API; `begin()` gives what stands there while nothing is known.
  constructor({ table, body, note, empty }, get, begin) {
    Object.assign(this, { table, body, note, empty, get, begin });
    this.points = new Map(); // key -> latest result
    this.rows = new Map();   // key -> row of the table
    this.total = { known: 0, matching: 0 };
    this.asked = 0;          // number of the last request: an older answer must not win
    this.held = new Held(body, () => this.show());
  }

  async load(search, sort) {
    const number = ++this.asked;
    const found = await this.get(`api/sources?${new URLSearchParams({ search, sort, limit: MOST })}`);
    if (number !== this.asked) return found.known;
    const other = search !== this.search || sort !== this.sort;
    Object.assign(this, { search, sort, total: found, complete: found.sources.length === found.matching });
    this.points = new Map(found.sources.map((point) => [keyOf(point), point]));
    this.show(other);
    return found.known;
  }

  // Results that came since: those of rows here, and others that belong here.
  add(points) {
    if (this.sort === undefined) return;
    const needle = this.search.toLowerCase();
    for (const point of points) {
      const name = `${point.source}${point.metric ? ` ${point.metric}` : ""}`.toLowerCase();
      if (this.points.has(keyOf(point)) || (this.sort !== "source" && name.includes(needle))) this.points.set(keyOf(point), point);
    }
    this.show();
  }

  show(force = false) {
    if (this.sort === undefined || (this.held.is && !force && this.rows.size)) return this.say();
    const order = [...this.points.values()].sort(ORDERS[this.sort]).slice(0, MOST);
    this.points = new Map(order.map((point) => [keyOf(point), point]));
    for (const key of this.rows.keys()) if (!this.points.has(key)) this.rows.delete(key);
    const nodes = order.map((point) => {
      const key = keyOf(point);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, row = makeRow(point));
      if (row.point !== point) patch(row, point, this.table);
      return row.node;
    });
    if (nodes.length !== this.body.children.length || nodes.some((node, i) => node !== this.body.children[i])) {
      const focus = this.body.contains(document.activeElement) ? document.activeElement : null;
      this.body.replaceChildren(...nodes);
      if (focus?.isConnected) focus.focus({ preventScroll: true });
    }
    this.say();
  }

  say() {
    const { known, matching } = this.total, shown = this.rows.size;
    this.table.hidden = known === 0 || matching === 0;
    this.empty.hidden = matching > 0;
    if (known === 0) this.empty.replaceChildren(...this.begin());
    else if (matching === 0) this.empty.replaceChildren(h("p", {}, `No name contains “${this.search}”.`));
    const total = matching === known ? count(known) : `${count(matching)} matching of ${count(known)}`;
    const text = known === 0 ? "" : shown < matching ? `The first ${count(shown)} of ${total}; filter by name to see others` : `${total} series`;
    say(this.note, this.held.is ? `${text}; held still while you are in it` : text);
  }
}

function reading(point) {
  const names = metricsOf(point);
  return names.length > 1 ? `${names.length} metrics` : number(valueOf(point, names[0]));
}

function state(point) {
  if (point.is_anomaly) return [severity(point.severity), severity(point.severity)];
  if (point.status === "warming_up") return ["warming up", ""];
  if (point.status === "degraded") return ["degraded", "medium"];
  return ["ok", ""];
}

function makeRow(series) {
  const row = {
    value: h("td", { class: "number value" }), fill: h("span", { class: "fill" }), score: h("span", { class: "figure" }),
    status: h("td", { class: "status" }), time: h("td", { class: "number time" }),
  };
  const link = h("a", { href: sourceHref(series), title: titleOf(series) }, ...nameOf(series));
  row.node = h("tr", {}, h("th", { scope: "row", class: "name" }, link), row.value,
    h("td", { class: "score" }, row.score, h("span", { class: "track", "aria-hidden": "true" }, row.fill)), row.status, row.time);
  row.node.addEventListener("click", (event) => { if (!event.target.closest("a")) link.click(); });
  return row;
}

function patch(row, point, table) {
  const [word, kind] = state(point);
  say(row.value, reading(point));
  say(row.score, score(point.anomaly_score));
  row.fill.style.width = `${Math.min(Math.max(point.anomaly_score ?? 0, 0), 1) * 100}%`;
  say(row.status, word);
  say(row.time, time(point.timestamp));
  if (row.time.textContent.length > 8) table.classList.add("dated");
  row.time.title = iso(point.timestamp);
  row.status.title = point.is_anomaly ? "in an episode" : "";
  row.point = point;
  row.node.className = `${point.is_anomaly ? "anomalous" : ""} ${kind}`;
}
