// Results of a series out of Kafka, page by page, as long as one looks: see app/web/api/results.py.

import { get } from "./api.js";

const WHOLE = 5000;     // results that are not thinned, at first
const LIMIT = 10000;    // results of a page
const BUSY_TRIES = 5, BUSY_S = 2;

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

async function page(query) {
  for (let tries = 1; ; tries++) {
    try {
      return await get(query);
    } catch (error) {
      if (![429, 503].includes(error.status) || tries === BUSY_TRIES) throw error;
      await pause(error.retryAfter ?? BUSY_S);
    }
  }
}

// Pages of {results, seen, complete, cursor, thinned} with event times from `from` up to and without `to`, epoch s. The first
// WHOLE results are all there are; then they are thinned to about `most` for the whole span, with all that are inside
// episodes. `before`: {cursor, seen} of the pages so far.
export async function* resultsBetween({ source, metric }, from, to, most, before = { cursor: null, seen: 0 }) {
  let { cursor, seen } = before;
  do {
    const thinned = seen >= WHOLE, how = thinned ? { most, limit: LIMIT } : { limit: WHOLE - seen };
    const query = new URLSearchParams({ source, ...(metric === null ? {} : { metric }), from, to, ...how, ...(cursor ? { cursor } : {}) });
    const found = await page(`api/results?${query}`);
    yield { ...found, thinned };
    seen += found.seen;
    cursor = found.complete ? null : found.cursor;
  } while (cursor);
}

// Event time of the first result that Kafka still has; null when there is none.
export async function firstTime({ source, metric }, to) {
  let cursor = null;
  do {
    const query = new URLSearchParams({ source, ...(metric === null ? {} : { metric }), from: 0, to, limit: 1, ...(cursor ? { cursor } : {}) });
    const found = await page(`api/results?${query}`);
    if (found.results.length) return found.results[0].timestamp;
    cursor = found.complete ? null : found.cursor;
  } while (cursor);
  return null;
}
