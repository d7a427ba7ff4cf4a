// The offset over the last hour or day: error band, steps, shaded gaps, limits; zoom by drag, pinch, wheel and keys.

import { Plot, colour, ticks } from "./plot.js";
import { clock, number, signed, text } from "./texts.js";

const HOUR_MS = 3_600_000;
const LEAST_MS = 10_000;
const SPANS_MS = [5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600].map((s) => s * 1000);
const canvas = document.getElementById("history-plot");
const plot = new Plot(canvas);
const at = (id) => document.getElementById(id);

const series = { hour: [], day: [] }; // rows: [t_unix_ms, offset_ms, offset_std_ms, state, …]
const gapMs = { hour: 5000, day: 150_000 }; // between two rows, beyond which there is no line
let shown = "hour";
let zoom = null; // [from, to] in ms, or all
let cursor = null; // a row
let limits = null;
let steps = [];
let dragged = null; // [x, x] in CSS pixels
const fingers = new Map();

export function load(history, { events, report_every_s: everyS }, profile) {
  gapMs.hour = Math.max(5, 3 * everyS) * 1000;
  series.hour = history.hour.rows;
  series.day = history.day.rows;
  steps = events.filter((event) => event.kind === "step").map((event) => event.t_unix_ms);
  limits = profile;
  legend();
  draw();
}

export function add(report, profile) {
  limits = profile;
  if (series.hour.at(-1)?.[0] === report.t_unix_ms) return; // a stream begins with the report that is known already
  series.hour.push([report.t_unix_ms, report.offset_ms, report.offset_std_ms, report.state, report.verdict]);
  while (series.hour.length && series.hour[0][0] < report.t_unix_ms - HOUR_MS) series.hour.shift();
  if (shown === "hour" && !dragged) draw();
}

export function addStep(event) {
  steps.push(event.t_unix_ms);
}

const rows = () => series[shown];
const gap = () => gapMs[shown];

function whole() {
  const found = rows();
  const to = found.length ? found.at(-1)[0] : Date.now();
  const from = found.length ? found[0][0] : to - HOUR_MS;
  return [Math.min(from, to - LEAST_MS), to];
}

const range = () => zoom ?? whole();

function values([from, to]) {
  const found = rows().filter((row) => row[1] !== null && row[0] >= from && row[0] <= to);
  const marks = limits ? [limits.detectable_early_ms, limits.detectable_late_ms] : [];
  const all = [0, ...marks, ...found.flatMap(([, offset, error]) => [offset - error, offset + error])];
  const low = Math.min(...all);
  const high = Math.max(...all);
  const room = Math.max((high - low) * 0.08, 5);
  return [low - room, high + room];
}

export function draw() {
  const [from, to] = range();
  plot.begin([from, to], values([from, to]));
  plot.yAxis(ticks(...plot.yRange, 5), (value) => signed(value));
  const spans = SPANS_MS.find((one) => (to - from) / one <= (plot.width < 500 ? 4 : 9)) ?? SPANS_MS.at(-1);
  const first = Math.ceil(from / spans) * spans;
  const times = [];
  for (let t = first; t <= to; t += spans) times.push(t);
  plot.xAxis(times, (t) => clock(t, spans < 60_000));
  plot.clipped((context) => {
    shadeGaps(context);
    drawLimits();
    for (const t of steps) plot.line([[t, plot.yRange[0]], [t, plot.yRange[1]]], colour("text"), { width: 1, dash: [2, 2] });
    for (const run of runs()) {
      plot.fill([...run.map(([t, offset, error]) => [t, offset + error]), ...run.map(([t, offset, error]) => [t, offset - error]).reverse()], colour("band"));
      plot.line(run.length > 1 ? run : [[run[0][0] - 400, run[0][1]], [run[0][0] + 400, run[0][1]]], colour("accent"));
    }
    drawCursor(context);
    if (dragged) {
      context.fillStyle = colour("band");
      context.fillRect(dragged[0], 0, dragged[1] - dragged[0], plot.height);
    }
  });
  at("whole").disabled = zoom === null;
  describe();
}

/** Stretches of rows with a number and without a gap. */
function runs() {
  const found = [];
  let run = [];
  const end = () => {
    if (run.length) found.push(run);
    run = [];
  };
  for (const row of rows()) {
    const before = run.at(-1)?.[0];
    if (row[1] === null || row[0] - before > gap() || steps.some((t) => before < t && t <= row[0])) end();
    if (row[1] !== null) run.push(row);
  }
  end();
  return found;
}

const SHADES = { no_face: [4, 4], no_speech: [1, 3], stalled: [8, 2] };

function shadeGaps(context) {
  const found = rows();
  found.forEach((row, k) => {
    if (row[1] !== null) return;
    const from = Math.max(found[k - 1]?.[0] ?? row[0], row[0] - gap());
    const until = found[k + 1]?.[1] === null ? row[0] : Math.min(found[k + 1]?.[0] ?? row[0] + 1000, row[0] + gap());
    const [x, end] = [plot.x(from), plot.x(until)];
    context.fillStyle = colour("shade");
    context.fillRect(x, plot.box.y, Math.max(end - x, 0.5), plot.box.height);
    context.strokeStyle = colour(row[3] === "stalled" ? "bad" : "faint");
    context.setLineDash(SHADES[row[3]] ?? []);
    context.lineWidth = 4;
    context.beginPath();
    context.moveTo(x, plot.box.y + plot.box.height - 2);
    context.lineTo(end, plot.box.y + plot.box.height - 2);
    context.stroke();
    context.setLineDash([]);
  });
}

