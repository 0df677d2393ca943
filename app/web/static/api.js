// Requests to the API. Addresses are relative, so that they lead to this server also beneath a proxy's path.

// A request that was not answered, or refused. `status` is 0 when there was no answer; `errors`: [{at, detail}].
export class Failed extends Error {
  constructor(message, status = 0, errors = [], retryAfter = null) {
    super(message);
    Object.assign(this, { status, errors, retryAfter });
  }
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const remove = (path, body) => ask("DELETE", path, body);

let known = null; // promise of the session: {name, roles, csrf}

// Who is logged in, and what that one may do; name "" where nobody is asked.
export function session(again = false) {
  if (again) known = null;
  known ??= get("api/session").catch((error) => { known = null; throw error; });
  return known;
}

async function ask(method, path, body) {
  let answer = await send(method, path, body);
  // Another tab may have logged in since: its cookie has another CSRF token.
  if (answer.status === 403 && method !== "GET" && known) {
    const before = (await known).csrf;
    if ((await session(true)).csrf !== before) answer = await send(method, path, body);
  }
  if (answer.status === 401 && path !== "api/session") leave();
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw await refusal(answer);
}

async function send(method, path, body) {
  const headers = {};
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    const { csrf } = path === "api/session" && method === "POST" ? {} : await session();
    if (csrf) headers["X-CSRF-Token"] = csrf;
  }
  try {
    return await fetch(path, { method, headers, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    throw new Failed(error.message);
  }
}

// RFC 9457: `detail` says what is wrong, `errors` where.
async function refusal(answer) {
  let problem = {};
  try { problem = await answer.json(); } catch { /* a proxy's own page */ }
  const errors = Array.isArray(problem.errors) ? problem.errors : [];
  const detail = problem.detail || problem.title || answer.statusText || `status ${answer.status}`;
  const places = errors.map(({ at, detail: what }) => (at ? `${at}: ${what}` : what)).filter((text) => !detail.includes(text));
  const wait = Number(answer.headers.get("Retry-After")) || null;
  const sentences = [detail, ...places].join("; ") + (wait ? ` (again in ${wait} s)` : "");
  return new Failed(sentences, answer.status, errors, wait);
}

// To the login, which comes back to this page as it is now.
export function leave() {
  const here = (location.pathname.split("/").at(-1) || "./") + location.search + location.hash;
  location.assign(`login?${new URLSearchParams({ next: here })}`);
}
