// The camera's picture with faces, mouths and the speaker; the level of the sound with its peak, speech and clipping.

import { number, text } from "./texts.js";
import { colour } from "./plot.js";

const FLOOR_DB = -60;
const HELD_MS = 2000;
const FALL_DB = 2; // each message, once the peak was held
const CLIPPED_MS = 2000;
const WIDTH = 320;

const at = (id) => document.getElementById(id);
let bitmap = null;
let peak = { db: FLOOR_DB, ms: 0 };
let clippedMs = -CLIPPED_MS;
let heardMs = -HELD_MS;

export async function show(live, pictures) {
  sound(live);
  at("rate").textContent = live.video_rate_hz === null ? "–" : number(live.video_rate_hz, 1);
  if (live.picture) {
    const bytes = Uint8Array.from(atob(live.picture), (sign) => sign.charCodeAt(0));
    const made = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    bitmap?.close();
    bitmap = made;
  } else if (live.width_px === null) {
    bitmap?.close();
    bitmap = null;
  }
  draw(live, pictures);
}

export function showLost(report) {
  at("dropped").textContent = number(report.video_dropped + report.audio_dropped);
}

function draw(live, pictures) {
  const canvas = at("picture");
  const context = canvas.getContext("2d");
  const height = live.width_px ? Math.round((WIDTH * live.height_px) / live.width_px) : 240;
  if (canvas.width !== WIDTH || canvas.height !== height) Object.assign(canvas, { width: WIDTH, height });
  context.fillStyle = "#3a4148";
  context.fillRect(0, 0, WIDTH, height);
  if (bitmap) context.drawImage(bitmap, 0, 0, WIDTH, height);
  for (const face of live.faces) outline(context, face, height);
  const key = pictures === "off" ? "aimOff" : live.width_px === null ? "aimNone" : live.faces.length ? "aimFaces" : "aimNobody";
  const said = text(key, { n: live.faces.length });
  if (key !== "aimFaces") caption(context, said, 8, height - 10);
  if (canvas.getAttribute("aria-label") !== said) canvas.setAttribute("aria-label", said);
}

function outline(context, face, height) {
  const place = ([x, y, w, h]) => [x * WIDTH, y * height, w * WIDTH, h * height];
  context.strokeStyle = face.speaker ? "#5ee493" : "#ffffff";
  context.lineWidth = face.speaker ? 3 : 1.5;
  context.setLineDash(face.speaker ? [] : [5, 4]);
  context.strokeRect(...place(face.box));
  context.lineWidth = 1.5;
  context.strokeRect(...place(face.mouth));
  context.setLineDash([]);
  const [x, y] = place(face.box);
  if (face.speaker) caption(context, text("speaker"), Math.max(x, 2), Math.max(y - 5, 14));
}

function caption(context, said, x, y) {
  context.font = "600 13px system-ui, sans-serif";
  context.fillStyle = "rgba(0, 0, 0, 0.65)";
  context.fillRect(x - 4, y - 13, context.measureText(said).width + 8, 18);
  context.fillStyle = "#ffffff";
  context.fillText(said, x, y);
}

function sound(live) {
  const now = performance.now();
  if (live.rms_db !== null) heardMs = now;
  else if (now - heardMs < HELD_MS) return; // its audio is only late
  const db = Math.max(live.rms_db ?? FLOOR_DB, FLOOR_DB);
  const top = Math.max(live.peak_db ?? FLOOR_DB, FLOOR_DB);
  if (top >= peak.db) peak = { db: top, ms: now };
  else if (now - peak.ms > HELD_MS) peak.db = Math.max(peak.db - FALL_DB, top);
  if (live.clipped) clippedMs = now;
  const share = (value) => (value - FLOOR_DB) / -FLOOR_DB;
  at("bar").style.transform = `scaleX(${share(db)})`;
  at("bar").style.background = colour(db > -6 ? "bad" : "good");
  at("peak").style.left = `calc(${share(Math.min(peak.db, 0)) * 100}% - 2px)`;
  at("level").setAttribute("aria-valuenow", String(Math.round(db)));
  lamp("speech", live.speech === true);
  lamp("clipping", now - clippedMs < CLIPPED_MS);
}

function lamp(id, on) {
  at(id).dataset.on = String(on);
  at(id).querySelector(".state").textContent = text(on ? "on" : "off");
}
