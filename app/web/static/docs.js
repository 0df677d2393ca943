// The document of the API as a page: operations by subject, what they take and answer, and a form that asks.

import { get } from "./api.js";
import { el, h, say } from "./dom.js";
import { start } from "./shell.js";

const DEEPEST = 5;          // structures within structures that are shown
const LONGEST = 100_000;    // characters of an answer that are shown
const METHODS = ["get", "post", "put", "patch", "delete"];

let root = {};              // the document
let shown = false;

start({ page: "docs", title: () => "API", load });

async function load() {
  if (shown) return;
  root = await get("api/openapi.json");
  shown = true;
  say(el("version"), `${root.info.title} ${root.info.version}, OpenAPI ${root.openapi}`);
  el("about").replaceChildren(...prose(root.info.description));
  const operations = Object.entries(root.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
  el("subjects").replaceChildren(...root.tags.map((tag) => subject(tag, operations.filter((one) => one.tags.includes(tag.name)))));
  el("search").addEventListener("input", filter);
  addEventListener("hashchange", follow);
  el("search").value = new URLSearchParams(location.search).get("search") ?? "";
  filter();
  follow();
}

function follow() {
  const chosen = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!chosen?.classList.contains("operation")) return;
  chosen.open = true;
  chosen.scrollIntoView();
  chosen.querySelector("summary").focus({ preventScroll: true });
}

function filter() {
  const needle = el("search").value.trim().toLowerCase();
  let found = 0;
  for (const part of document.querySelectorAll(".subject")) {
    const operations = [...part.querySelectorAll(".operation")];
    for (const one of operations) one.hidden = !one.dataset.words.includes(needle);
    const left = operations.filter((one) => !one.hidden).length;
    part.hidden = !left;
    found += left;
  }
  say(el("found"), needle ? (found ? `${found} found` : "nothing found") : "");
  const query = needle ? `?${new URLSearchParams({ search: needle })}` : "";
  if (query !== location.search) history.replaceState(null, "", location.pathname + query + location.hash);
}

function subject({ name, description }, operations) {
  const id = `subject-${name}`;
  return h("section", { class: "panel subject", "aria-labelledby": id },
    h("div", { class: "panel-head" }, h("h2", { id }, name), h("span", { class: "quiet" }, ...inline(description))),
    ...operations.map(operation));
}

function operation(one) {
  const words = [one.method, one.path, one.summary, one.description, ...(one.parameters ?? []).map(({ name }) => name)];
  const box = h("details", { id: one.operationId, class: "operation", "data-words": words.join(" ").toLowerCase() },
    h("summary", {}, h("span", { class: `method ${one.method}` }, one.method.toUpperCase()), h("code", { class: "path" }, one.path), h("span", { class: "quiet" }, ...inline(one.summary))));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(inside(one));
    if (box.open && location.hash.slice(1) !== box.id) history.replaceState(null, "", `#${box.id}`);
  });
  return box;
}

function inside(one) {
  const parts = [h("div", { class: "said" }, ...prose(one.description), h("p", { class: "quiet" }, who(one)))];
  if (one.parameters) parts.push(part("Parameters", h("ul", { class: "shape" }, ...one.parameters.map(parameter))));
  for (const [type, { schema }] of Object.entries(one.requestBody?.content ?? {})) {
    parts.push(part(`Body, ${type}`, type.endsWith("json") && schema.type !== "string" ? shape(schema) : h("p", { class: "quiet" }, "One JSON value a line.")));
  }
  parts.push(part("Example", h("pre", { tabindex: "0" }, h("code", {}, curl(one)))));
  parts.push(part("Answers", ...Object.entries(one.responses).map(answer)));
  if (one.method === "get") parts.push(tryIt(one));
  return h("div", { class: "inside" }, ...parts);
}

const part = (title, ...nodes) => h("section", {}, h("h3", {}, title), ...nodes);

function who({ security = [] }) {
  const roles = [...new Set(security.flatMap((one) => Object.values(one).flat()))];
  if (!roles.length) return "For everybody.";
  const free = security.some((one) => !Object.keys(one).length) ? " Nobody is asked for a token here." : "";
  return `Needs a token with the role ${[...new Set([...roles, "admin"])].join(" or ")}.${free}`;
}

