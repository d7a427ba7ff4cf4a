// What the last seconds say of each offset, and how probable each one is after all that came before.

import { Plot, colour, ticks } from "./plot.js";
import { number, signed, text } from "./texts.js";

const canvas = document.getElementById("curve-plot");
const plot = new Plot(canvas, { left: 10, right: 10 });
let last = null;
let report = null;

export function show(curve) {
  last = curve;
  draw();
}

/** The limits and the number to mark come with the report. */
export function mark(newest, limits) {
  report = { newest, limits };
  if (newest.state === "stalled") last = null;
  draw();
}

export function draw() {
  const offsets = (values) => values.map((value, k) => [last.first_ms + k * last.step_ms, value]);
  const range = last ? [last.first_ms, last.first_ms + (last.probability.length - 1) * last.step_ms] : [-1200, 1200];
  plot.begin(range, [0, 1.05]);
  shadeLimits(range);
  plot.xAxis(ticks(...range, plot.width < 500 ? 4 : 8), (value) => signed(value));
  if (!last) {
    canvas.setAttribute("aria-label", text("curveNone"));
    return;
  }
  const highest = Math.max(...last.probability, 1e-6);
  const hill = offsets(last.probability.map((one) => one / highest));
  const low = Math.min(...last.evidence_nats);
  const span = Math.max(Math.max(...last.evidence_nats) - low, 1e-6);
  plot.clipped(() => {
    plot.fill([[range[0], 0], ...hill, [range[1], 0]], colour("band"));
    plot.line(offsets(last.evidence_nats.map((one) => (one - low) / span)), colour("faint"), { width: 1.5, dash: [4, 3] });
    plot.line(hill, colour("accent"));
    const found = report?.newest.offset_ms;
    if (found !== null && found !== undefined) plot.line([[found, 0], [found, 1.05]], colour("text"), { width: 1.5 });
  });
  const peak = last.first_ms + last.probability.indexOf(highest) * last.step_ms;
  canvas.setAttribute("aria-label", text("curvePeak", { offset: signed(peak), share: number(highest, 2) }));
}

function shadeLimits(range) {
  if (!report?.limits) return;
  const { acceptable_early_ms: early, acceptable_late_ms: late } = report.limits;
  plot.clipped((context) => {
    context.fillStyle = colour("shade");
    context.fillRect(plot.x(range[0]), 0, plot.x(late) - plot.x(range[0]), plot.height);
    context.fillRect(plot.x(early), 0, plot.x(range[1]) - plot.x(early), plot.height);
  });
}
