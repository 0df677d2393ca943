// The address has the state of the page, so that it can be sent to somebody, and Back works.

// {name: text} of the address; what is not there is "".
export function read(names) {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(names.map((name) => [name, given.get(name) ?? ""]));
}

// `changes` {name: text or ""}; a step that Back takes back, unless `quiet`.
export function write(changes, quiet = false) {
  const given = new URLSearchParams(location.search);
  for (const [name, text] of Object.entries(changes)) {
    if (text) given.set(name, text);
    else given.delete(name);
  }
  const query = given.toString(), address = `${location.pathname}${query ? `?${query}` : ""}`;
  if (address === `${location.pathname}${location.search}`) return;
  history[quiet ? "replaceState" : "pushState"](null, "", address);
}
