// A token becomes the session's cookie (app/web/api/session.py); then back to where one wanted to go.

import { post } from "./api.js";
import { el, say } from "./dom.js";

// Only a page of this view: what `next` holds may come from anybody's link.
export function destination(next, here = location.href) {
  const home = new URL("./", here);
  try {
    const found = new URL(next ?? "", home);
    const inside = found.origin === home.origin && found.pathname.startsWith(home.pathname) && !found.username && !found.password;
    return inside && found.pathname !== new URL(here).pathname ? found.href : home.href;
  } catch {
    return home.href;
  }
}

async function logIn(event) {
  event.preventDefault();
  const token = el("token").value.trim();
  if (!token) return fail("Enter a token.");
  el("submit").disabled = true;
  say(el("submit"), "Logging in…");
  try {
    await post("api/session", { token });
    location.replace(destination(new URLSearchParams(location.search).get("next")));
  } catch (error) {
    fail(error.status === 401 ? "This token is not valid. It may be mistyped, expired or revoked." : error.status ? `Not logged in: ${error.message}` : "The server does not answer. Try again in a moment.");
    el("submit").disabled = false;
    say(el("submit"), "Log in");
  }
}

function fail(text) {
  say(el("error"), text);
  el("error").hidden = false;
  el("token").setAttribute("aria-invalid", "true");
  el("token").focus();
  el("token").select();
}

el("show").addEventListener("click", () => {
  const shown = el("token").type === "text";
  el("token").type = shown ? "password" : "text";
  say(el("show"), shown ? "Show" : "Hide");
  el("show").setAttribute("aria-pressed", String(!shown));
});
el("form").addEventListener("submit", logIn);
el("submit").disabled = false; // not before: without this script the form would go nowhere
el("token").focus();
