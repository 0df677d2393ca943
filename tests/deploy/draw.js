// Draws a dashboard in the places and kinds of its JSON, with what Prometheus answered: dashboards.py calls draw().
// It knows what our dashboards use of Grafana, and no more.

const PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d"];
const NAMED = { green: "#73bf69", yellow: "#fade2a", orange: "#ff9830", red: "#f2495c", blue: "#5794f2" };
const [CELL, ROW, GAP] = [58, 30, 8];

function scaled(value, base, names, digits) {
  let n = 0;
  for (; Math.abs(value) >= base && n < names.length - 1; n++) value /= base;
  return `${trimmed(value, digits)}${names[n]}`;
}

function trimmed(value, digits = 3) {
  return String(Number(value.toPrecision(Math.max(digits, Math.ceil(Math.log10(Math.abs(value) + 1))))));
}

function written(value, unit) {
  if (value === null || value === undefined || !isFinite(value)) return "";
  if (unit === "percentunit") return `${trimmed(100 * value)}%`;
  if (unit === "bytes" || unit === "Bps") return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]) + (unit === "Bps" ? "/s" : "");
  if (unit === "s") {
    if (value === 0) return "0 s";
    const size = Math.abs(value);
    if (size < 1e-3) return `${trimmed(value * 1e6)} µs`;
    if (size < 1) return `${trimmed(value * 1e3)} ms`;
    if (size < 120) return `${trimmed(value)} s`;
    if (size < 7200) return `${trimmed(value / 60)} min`;
    return size < 172800 ? `${trimmed(value / 3600)} h` : `${trimmed(value / 86400)} d`;
  }
  return scaled(value, 1000, ["", "K", "M", "G"]) + (unit === "cps" ? " c/s" : "");
}

function h(kind, style, ...inside) {
  const found = document.createElement(kind);
  Object.assign(found.style, style);
  found.append(...inside);
  return found;
}

function ofThreshold(value, thresholds) {
  const passed = thresholds.steps.filter((step) => step.value === null || value >= step.value);
  return NAMED[passed.at(-1).color];
}

function matched(panel, name, id) {
  for (const { matcher, properties } of panel.fieldConfig.overrides)
    if (matcher.id === "byName" ? matcher.options === name : new RegExp(matcher.options).test(name))
      for (const one of properties) if (one.id === id) return one.value;
}

function aligned(panel) {
  const times = [...new Set(panel.found.flatMap((one) => one.values.map(([at]) => at)))].sort((a, b) => a - b);
  const place = new Map(times.map((at, i) => [at, i]));
  const columns = panel.found.map((one) => {
    const column = Array(times.length).fill(null);
    for (const [at, value] of one.values) column[place.get(at)] = isFinite(value) ? Number(value) : null;
    return column;
  });
  return [times, columns];
}

const MINUTES = [60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400, 864000, 2592000, 8640000];
const steps = (from, to) => Array.from({ length: to - from }, (_, n) => 2 ** (from + n));
const high = (columns) => Math.max(...columns.flat().filter((one) => one !== null), 0);

