// Counts of results against labels at any threshold, defined as in app/offline/evaluation.py; and the unpacked data.

export const FULL = 1e6; // of a score of 1 in the data
const DATED = 1e8; // times below it, in seconds, are numbers of rows or of a clock of their own

export async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

export function prepare(series, place) {
  let now = 0;
  const time = Float64Array.from(series.steps, (step) => (now += step) / 1000), n = time.length;
  const marked = (runs) => {
    const marks = new Uint8Array(n);
    for (const [start, stop] of runs) marks.fill(1, start, stop);
    return marks;
  };
  const label = marked(series.windows ?? []);
  // Charts go by event time, late points where they belong; counts go by order of arrival.
  const order = Uint32Array.from(time, (_, i) => i);
  if (time.some((t, i) => i > 0 && t < time[i - 1])) order.sort((a, b) => time[a] - time[b] || a - b);
  const sorted = Float64Array.from(order, (i) => time[i]);
  const gaps = Float64Array.from(sorted.subarray(1), (t, i) => t - sorted[i]).sort();
  const results = series.results.map((result) => (
    { ...result, repeat: marked(result.repeat), lasts: marked(result.lasts), adapted: marked(result.adapted) }));
  return { ...series, results, place, n, time, label, order, sorted, usual: gaps[gaps.length >> 1] ?? 0, dated: sorted[n - 1] >= DATED };
}

// The episodes of a series with another threshold, by the rule of app/scoring/episodes.py: one opens where the alert score
// reaches it, and ends after closePoints points in a row that are below it, whose anomaly score is below its part of it,
// and for which no detector says that the episode goes on; or at once where one says that its cause has become normal.
// What a detector learns does not depend on the threshold. Each is [start, stop, explanation, kind, reason of its end].
export function episodesAt(result, threshold) {
  if (threshold === null) return result.episodes;
  const { score, closePoints, repeat, lasts, adapted } = result, alert = result.alert ?? score, found = [];
  const reach = Math.round(threshold * FULL), end = (result.closeBelow / result.threshold) * reach;
  let open = -1, below = 0;
  for (let i = 0; i < score.length; i++) {
    if (repeat[i]) continue;
    if (open >= 0) {
      below = score[i] < end && alert[i] < reach && !lasts[i] ? below + 1 : 0;
      const reason = adapted[i] && alert[i] < reach && !lasts[i] ? "adapted" : below >= closePoints ? "recovered" : "";
      if (reason) { found.push([open, i, "", "", reason]); open = -1; }
    } else if (alert[i] >= reach) {
      open = i;
      below = 0;
    }
  }
  if (open >= 0) found.push([open, score.length, "", "", ""]);
  const texts = new Map(result.episodes.map(([start, , text, kind]) => [start, [text, kind]]));
  for (const one of found) [one[2], one[3]] = texts.get(one[0]) ?? ["", ""];
  return found;
}

const NOTHING = {
  episodes: 0, inside: 0, total: 0, points: 0, labelled: 0, windows: 0, hit: 0, alerts: 0, falseAlerts: 0, right: 0, wrong: 0,
  delayPoints: 0, delaySeconds: 0, dated: 0,
};

export function tally(series, episodes) {
  const found = { ...NOTHING, episodes: episodes.length, total: series.n, dated: series.dated ? 1 : 0 };
  for (const [start, stop] of episodes) found.inside += stop - start;
  if (series.windows === null) return found;
  const { first, label } = series;
  found.points = Math.max(series.n - first, 0);
  for (let i = first; i < series.n; i++) found.labelled += label[i];
  for (const [start, stop] of episodes) {
    for (let i = Math.max(start, first); i < stop; i++) label[i] ? found.right++ : found.wrong++;
    if (start < first) continue;
    found.alerts++;
    if (!label[start]) found.falseAlerts++;
  }
  for (const [start, stop] of series.windows) {
    if (stop <= first) continue; // early
    const begin = Math.max(start, first), alert = firstAlert(episodes, begin, stop);
    found.windows++;
    if (alert === null) continue;
    found.hit++;
    found.delayPoints += alert - begin;
    found.delaySeconds += series.time[alert] - series.time[begin];
  }
  return found;
}

// First point, from begin on and before stop, at which an episode starts.
function firstAlert(episodes, begin, stop) {
  let low = 0, high = episodes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (episodes[middle][0] < begin) low = middle + 1;
    else high = middle;
  }
  return low < episodes.length && episodes[low][0] < stop ? episodes[low][0] : null;
}

// What became of a window: hit, missed, or early where none of its points count.
export function fateOf([start, stop], series, episodes) {
  if (stop <= series.first) return "early";
  return firstAlert(episodes, Math.max(start, series.first), stop) === null ? "missed" : "hit";
}

export function sum(all) {
  const found = { ...NOTHING };
  for (const one of all) for (const name in found) found[name] += one[name];
  return found;
}

// First place in sorted times that is not before t.
export function reach(sorted, t) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
