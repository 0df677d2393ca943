// What every page has around its content: navigation, the state of the worker and of the connection, who is logged in.
// `start` calls the page's `load` at the beginning, every few seconds and when the connection is back, and shows when
// it fails; what comes over the WebSocket goes to `receive`.

import { get, leave, remove, session } from "./api.js";
import { count, el, h, say, time } from "./dom.js";
import { Live } from "./live.js";

const LOAD_MS = 5000;       // lists, counts and health; values in between come over the WebSocket
const DEAD_LETTERS_S = 300; // so long ago the last one of a reason may be
const PAGES = [["now", "Now", "./"], ["source", "Source", "source"], ["system", "System", "system"], ["docs", "API", "docs"]];
const BRAND = "faust-anomaly";

// page: one of PAGES, or another name. title(statistics): of the window, before the program's name.
// load(everything): get and show; `everything` is false while the WebSocket says what changes.
// health(health), statistics(statistics): called with each new one. connected(is): of the WebSocket.
export function start({ page, title = () => "", load = async () => {}, receive = () => {}, health = () => {}, statistics = () => {}, connected = () => {} }) {
  let updates = null;  // push, poll or off: the worker says
  let answered = null; // when the worker last answered, ms
  let notes = "";      // of the page, in the banner
  let trouble = "";    // of the worker, in the banner
  frame(page);

  const live = new Live((message) => {
    answers();
    if (message.type === "statistics") show(message.statistics);
    receive(message);
  }, (is, again) => {
    connected(is);
    connection();
    if (is && again) refresh(true).catch(lost); // what was missed
  });

  function answers() {
    answered = Date.now();
    say(el("as-of"), time(answered / 1000));
  }

  function lost(error) {
    if (error.status === 401) return;
    if (error.status) {
      banner(`The worker refused: ${error.message}`);
      return;
    }
    pill("unreachable", "bad");
    const problem = answered ? `has not answered since ${time(answered / 1000)} UTC; the figures are from then` : "does not answer";
    banner(`The worker ${problem}. Retrying. (${error.message})`);
  }

  function connection() {
    const words = updates === "off" ? "not updating" : updates === "poll" ? "every 5 s" : live.connected ? "live" : "connecting";
    say(el("live"), updates ? words : "");
  }

  function show(found) {
    updates = found.updates;
    const states = [found.results.state, found.anomalies.state].filter((state) => !["reading", "connecting"].includes(state));
    const said = [...new Set(states)].map((state) => `Kafka: ${state}.`);
    if (found.unreadable) said.push(`${count(found.unreadable)} records of the output topics could not be read.`);
    if (updates === "off") said.push("Live updates are off (dashboard.real_time_updates): reload the page for new results.");
    trouble = said.join(" ");
    banner([trouble, notes].filter(Boolean).join(" "));
    const name = title(found);
    document.title = name ? `${name} ${BRAND}` : BRAND;
    connection();
    answers();
    statistics(found);
  }

  async function refresh(everything) {
    const [figures, state] = await Promise.all([get("api/statistics"), get("api/health")]);
    show(figures);
    showHealth(state, page);
    health(state);
    await load(everything);
  }

  async function repeat() {
    try {
      if (!document.hidden) await refresh(updates !== "push" || !live.connected);
    } catch (error) {
      lost(error);
    }
    if (updates !== "off") setTimeout(repeat, LOAD_MS);
  }

  async function begin() {
    document.addEventListener("visibilitychange", () => { if (!document.hidden && updates !== "off") refresh(true).catch(lost); });
    const asked = session().then(showUser, (error) => { if (error.status === 401) leave(); });
    await repeat();
    if (updates === "push") live.connect();
    await asked;
  }

  begin();
  return {
    live,
    lost,
    refresh: () => refresh(true).catch(lost),
    // A line of the page's own in the banner; "" takes it away.
    note(text) { notes = text; banner([trouble, notes].filter(Boolean).join(" ")); },
  };
}

// Read out by screen readers, when they have time.
export const announce = (text) => say(el("announce"), text);

function frame(page) {
  const links = PAGES.map(([name, text, href]) => h("a", { href, "aria-current": name === page ? "page" : null }, text));
  el("shell").prepend(
    h("a", { class: "skip", href: "#main" }, "Skip to content"),
    h("a", { class: "brand", href: "./", title: BRAND }, h("span", {}, BRAND)),
    h("nav", { "aria-label": "Pages" }, ...links));
  el("shell").append(
    h("div", { class: "condition" },
      h("details", { id: "health", class: "health" },
        h("summary", {}, h("span", { id: "health-word", class: "pill" }, "connecting")),
        h("dl", { id: "health-details" })),
      h("p", { class: "quiet as-of", title: "Time of the worker's last answer to this page, UTC" }, h("span", { id: "live" }), " ", h("span", { id: "as-of" }, "–"))),
    h("div", { id: "user", class: "user", hidden: "" }));
  el("shell").after(
    h("p", { id: "banner", class: "banner", role: "status", hidden: "" }),
    h("ul", { id: "dead-letters", class: "banner", "aria-label": "Records that could not be read", hidden: "" }));
  document.body.append(h("p", { id: "announce", class: "unseen", "aria-live": "polite" }));
  const box = el("health");
  addEventListener("click", (event) => { if (box.open && !box.contains(event.target)) box.open = false; });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.open) return;
    box.open = false;
    event.stopPropagation();
    box.querySelector("summary").focus();
  });
}

function pill(word, kind) {
  const node = el("health-word");
  say(node, word);
  node.className = `pill ${kind}`;
}

function banner(text) {
  el("banner").hidden = !text;
  say(el("banner"), text);
}

function showHealth({ alive, ready, details }, page) {
  if (!alive) pill("failing", "bad");
  else if (!ready) pill("not ready", "warn");
  else pill("ready", "good");
  const { dead_letters: letters = [], ...others } = details;
  showDeadLetters(page === "system" ? [] : letters.filter(({ last }) => Date.now() / 1000 - last < DEAD_LETTERS_S));
  const facts = Object.entries(others).map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))));
  el("health-details").replaceChildren(...(facts.length ? facts : [h("div", {}, h("dt", {}, "details"), h("dd", {}, "none"))]));
}

function showDeadLetters(letters) {
  el("dead-letters").hidden = !letters.length;
  el("dead-letters").replaceChildren(...letters.map(({ reason, total, last }) =>
    h("li", {}, `${count(total)} dead letters of this worker: ${reason.replaceAll("_", " ")}, the last at ${time(last)} UTC. `, h("a", { href: "system#dead-letters-panel" }, "What to do"))));
}

function showUser({ name, roles }) {
  if (!name) return;
  const out = h("button", { type: "button", class: "plain" }, "Log out");
  out.addEventListener("click", async () => {
    try { await remove("api/session"); } catch (error) { if (error.status !== 401) { banner(`Not logged out: ${error.message}`); return; } }
    location.assign("login");
  });
  el("user").hidden = false;
  el("user").replaceChildren(h("span", { class: "name", title: `May ${roles.join(", ")}` }, h("bdi", {}, name)), out);
}