function parameter(one) {
  const where = one.in === "path" ? "in the path" : one.required ? "required" : "";
  return h("li", {}, h("code", {}, one.name), " ", h("span", { class: "kind" }, [kind(one.schema), where].filter(Boolean).join(", ")),
    one.description ? h("span", { class: "what" }, ...inline(one.description)) : null);
}

function answer([status, given]) {
  const found = resolved(given);
  const [type, content] = Object.entries(found.content ?? {})[0] ?? [];
  const box = h("details", { class: "answer" }, h("summary", {}, h("code", {}, status), " ", ...inline(found.description), " ", type ? h("span", { class: "kind" }, type) : null));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(content ? shape(content.schema) : h("p", { class: "quiet" }, "Without a body."));
  });
  return box;
}

// --- schemas

// What a reference leads to; of schemas that all hold, the first, which is a structure with conditions behind it.
function resolved(schema) {
  if (schema.allOf) return resolved(schema.allOf[0]);
  return schema.$ref ? resolved(schema.$ref.slice(2).split("/").reduce((at, name) => at[name], root)) : schema;
}

function choices(schema) {
  return (schema.anyOf ?? schema.oneOf ?? []).map((one) => ({ one, is: resolved(one) }));
}

function kind(schema) {
  if (schema.allOf) return kind(schema.allOf[0]);
  const is = resolved(schema);
  if (is.enum) return is.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in is) return JSON.stringify(is.const);
  const some = choices(is);
  if (some.length) return some.map(({ one }) => kind(one)).join(" | ") + limits(is);
  if (is.type === "array") return `array of ${is.items ? kind(is.items) : "anything"}${limits(is)}`;
  if (is.type === "object" && is.additionalProperties && typeof is.additionalProperties === "object") return `object of ${kind(is.additionalProperties)}`;
  return (schema.$ref ? schema.$ref.split("/").at(-1) : is.type ?? "anything") + limits(is);
}

function limits(is) {
  const said = [];
  const most = is.maximum ?? is.exclusiveMaximum;
  if (is.minimum !== undefined) said.push(most === undefined ? `at least ${is.minimum}` : `${is.minimum} to ${most}`);
  else if (most !== undefined) said.push(`at most ${most}`);
  if (is.exclusiveMinimum !== undefined) said.push(`> ${is.exclusiveMinimum}`);
  if (is.maxLength !== undefined) said.push(`at most ${is.maxLength} characters`);
  if (is.maxItems !== undefined) said.push(`at most ${is.maxItems}`);
  if (is.default !== undefined && is.default !== null && is.default !== "") said.push(`default ${JSON.stringify(is.default)}`);
  return said.length ? ` (${said.join(", ")})` : "";
}

// The structure in a schema, however deep within arrays, mappings and alternatives; null for none.
function structure(schema) {
  const is = resolved(schema);
  if (is.properties) return is;
  if (is.items) return structure(is.items);
  if (is.additionalProperties && typeof is.additionalProperties === "object") return structure(is.additionalProperties);
  return choices(is).map(({ one }) => structure(one)).find(Boolean) ?? null;
}

function shape(schema, above = []) {
  const found = structure(schema);
  if (!found || above.includes(found) || above.length >= DEEPEST) return h("ul", { class: "shape" }, h("li", {}, h("span", { class: "kind" }, kind(schema))));
  const required = found.required ?? [];
  const rows = Object.entries(found.properties).map(([name, one]) => {
    const inner = structure(one);
    const text = one.description ?? (one.$ref ? undefined : resolved(one).description);
    return h("li", {}, h("code", {}, name), " ", h("span", { class: "kind" }, required.includes(name) ? kind(one) : `${kind(one).replace(/ \| null$/, "")}, optional`),
      text ? h("span", { class: "what" }, ...inline(text)) : null,
      inner && inner !== found && !above.includes(inner) ? shape(one, [...above, found]) : null);
  });
  const head = above.length ? [] : [h("li", {}, h("span", { class: "kind" }, kind(schema)), found.description ? h("span", { class: "what" }, ...inline(found.description)) : null)];
  return h("ul", { class: "shape" }, ...head, ...rows);
}

