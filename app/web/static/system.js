// The page System: how the program itself is. Rates are kept in the page while it is open.

import { get, session } from "./api.js";
import { clock, label, line, scale, ticks } from "./axes.js";
import { count, duration, el, h, number, rate, say, svg, time } from "./dom.js";
import { start } from "./shell.js";

const KEPT_S = 600, HEIGHT = 150, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 20;
const RECENT_S = 300;  // so long a dead letter is news
const BEHIND = 8;      // partitions with lag that are listed

const rates = [];      // {at, all, own}: epoch s, results/s, records/s or null
let found = null;      // of api/system
let groups = null;     // of api/workers
let lastStatistics = null;

// --- throughput

function statistics(figures) {
  lastStatistics = figures;
  const at = Date.now() / 1000;
  rates.push({ at, all: figures.results.per_s ?? 0, own: figures.worker.records_per_s });
  while (rates[0].at < at - KEPT_S) rates.shift();
  say(el("results-rate"), rate(figures.results.per_s));
  say(el("records-rate"), rate(figures.worker.records_per_s));
  say(el("lag"), count(figures.worker.lag_records));
  say(el("series"), count(figures.worker.sources_active));
  drawRates();
}

function drawRates() {
  const box = el("rate-chart"), width = Math.floor(box.clientWidth) - 16;
  if (width < 120 || rates.length < 2) return;
  const high = Math.max(1, ...rates.map(({ all, own }) => Math.max(all, own ?? 0))) * 1.08;
  const from = rates[0].at, to = Math.max(rates.at(-1).at, from + 60);
  const x = scale(from, to, LEFT, width - RIGHT), y = scale(0, high, HEIGHT - BOTTOM, TOP);
  const last = rates.at(-1);
  const picture = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": `Rates of ${duration(last.at - from)}: ${rate(last.all)} results per second of all workers, ${rate(last.own)} records per second of this one`,
  });
  for (const tick of ticks(0, high, 3)) picture.append(line("grid", LEFT, width - RIGHT, y(tick), y(tick)), label(LEFT - 6, y(tick) + 4, number(tick), "end"));
  for (const [at, text] of clock(from, to, width)) {
    const place = x(at);
    if (place > LEFT + 20 && place < width - 30) picture.append(line("grid", place, place, TOP, HEIGHT - BOTTOM), label(place, HEIGHT - 5, text, "middle"));
  }
  for (const kind of ["own", "all"]) {
    const known = rates.filter((one) => typeof one[kind] === "number");
    const d = known.map((one, i) => `${i ? "L" : "M"}${x(one.at).toFixed(1)} ${y(one[kind]).toFixed(1)}`).join("");
    picture.append(svg("path", { class: `line ${kind}`, d }));
  }
  box.replaceChildren(picture);
}

// --- workers

