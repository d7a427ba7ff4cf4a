// Drift, devices, models, clocks, health and events, in words.

import { clock, has, number, signed, text } from "./texts.js";

const MAX_EVENTS = 100;
const MS_PER_HOUR_PER_PPM = 3.6;
const at = (id) => document.getElementById(id);
const known = { recording: false, info: null, health: null, report: null };

export function showDrift(report) {
  const state = text(report.drift_class === "unknown" ? "driftUnknown" : report.drift_class);
  const value = report.drift_ppm === null ? "" : text("driftValue", {
    ppm: signed(report.drift_ppm, 1),
    error: number(report.drift_std_ppm ?? 0, 1),
    perHour: signed(report.drift_ppm * MS_PER_HOUR_PER_PPM, 1),
  });
  at("drift-value").textContent = [value, state].filter(Boolean).join(" – ");
}

/** Any of what is known, as it comes. */
export function show(news) {
  Object.assign(known, news);
  const { info, health, report } = known;
  const facts = [];
  const add = (key, value, bad = false) => value !== null && value !== undefined && facts.push([key, value, bad]);
  if (report) {
    const faults = report.faults ?? (report.fault ? [report.fault] : []);
    add("fault", faults.map((one) => text(one)).join(" ") || text("noFault"), faults.length > 0);
  }
  if (known.recording) add("source", text("recording"));
  if (info) {
    add("camera", info.camera);
    add("microphone", info.microphone);
    add("bias", info.bias_ms === null ? text("notCalibrated") : `${signed(info.bias_ms, 1)} ± ${number(info.bias_std_ms, 1)} ms`);
    add("model", info.model);
    add("profile", info.profile);
    add("version", info.version);
  }
  if (report) {
    add("synced", report.clock_synced === null ? null : text(report.clock_synced ? "clockRight" : "clockFree"));
    add("latency", report.latency_ms === null ? null : `${number(report.latency_ms)} ms`);
    add("uptime", duration(report.uptime_s));
  }
  if (health) {
    add("microphoneClock", health.microphone_ppm === null ? null : `${signed(health.microphone_ppm, 1)} ppm`);
    add("temperature", health.temperature_c === null ? null : `${number(health.temperature_c, 1)} °C`, health.temperature_c > 80);
    add("power", health.undervoltage === null ? null : text(health.undervoltage ? "low" : "fine"), health.undervoltage);
    add("cpu", health.cpu_ratio === null ? null : text("cpuValue", { percent: number(health.cpu_ratio * 100) }));
    add("memory", health.memory_mb === null ? null : `${number(health.memory_mb)} MB`);
    if (health.load_step) add("load", number(health.load_step), true);
  }
  fill(facts);
}

function fill(facts) {
  const list = at("facts");
  const shown = JSON.stringify(facts);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...facts.flatMap(([key, value, bad]) => {
    const name = document.createElement("dt");
    name.textContent = text(key);
    const said = document.createElement("dd");
    said.textContent = value;
    said.dataset.bad = String(bad);
    return [name, said];
  }));
}

function duration(s) {
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function loadEvents(events) {
  at("event-list").replaceChildren(...events.map(entry).reverse());
  if (!events.length) at("event-list").append(Object.assign(document.createElement("li"), { textContent: text("noEvents") }));
}

export function addEvent(event) {
  const list = at("event-list");
  if (!list.querySelector("time")) list.replaceChildren();
  list.prepend(entry(event));
  while (list.children.length > MAX_EVENTS) list.lastElementChild.remove();
}

function entry(event) {
  const made = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = new Date(event.t_unix_ms).toISOString();
  time.textContent = clock(event.t_unix_ms);
  const name = has(`${event.kind}Event`) ? `${event.kind}Event` : event.kind;
  made.append(time, `${text(name)}: ${change(event)}`);
  return made;
}

function change({ kind, before, after }) {
  const word = (value) => (value === null ? "–" : typeof value === "number" ? `${signed(value)} ms` : has(value) ? text(value) : String(value));
  return kind === "step" && before === null ? word(after) : `${word(before)} → ${word(after)}`;
}