function example(schema, depth = 0) {
  const is = resolved(schema);
  if (is.examples?.length) return is.examples[0];
  if ("const" in is) return is.const;
  if (is.enum) return is.enum[0];
  const some = choices(is).filter(({ is: one }) => one.type !== "null").sort((a, b) => (a.is.type === "array") - (b.is.type === "array"));
  if (some.length) return example(some[0].one, depth);
  if (is.properties && depth < DEEPEST) {
    const names = Object.keys(is.properties).filter((name) => is.required?.includes(name) || resolved(is.properties[name]).examples);
    return Object.fromEntries(names.map((name) => [name, example(is.properties[name], depth + 1)]));
  }
  if (is.type === "array") return is.items ? [example(is.items, depth + 1)] : [];
  return { string: "text", number: is.minimum ?? 1.5, integer: is.minimum ?? 1, boolean: true, object: {} }[is.type] ?? null;
}

// --- requests

function address(one, values) {
  const query = new URLSearchParams();
  let path = one.path;
  for (const { name, in: where } of one.parameters ?? []) {
    const value = values[name] ?? "";
    if (where === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    else if (value !== "") query.set(name, value);
  }
  return path.slice(1) + (query.size ? `?${query}` : "");
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(one) {
  const given = (one.parameters ?? []).filter((each) => each.required);
  const url = new URL(address(one, Object.fromEntries(given.map((each) => [each.name, example(each.schema)]))), location.href.replace(/[?#].*/, ""));
  const words = ["curl"];
  if (one.method !== "get" && !(one.method === "post" && one.requestBody)) words.push("-X", one.method.toUpperCase());
  if (one.security?.length && !one.security.some((each) => !Object.keys(each).length)) words.push('-H "Authorization: Bearer $TOKEN"');
  if (one.requestBody) words.push("--json", quoted(JSON.stringify(example(one.requestBody.content["application/json"].schema))));
  return [...words, quoted(url.href)].join(" ");
}

function tryIt(one) {
  const inputs = (one.parameters ?? []).map((each) => [each, input(each)]);
  const button = h("button", { type: "submit", class: "main" }, "Send");
  const said = h("p", { class: "quiet", role: "status" });
  const output = h("pre", { tabindex: "0", hidden: "", "aria-label": "Answer" });
  const form = h("form", { class: "try" },
    h("h3", {}, "Try it"),
    inputs.length ? h("div", { class: "inputs" }, ...inputs.map(([each, node]) => h("label", {}, each.name, node))) : null,
    h("div", {}, button), said, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const path = address(one, Object.fromEntries(inputs.map(([each, node]) => [each.name, node.value])));
    say(said, `GET ${path} …`);
    const began = performance.now();
    try {
      const answer = await fetch(path, { cache: "no-store" });
      const text = await answer.text();
      say(said, `GET ${path}: ${answer.status} ${answer.statusText}, ${Math.round(performance.now() - began)} ms`);
      say(output, readable(text));
    } catch (error) {
      say(said, `GET ${path}: no answer (${error.message})`);
      say(output, "");
    }
    output.hidden = !output.textContent;
  });
  return form;
}

function input({ name, schema, required, in: where }) {
  const is = resolved(schema);
  const values = is.enum ?? (is.type === "boolean" ? [true, false] : null);
  if (values) {
    const blank = required ? [] : [h("option", { value: "" }, "")];
    return h("select", { name }, ...blank, ...values.map((value) => h("option", { value: String(value) }, String(value))));
  }
  const placeholder = is.default !== undefined ? String(is.default) : null;
  return h("input", { name, placeholder, autocomplete: "off", spellcheck: "false", required: required || where === "path" ? "" : null, inputmode: ["integer", "number"].includes(is.type) ? "decimal" : null });
}

function readable(text) {
  let pretty = text;
  try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* no JSON */ }
  return pretty.length > LONGEST ? `${pretty.slice(0, LONGEST)}\n… ${pretty.length - LONGEST} characters more` : pretty;
}

// --- text with `code`, paragraphs and lists

function prose(text = "") {
  return text.trim().split(/\n\s*\n/).map((block) => {
    if (!block.startsWith("- ")) return h("p", {}, ...inline(block));
    return h("ul", {}, ...block.slice(2).split(/\n- /).map((item) => h("li", {}, ...inline(item))));
  });
}

const inline = (text = "") => text.replaceAll(/\s+/g, " ").split("`").map((bit, i) => (i % 2 ? h("code", {}, bit) : bit));