// 0, 1, 2, 5 -> "0–2, 5"
function ranges(numbers) {
  const parts = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a}–${b}`)).join(", ") || "none";
}

function partitionsOf(member) {
  const topics = Object.entries(member.partitions);
  if (!topics.length) return "none: waits to take over";
  return topics.map(([topic, numbers]) => (topics.length > 1 ? `${topic}: ${ranges(numbers)}` : ranges(numbers))).join("; ");
}

const STATES = {
  Stable: "", Empty: "nobody is in it", Dead: "nobody is in it", PreparingRebalance: "shares out the partitions",
  CompletingRebalance: "shares out the partitions",
};

function showGroup(group) {
  const title = group.does === "scores" ? "score points" : "send notifications";
  const state = group.problem ? "" : STATES[group.state] ?? group.state;
  const head = h("h3", {}, `Those who ${title}`, h("span", { class: "quiet" }, [group.name, state].filter(Boolean).join(" · ")));
  if (group.problem) return h("div", { class: "group" }, head, h("p", { class: "trouble" }, `Not known: ${group.problem}`));
  const rows = group.members.map((member) => h("tr", {},
    h("th", { scope: "row", class: "wide" }, h("bdi", {}, member.host), " ", h("span", { class: "address" }, h("bdi", {}, member.client)), member.this ? h("span", { class: "tag" }, "this one") : null),
    h("td", { "data-name": "Partitions" }, partitionsOf(member)),
    h("td", { class: "number", "data-name": "Lag" }, member.lag === null ? "not known" : count(member.lag))));
  const table = rows.length ? h("table", { class: "cards" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Worker"), h("th", { scope: "col" }, "Partitions"), h("th", { scope: "col", class: "number" }, "Lag"))),
    h("tbody", {}, ...rows)) : h("p", { class: "trouble" }, "Nobody is in the group now.");
  const free = Object.entries(group.unassigned).map(([topic, numbers]) => h("p", { class: "trouble" }, `Nobody has ${topic} ${ranges(numbers)}.`));
  return h("div", { class: "group" }, head, table, ...(rows.length ? free : []), behind(group));
}

// The partitions that are furthest behind. Commits follow each second, so a second's records are always behind.
function behind(group) {
  const all = Object.entries(group.lag).flatMap(([topic, of]) => Object.entries(of).map(([n, lag]) => [topic, n, lag]));
  const usual = Math.max(100, 2 * (lastStatistics?.results.per_s ?? 0));
  const late = all.filter(([, , lag]) => lag > usual).sort((a, b) => b[2] - a[2]);
  if (!late.length) return null;
  const most = late[0][2], topics = new Set(all.map(([topic]) => topic)).size;
  const rows = late.slice(0, BEHIND).flatMap(([topic, n, lag]) => {
    const bar = h("span");
    bar.style.width = `${(100 * lag) / most}%`;
    return [h("span", {}, topics > 1 ? `${topic}, partition ${n}` : `partition ${n}`), h("span", { class: "bar", "aria-hidden": "true" }, bar), h("span", { class: "number" }, count(lag))];
  });
  const more = late.length > BEHIND ? [h("span", { class: "quiet" }, `and ${late.length - BEHIND} others`), h("span"), h("span")] : [];
  return h("div", { class: "behind" }, h("p", {}, "Furthest behind, in records"), ...rows, ...more);
}

function showWorkers() {
  const scoring = groups.groups.find((group) => group.does === "scores");
  say(el("workers-note"), scoring && !scoring.problem ? `as Kafka says, ${time(groups.at)} UTC` : "");
  el("groups").replaceChildren(...groups.groups.map(showGroup));
}

// --- dead letters

function showLetters() {
  const { dead_letters: letters, dead_letters_topic: topic, skipped } = found;
  const total = letters.reduce((sum, one) => sum + one.total, 0);
  say(el("letters-note"), total ? `${count(total)} of this worker since its start, in ${topic}` : "");
  const passed = Object.entries(skipped).map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`);
  const left = passed.length ? [h("p", { class: "note" }, `Left out on purpose: ${passed.join(", ")}.`)] : [];
  if (!letters.length) {
    el("letters").replaceChildren(h("p", { class: "empty" }, "This worker could read every record since its start. What it cannot read goes to ", h("code", {}, topic), ", with the reason."), ...left);
    return;
  }
  el("letters").replaceChildren(...letters.map((one) => h("div", { class: "letter" },
    h("div", { class: "head" }, h("span", { class: "reason" }, one.reason.replaceAll("_", " ")), h("span", {}, count(one.total)), h("span", { class: "times" }, `the last ${ago(one.last)}, ${time(one.last)} UTC`)),
    h("p", {}, one.to_do),
    h("code", {}, one.example))), ...left);
}

const ago = (at) => `${duration(Math.max(found.process.now - at, 0))} ago`;

// --- channels

const CHANNEL = { up: ["up", "good"], failing: ["failing", "warn"], down: ["down", "bad"], unused: ["not used yet", ""] };

function showChannels() {
  if (!found.channels.length) {
    el("channels").replaceChildren(h("p", { class: "empty" }, "This process sends no notifications: alerting.enabled is false."));
    return;
  }
  const rows = found.channels.map((one) => {
    const [word, kind] = CHANNEL[one.state] ?? [one.state, ""];
    const since = one.failing_since ? `since ${time(one.failing_since)} UTC: ${one.error}` : "";
    const said = one.answered_at ? `${time(one.answered_at)}${one.answer ? `: ${one.answer}` : ""}` : "never";
    return h("tr", {},
      h("th", { scope: "row", class: "wide" }, h("bdi", {}, one.name), one.type === one.name ? null : h("span", { class: "address" }, ` ${one.type}`)),
      h("td", { class: "wide", "data-name": "State" }, h("span", { class: `pill ${kind}` }, word), since ? h("div", {}, since) : null),
      h("td", { class: "number", "data-name": "Sent" }, count(one.sent)), h("td", { class: "number", "data-name": "Failed" }, count(one.failed)),
      h("td", { class: "number", "data-name": "Muted" }, count(one.muted)), h("td", { class: "number", "data-name": "Waiting" }, count(one.waiting)),
      h("td", { class: "said wide", "data-name": "Last answer (UTC)" }, said));
  });
  const names = ["Channel", "State", "Sent", "Failed", "Muted", "Waiting", "Last answer (UTC)"];
  el("channels").replaceChildren(h("table", { class: "cards four" },
    h("thead", {}, h("tr", {}, ...names.map((name, i) => h("th", { scope: "col", class: i > 1 && i < 6 ? "number" : "" }, name)))), h("tbody", {}, ...rows)));
}

// --- process, history, topics, settings

const pairs = (rows) => rows.filter(([, text]) => text !== null && text !== undefined && text !== "").flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]);

function bytes(n) {
  return n === null ? null : n >= 1e9 ? `${(n / 1e9).toFixed(2)} GB` : `${Math.round(n / 1e6)} MB`;
}