function timeseries(panel, body, width, height, span) {
  const unit = panel.fieldConfig.defaults.unit;
  const custom = panel.fieldConfig.defaults.custom;
  const [times, columns] = aligned(panel);
  const bars = custom.drawStyle === "bars";
  const stacked = custom.stacking.mode === "normal";
  const drawn = stacked ? columns.map((_, i) => times.map((_, t) => columns.slice(0, i + 1).reduce((sum, one) => sum + (one[t] ?? 0), 0))) : columns;
  const colors = panel.found.map((one, i) => NAMED[matched(panel, one.name, "color")?.fixedColor] ?? PALETTE[i % PALETTE.length]);
  const series = panel.found.map((one, i) => ({
    stroke: colors[i],
    width: 1,
    dash: matched(panel, one.name, "custom.lineStyle")?.dash,
    fill: matched(panel, one.name, "custom.fillOpacity") === 0 ? undefined : colors[i] + Math.round(2.55 * custom.fillOpacity).toString(16).padStart(2, "0"),
    paths: bars ? uPlot.paths.bars({ size: [0.7, 60] }) : undefined,
    points: { show: false },
  }));
  const incrs = { bytes: steps(0, 48), Bps: steps(0, 48), s: high(drawn) > 120 ? MINUTES : undefined }[unit];
  const axis = { stroke: "#8e8e96", grid: { stroke: "#ffffff12", width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
  const chart = h("div", {});
  body.append(chart);
  const most = high(drawn);
  const legend = 18 * Math.ceil(panel.found.reduce((sum, one) => sum + 6.3 * one.name.length + 32, 0) / width);
  const order = drawn.map((_, i) => i);
  if (stacked) order.reverse(); // what is highest first, so that what is below shows
  new uPlot(
    {
      width,
      height: height - legend,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { range: () => span }, y: { range: () => [0, panel.fieldConfig.defaults.max ?? (most ? most * 1.1 : 1)] } },
      axes: [
        { ...axis, size: 30, values: (_, ticks) => ticks.map((tick) => new Date(1000 * tick).toISOString().slice(11, 16)), incrs: MINUTES },
        { ...axis, size: 70, incrs, values: (_, ticks) => ticks.map((tick) => written(tick, unit)) },
      ],
      hooks: { draw: [(plot) => custom.thresholdsStyle.mode === "dashed" && drawLimits(plot, panel.fieldConfig.defaults.thresholds)] },
      series: [{}, ...order.map((i) => series[i])],
    },
    [times, ...order.map((i) => drawn[i])],
    chart,
  );
  const names = panel.found.map((one, i) => h("span", { marginRight: "12px", whiteSpace: "nowrap" }, h("i", { background: colors[i], display: "inline-block", width: "12px", height: "3px", marginRight: "5px", verticalAlign: "middle" }), one.name));
  body.append(h("div", { height: `${legend}px`, overflow: "hidden", fontSize: "11px", lineHeight: "18px", paddingLeft: "8px" }, ...names));
}

function drawLimits(plot, { steps }) {
  const { ctx, bbox } = plot;
  for (const { value } of steps.slice(1)) {
    const y = plot.valToPos(value, "y", true);
    if (y < bbox.top) continue;
    ctx.strokeStyle = NAMED.red;
    ctx.setLineDash([10, 10]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.setLineDash([]);
  }
}

function stat(panel, body, width, height) {
  const { unit, thresholds, noValue } = panel.fieldConfig.defaults;
  const values = (panel.found[0]?.values ?? []).map(([at, value]) => [at, Number(value)]).filter(([, value]) => isFinite(value));
  let last = values.at(-1)?.[1];
  if (panel.fieldConfig.defaults.decimals === 0 && last !== undefined) last = Math.round(last);
  const color = last === undefined ? "#8e8e96" : ofThreshold(last, thresholds);
  body.append(h("div", { fontSize: "34px", fontWeight: 500, textAlign: "center", color }, last === undefined ? noValue : written(last, unit)));
  if (values.length < 2) return;
  const [first, until] = [values[0][0], values.at(-1)[0]];
  const [low, high] = [Math.min(...values.map(([, one]) => one)), Math.max(...values.map(([, one]) => one))];
  const at = ([x, y]) => `${((x - first) / (until - first)) * width},${height - 48 - (high > low ? (y - low) / (high - low) : 0) * (height - 58)}`;
  const chart = `<svg width="${width}" height="${height - 44}"><polyline fill="none" stroke="${color}" points="${values.map(at).join(" ")}"/></svg>`;
  body.insertAdjacentHTML("beforeend", chart);
}

function stateTimeline(panel, body, width, height, span) {
  const words = panel.fieldConfig.defaults.mappings[0].options;
  const [left, tall] = [150, Math.min(44, (height - 50) / Math.max(panel.found.length, 1))];
  for (const one of panel.found) {
    const band = h("div", { position: "relative", height: `${tall - 8}px`, marginBottom: "8px" }, h("span", { fontSize: "12px", lineHeight: `${tall - 8}px`, paddingLeft: "8px" }, one.name));
    one.values.forEach(([at, value], i) => {
      const [x, end] = [at, one.values[i + 1]?.[0] ?? span[1]].map((each) => left + ((each - span[0]) / (span[1] - span[0])) * (width - left - 8));
      band.append(h("i", { position: "absolute", top: 0, bottom: 0, left: `${x}px`, width: `${end - x + 1}px`, background: NAMED[words[Number(value)].color], filter: "brightness(0.7)" }));
    });
    body.append(band);
  }
  body.append(h("div", { fontSize: "11px", paddingLeft: "8px" }, ...Object.values(words).map(({ text, color }) => h("span", { color: NAMED[color], marginRight: "12px" }, text))));
}

function table(panel, body) {
  const [, { options: chosen }, { options: order }] = panel.transformations;
  const columns = chosen.include.names.filter((name) => name === "Value" || panel.found.some((one) => one.metric[name]));
  const cell = (kind, text) => h(kind, { textAlign: "left", padding: "6px 8px", borderBottom: "1px solid #ffffff12" }, text);
  const rows = panel.found.map((one) => h("tr", {}, ...columns.map((name) => cell("td", name === "Value" ? written(Number(one.values.at(-1)[1]), panel.fieldConfig.defaults.unit) : one.metric[name] ?? ""))));
  const head = h("tr", { color: "#8ab8ff" }, ...columns.map((name) => cell("th", order.renameByName[name])));
  body.append(h("table", { width: "100%", fontSize: "12px", borderCollapse: "collapse" }, head, ...rows));
}

const KINDS = { timeseries, stat, table, "state-timeline": stateTimeline };

function draw(dashboard, span) {
  Object.assign(document.body.style, { background: "#111217", color: "#ccccdc", fontFamily: "sans-serif", margin: 0, position: "relative" });
  document.body.append(h("h1", { fontSize: "18px", margin: 0, padding: "12px", fontWeight: 500 }, dashboard.title));
  let bottom = 0;
  for (const panel of dashboard.panels) {
    const { x, y, w, h: tall } = panel.gridPos;
    const [width, height] = [w * CELL - GAP, tall * (ROW + GAP) - GAP];
    const place = { position: "absolute", left: `${x * CELL + GAP}px`, top: `${y * (ROW + GAP) + 44}px`, width: `${width}px`, height: `${height}px`, overflow: "hidden" };
    bottom = Math.max(bottom, (y + tall) * (ROW + GAP) + 44);
    if (panel.type === "row") {
      document.body.append(h("div", { ...place, fontSize: "15px", lineHeight: `${height}px` }, `${panel.collapsed ? "›" : "⌄"} ${panel.title}`));
      continue;
    }
    const body = h("div", {});
    document.body.append(h("div", { ...place, background: "#181b1f", border: "1px solid #ffffff12", borderRadius: "2px", boxSizing: "border-box" }, h("div", { fontSize: "13px", fontWeight: 500, padding: "6px 8px", height: "20px" }, panel.title), body));
    if (panel.found.length || panel.type === "stat") KINDS[panel.type](panel, body, width - 2, height - 34, span);
    else body.append(h("div", { textAlign: "center", paddingTop: "30px", color: "#8e8e96" }, panel.fieldConfig.defaults.noValue ?? "No data"));
  }
  return bottom;
}
