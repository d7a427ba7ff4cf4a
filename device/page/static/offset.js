// The number, what a viewer would say of it, or why there is none and what to do about it.

import { has, number, signed, text } from "./texts.js";

const MARKS = { in_sync: "✓", detectable: "▲", unacceptable: "✕", borderline: "≈", unknown: "" };
const SPOKEN_EVERY_MS = 15_000;
const OLD_S = 3;

const at = (id) => document.getElementById(id);
let spokenWords = "";
let spokenMs = 0;

/** What is wrong, or missing, in words that say what to do. */
export function advice(report) {
  const key = report.fault ?? report.reason ?? report.state;
  if (report.offset_ms !== null && !report.fault) {
    const old = report.evidence_age_s ?? 0;
    if (old >= OLD_S) return `${text("older", { s: number(old) })} ${text(key)}`;
    const way = { audio_early: "saysEarly", audio_late: "saysLate" }[report.direction] ?? "saysSync";
    return text(way, { ms: number(Math.abs(report.offset_ms)) });
  }
  return has(key) ? text(key) : text(report.state);
}

/** The verdict; where a limit lies within the error, between which ones. */
function verdictWords({ verdict, verdict_range: range }) {
  return verdict === "borderline" && range ? `${text(verdict)} (${range.map((one) => text(one)).join(" – ")})` : text(verdict);
}

export function show(report) {
  const known = report.offset_ms !== null;
  at("offset").dataset.verdict = report.verdict;
  at("offset").dataset.stale = String((report.evidence_age_s ?? 0) >= OLD_S);
  at("number").textContent = known ? signed(report.offset_ms) : "–";
  at("unit").textContent = known ? "ms" : "";
  at("error").textContent = known ? `± ${number(report.offset_std_ms)}` : "";
  at("mark").textContent = MARKS[report.verdict];
  at("word").textContent = verdictWords(report);
  const direction = report.direction && report.direction !== "in_sync" ? text(report.direction) : "";
  at("direction").textContent = direction && `· ${direction}`;
  at("advice").textContent = advice(report);
  document.title = known ? `${signed(report.offset_ms)} ms · avdrift` : "avdrift";
  speak(report, direction);
}

/** Tell those who do not see the page: at once what has changed in words, a mere number now and then. */
function speak(report, direction) {
  const words = [report.verdict, report.direction, report.fault, report.offset_ms === null && report.reason].join();
  const now = Date.now();
  if (words === spokenWords && now - spokenMs < SPOKEN_EVERY_MS) return;
  spokenWords = words;
  spokenMs = now;
  const values = { direction, verdict: verdictWords(report) };
  const said = report.offset_ms === null
    ? `${text(report.verdict)}. ${advice(report)}`
    : text("spokenOffset", { offset: signed(report.offset_ms), ...values });
  if (at("spoken").textContent !== said) at("spoken").textContent = said;
}