function showProcess() {
  const { process, alerter } = found;
  const up = process.started_at === null ? null : process.now - process.started_at;
  say(el("process-note"), process.engine ? "scores points" : "sends notifications, scores nothing");
  const versions = Object.entries(process.packages).map(([name, version]) => `${name} ${version}`).join(", ");
  el("process").replaceChildren(...pairs([
    ["Version", process.version], ["Running for", up === null ? null : `${duration(up)}, since ${time(process.started_at)} UTC`],
    ["Memory", bytes(process.memory_bytes)],
    ["Processor", process.cpu_seconds === null || !up ? null : `${duration(process.cpu_seconds)}, ${((100 * process.cpu_seconds) / up).toFixed(1)} % of one core on average`],
    ["Engine", process.engine], ["Group", process.group], ["Alerter", alerter ? alerter.state : null],
    ["Pages open", lastStatistics ? count(lastStatistics.pages_open) : null], ["Python", process.python], ["Packages", versions],
  ]));
}

function showHistory() {
  const { history } = found;
  const state = el("history-state");
  if (!history) {
    state.replaceChildren();
    el("history").replaceChildren(h("p", { class: "empty" }, "There is no history here: storage.enabled or alerting.enabled is false."));
    return;
  }
  state.replaceChildren(h("span", { class: `pill ${history.trouble ? "bad" : "good"}` }, history.trouble ? "trouble" : history.state));
  el("history").replaceChildren(h("dl", { class: "pairs" }, ...pairs([
    ["State", history.state], ["Database", history.database], ["Not written yet", typeof history.lag === "number" ? `${count(history.lag)} records` : null], ["Trouble", history.trouble],
  ])));
}

async function showSettings() {
  const box = el("settings");
  const { roles } = await session();
  if (!roles.includes("admin")) {
    box.replaceChildren(h("p", { class: "empty" }, "Shown to who has the role admin."));
    return;
  }
  const given = await get("api/settings");
  if (!given.length) box.replaceChildren(h("p", { class: "empty" }, "None: every setting has its default."));
  else box.replaceChildren(h("dl", { class: "pairs stack" }, ...given.flatMap(({ name, value, origin, unit }) =>
    [h("dt", {}, `${name}: ${value}${unit && value !== "none" ? ` ${unit}` : ""}`), h("dd", {}, origin)])));
}

// --- the verdict

function troubles() {
  const said = [];
  const add = (kind, text, href) => said.push({ kind, text, href });
  const { channels, dead_letters: letters, history, process, alerter } = found;
  for (const one of channels) {
    if (one.state === "down") add("bad", `channel ${one.name} is down since ${time(one.failing_since)} UTC`, "#channels-panel");
    else if (one.state === "failing") add("warn", `channel ${one.name} does not answer`, "#channels-panel");
  }
  const news = letters.filter((one) => process.now - one.last < RECENT_S);
  if (news.length) add("warn", `dead letters: ${news.map((one) => one.reason.replaceAll("_", " ")).join(", ")}`, "#dead-letters-panel");
  if (history?.trouble) add("bad", "the history is not written", "#history-panel");
  if (alerter && alerter.state !== "running") add("bad", `the alerter: ${alerter.state}`, "#channels-panel");
  for (const group of groups?.groups ?? []) {
    if (group.problem) continue;
    if (!group.members.length) add("bad", group.does === "scores" ? "no worker scores" : "no alerter runs", "#workers");
    else if (Object.keys(group.unassigned).length && group.state === "Stable") add("bad", "some partitions have no worker", "#workers");
  }
  return said;
}

function showVerdict(state) {
  const said = troubles();
  if (!state.alive) said.unshift({ kind: "bad", text: "this process gets nowhere and will end", href: "#main" });
  else if (!state.ready) said.unshift({ kind: "warn", text: `this process is not ready: ${state.details.not_ready ?? "starting"}`, href: "#main" });
  const worst = said.some(({ kind }) => kind === "bad") ? "bad" : said.length ? "warn" : "good";
  document.querySelector(".verdict").className = `panel verdict ${worst}`;
  say(el("verdict-title"), said.length ? (said.length === 1 ? "One thing needs a look" : `${said.length} things need a look`) : "All is well");
  const scoring = groups?.groups.find((group) => group.does === "scores");
  const good = scoring && !scoring.problem ? [`${scoring.members.length} ${scoring.members.length === 1 ? "worker" : "workers"}`, `lag ${count(sum(scoring))}`, "no dead letters lately", "every channel answers"] : [];
  el("verdict").replaceChildren(...(said.length ? said.map(({ text, href }) => h("li", {}, h("a", { href }, text))) : good.map((text) => h("li", { class: "quiet" }, text))));
}

const sum = (group) => Object.values(group.lag).flatMap((of) => Object.values(of)).reduce((total, lag) => total + (lag ?? 0), 0);

// --- the page

let state = { alive: true, ready: true, details: {} };

async function load() {
  const asked = get("api/workers").then((answer) => { groups = answer; });
  found = await get("api/system");
  showProcess();
  showLetters();
  showChannels();
  showHistory();
  const topics = found.topics.map(({ name, use }) => [name, use]);
  el("topics").replaceChildren(...pairs(topics));
  await asked;
  showWorkers();
  showVerdict(state);
}

new ResizeObserver(drawRates).observe(el("rate-chart"));
const shell = start({ page: "system", load, statistics, title: () => "System ·", health: (one) => { state = one; } });
showSettings().catch((error) => { if (error.status !== 401) shell.lost(error); });
