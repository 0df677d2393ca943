// The form in which somebody acknowledges an episode, silences its source, or says what it was.

import { h, say } from "./dom.js";
import { VERDICTS } from "./episodes.js";

const NAME = "faust-anomaly.by"; // where this browser keeps the name, while nobody has to log in
const TIMES = [[3600, "1 hour"], [14400, "4 hours"], [86400, "1 day"]]; // s

const TITLES = { acknowledge: "Acknowledge", silence: "Silence", end: "End the silence", feedback: "Feedback" };
const SAVES = { acknowledge: "Acknowledge", silence: "Silence", end: "End it", feedback: "Save" };

const MEANS = {
  acknowledge: "It is not repeated. Its end is still notified.",
  silence: "No notifications of matching episodes until then. The end of an episode that was notified before is still notified.",
  end: "Matching episodes are notified again: this one with its next repeat, others when they open.",
  feedback: "What it was stays with the episode.",
};

// A matcher as Alertmanager writes it.
export const matcher = (name, value) =>
  `${name}="${value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;

export class Decide {
  // `send(kind, row, said)` asks the server, and gives what shows it; `name()` is who has logged in, or "".
  constructor(dialog, send, name) {
    this.dialog = dialog;
    this.send = send;
    this.name = name;
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  ask(kind, row) {
    const of = [row.source, row.metric].filter(Boolean).join(" ");
    const fields = kind === "end" ? {} : { comment: h("textarea", { id: "d-comment", rows: 2, maxlength: 1000 }) };
    const parts = [];
    if (kind === "silence") {
      fields.matchers = h("textarea", { id: "d-matchers", rows: 2, spellcheck: "false", required: "" });
      fields.matchers.value = [matcher("source", row.source), ...(row.metric ? [matcher("metric", row.metric)] : [])].join("\n");
      fields.for = h("select", { id: "d-for" }, ...TIMES.map(([value, text]) => h("option", { value }, text)));
      parts.push(labelled("What matches all of these, one on a line", fields.matchers), labelled("For", fields.for));
    }
    if (kind === "feedback") {
      parts.push(h("fieldset", {}, h("legend", {}, "It was"), ...Object.entries(VERDICTS).map(([value, text], i) =>
        h("label", { class: "choice" }, h("input", { type: "radio", name: "verdict", value, required: "", checked: i === 0 ? "" : null }), ` ${text}`))));
    }
    if (fields.comment) parts.push(labelled("Comment (may be empty)", fields.comment));
    if (!this.name() && kind !== "end") {
      fields.by = h("input", { id: "d-by", autocomplete: "name", required: "", maxlength: 100 });
      fields.by.value = remembered();
      parts.push(labelled("Your name", fields.by));
    }
    const problem = h("p", { class: "error", role: "alert" });
    const go = h("button", { type: "submit", class: "main" }, SAVES[kind]);
    const back = h("button", { type: "button" }, "Cancel");
    back.addEventListener("click", () => this.dialog.close());
    const form = h("form", {}, h("h2", { id: "decide-title" }, `${TITLES[kind]}: `, h("bdi", {}, of)), h("p", { class: "quiet" }, MEANS[kind]),
      ...parts, problem, h("div", { class: "buttons" }, back, go));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      say(problem, "");
      try {
        const show = await this.send(kind, row, this.said(kind, form, fields));
        this.dialog.close(); // first, so that the focus is where it was before
        show();
      } catch (error) {
        say(problem, `Not saved. ${error.message}`);
      } finally {
        go.disabled = false;
      }
    });
    this.dialog.replaceChildren(form);
    this.dialog.showModal();
    (kind === "feedback" ? form.querySelector("input") : fields.comment ?? go).focus();
  }

  said(kind, form, fields) {
    const said = fields.comment ? { comment: fields.comment.value.trim() } : {};
    if (fields.by) {
      said.by = fields.by.value.trim();
      remember(said.by);
    }
    if (kind === "silence") {
      said.matchers = fields.matchers.value.split("\n").map((text) => text.trim()).filter(Boolean);
      said.duration_s = Number(fields.for.value);
    }
    if (kind === "feedback") said.verdict = form.elements.verdict.value;
    return said;
  }
}

const labelled = (text, field) => h("p", { class: "stacked" }, h("label", { for: field.id }, text), field);

function remembered() {
  try { return localStorage.getItem(NAME) ?? ""; } catch { return ""; } // a browser may forbid it
}

function remember(name) {
  try { localStorage.setItem(NAME, name); } catch { /* then it is asked again */ }
}
