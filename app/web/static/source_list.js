// Which sources there are: found by a part of their names, each a link to its page.

import { get } from "./api.js";
import { count, el, h, metricsOf, nameOf, number, say, score, severity, time, titleOf, valueOf } from "./dom.js";
import { read, write } from "./url_state.js";

const MOST = 200, TYPING_MS = 150;

export const hrefOf = ({ source, metric }, more = {}) => `source?${new URLSearchParams({ source, ...(metric ? { metric } : {}), ...more })}`;

export class SourceList {
  constructor(fail) {
    this.asked = 0;
    this.rows = new Map();
    let typing = null;
    const again = () => this.load(true).catch(fail);
    el("search").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => { write({ search: el("search").value }, true); again(); }, TYPING_MS);
    });
    el("sort").addEventListener("change", () => { write({ sort: el("sort").value === "score" ? "" : el("sort").value }, true); again(); });
  }

  show() {
    const { search, sort } = read(["search", "sort"]);
    if (document.activeElement !== el("search")) el("search").value = search;
    if (sort) el("sort").value = sort;
    return this.load(true);
  }

  // Each few seconds; but not when it was loaded just now.
  again() {
    return Date.now() - (this.loaded ?? 0) < 1000 ? null : this.load();
  }

  async load(force = false) {
    this.loaded = Date.now();
    const number = ++this.asked, search = el("search").value;
    const list = await get(`api/sources?${new URLSearchParams({ search, sort: el("sort").value, limit: MOST })}`);
    if (number !== this.asked) return; // an older answer must not win
    const held = !force && this.rows.size > 0 && (el("sources").matches(":hover") || el("sources").contains(document.activeElement));
    const nodes = list.sources.map((point) => this.entry(point));
    if (!held) el("sources").replaceChildren(...nodes);
    el("no-sources").hidden = list.matching > 0;
    el("no-sources").replaceChildren(...(list.known === 0 ? [
      h("p", { class: "strong" }, "No results yet"), h("p", {}, "Sources appear here as soon as they are scored. The page ", h("a", { href: "./" }, "Now"), " says how to send points."),
    ] : [h("p", { class: "strong" }, `No name contains “${search}”`), h("p", {}, "The view knows sources with a result since it started, 10,000 of them at most.")]));
    const total = list.matching === list.known ? count(list.known) : `${count(list.matching)} matching of ${count(list.known)}`;
    say(el("choose-note"), list.known === 0 ? "" : list.sources.length < list.matching
      ? `The first ${count(list.sources.length)} of ${total} series; type a part of a name to find others.` : `${total} series`);
  }

  // Entries are kept: what did not change is not made again.
  entry(point) {
    const key = JSON.stringify([point.source, point.metric ?? ""]), text = JSON.stringify(point), before = this.rows.get(key);
    if (before?.text === text) return before.node;
    const kind = point.is_anomaly ? severity(point.severity) : "", names = metricsOf(point);
    const fill = h("span", { class: "fill" });
    fill.style.width = `${Math.min(Math.max(point.anomaly_score ?? 0, 0), 1) * 100}%`;
    const node = before?.node ?? h("li", {});
    node.className = kind;
    const link = h("a", { href: hrefOf(point), title: titleOf(point) },
      h("span", { class: "name" }, ...nameOf(point)),
      h("span", { class: "value" }, names.length > 1 ? `${names.length} metrics` : number(valueOf(point, names[0]))),
      h("span", { class: "track", "aria-hidden": "true" }, fill), h("span", { class: "figure", title: "anomaly score" }, score(point.anomaly_score)),
      h("span", { class: `word ${kind}` }, kind || (point.status === "ok" ? "ok" : (point.status ?? "").replace("_", " "))),
      h("span", { class: "quiet when" }, time(point.timestamp)));
    const focused = node.contains(document.activeElement);
    node.replaceChildren(link);
    if (focused) link.focus({ preventScroll: true });
    if (this.rows.size > 4 * MOST) this.rows.clear();
    this.rows.set(key, { text, node });
    return node;
  }
}