function drawLimits() {
  if (!limits) return;
  const across = (value, style) => plot.line([[plot.xRange[0], value], [plot.xRange[1], value]], style, { width: 1.5, dash: [6, 4] });
  for (const name of ["detectable_early_ms", "detectable_late_ms"]) across(limits[name], colour("fair"));
  for (const name of ["acceptable_early_ms", "acceptable_late_ms"]) across(limits[name], colour("bad"));
  across(0, colour("faint"));
}

function drawCursor(context) {
  if (!cursor) return;
  plot.line([[cursor[0], plot.yRange[0]], [cursor[0], plot.yRange[1]]], colour("text"), { width: 1 });
  if (cursor[1] === null) return;
  context.fillStyle = colour("text");
  context.beginPath();
  context.arc(plot.x(cursor[0]), plot.y(cursor[1]), 4, 0, 2 * Math.PI);
  context.fill();
}

function describe() {
  const found = rows().filter((row) => row[1] !== null);
  const said = found.length ? `${text("historyLabel")}: ${clock(found[0][0])} ${signed(found[0][1])} ms, ${clock(found.at(-1)[0])} ${signed(found.at(-1)[1])} ms` : text("historyNone");
  if (canvas.getAttribute("aria-label") !== said) canvas.setAttribute("aria-label", said);
}

function legend() {
  const items = [["band", "band"], ["limit", "limitDetectable"], ["bad-limit", "limitAcceptable"], ["gap", "gap"]];
  const bounds = limits && {
    limitDetectable: ` ${signed(limits.detectable_early_ms)} / ${signed(limits.detectable_late_ms)} ms`,
    limitAcceptable: ` ${signed(limits.acceptable_early_ms)} / ${signed(limits.acceptable_late_ms)} ms`,
  };
  at("history-legend").replaceChildren(...items.map(([kind, key]) => {
    const made = document.createElement("span");
    made.className = `key ${kind}`;
    made.textContent = text(key) + (bounds?.[key] ?? "");
    return made;
  }));
}

// Reading values

function read(row) {
  cursor = row;
  const value = row && (row[1] === null ? text(row[3]) : `${signed(row[1])} ± ${number(row[2])} ms`);
  at("reading").textContent = row ? `${clock(row[0])}  ${value}` : "";
  draw();
}

function nearest(t) {
  let best = null;
  for (const row of rows()) if (!best || Math.abs(row[0] - t) < Math.abs(best[0] - t)) best = row;
  return best;
}

function setZoom(from, to) {
  const [first, last] = whole();
  const length = Math.max(to - from, LEAST_MS);
  zoom = length >= last - first ? null : [Math.max(first, Math.min(from, last - length)), Math.min(last, Math.max(to, first + length))];
  draw();
}

function zoomAround(t, factor) {
  const [from, to] = range();
  setZoom(t - (t - from) * factor, t + (to - t) * factor);
}

const place = (event) => event.clientX - canvas.getBoundingClientRect().left;

canvas.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, place(event));
  if (event.pointerType === "mouse") dragged = [place(event), place(event)];
  if (event.pointerType === "mouse" || fingers.size > 1) canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event);
  if (dragged) dragged[1] = place(event);
  else if (fingers.has(event.pointerId)) fingers.set(event.pointerId, place(event));
  return read(nearest(plot.valueAt(place(event))));
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    fingers.delete(event.pointerId);
    if (!dragged) return;
    const [a, b] = dragged.map((x) => plot.valueAt(x)).sort((one, other) => one - other);
    const far = Math.abs(dragged[1] - dragged[0]) > 8;
    dragged = null;
    if (far && kind === "pointerup") setZoom(a, b);
    else draw();
  });
}
canvas.addEventListener("pointerleave", () => {
  if (!dragged) read(null);
});
canvas.addEventListener("dblclick", () => setZoom(...whole()));
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // the page scrolls
  event.preventDefault();
  zoomAround(plot.valueAt(place(event)), event.deltaY > 0 ? 1.25 : 0.8);
}, { passive: false });

function pinch(event) {
  const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
  const before = Math.max(Math.abs(fingers.get(event.pointerId) - other), 10);
  const after = Math.max(Math.abs(place(event) - other), 10);
  const middle = plot.valueAt((place(event) + other) / 2);
  fingers.set(event.pointerId, place(event));
  zoomAround(middle, before / after);
}

canvas.addEventListener("keydown", (event) => {
  const found = rows();
  if (!found.length) return;
  const now = cursor ? found.indexOf(cursor) : found.length;
  const [from, to] = range();
  const acts = {
    ArrowLeft: () => read(found[Math.max(now - 1, 0)]),
    ArrowRight: () => read(found[Math.min(now + 1, found.length - 1)]),
    Home: () => read(found[0]),
    End: () => read(found.at(-1)),
    "+": () => zoomAround(cursor?.[0] ?? (from + to) / 2, 0.7),
    "-": () => zoomAround(cursor?.[0] ?? (from + to) / 2, 1.4),
    Escape: () => setZoom(...whole()),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

function choose(name) {
  shown = name;
  zoom = cursor = null;
  at("hour").setAttribute("aria-pressed", String(name === "hour"));
  at("day").setAttribute("aria-pressed", String(name === "day"));
  read(null);
}
at("hour").addEventListener("click", () => choose("hour"));
at("day").addEventListener("click", () => choose("day"));
at("whole").addEventListener("click", () => setZoom(...whole()));
