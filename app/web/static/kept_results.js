// Results of a series out of Kafka, page by page, as long as one looks: see app/web/api/results.py.

import { get } from "./api.js";

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

// Pages of {results, seen, complete, cursor} with event times from `from` up to and without `to`, epoch s. `most`: thinned
// to about so many, with all that are inside episodes.
export async function* resultsBetween({ source, metric }, from, to, most, cursor = null) {
  do {
    const query = new URLSearchParams({ source, ...(metric === null ? {} : { metric }), from, to, most, limit: LIMIT, ...(cursor ? { cursor } : {}) });
    const found = await page(`api/results?${query}`);
    yield found;
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
