// From an address with a token to a page that follows the daemon.

import * as aim from "./aim.js";
import { follow, get, logIn } from "./api.js";
import * as controls from "./controls.js";
import * as curve from "./curve.js";
import * as history from "./history.js";
import * as offset from "./offset.js";
import * as status from "./status.js";
import { text, translate } from "./texts.js";

const TRY_AGAIN_MS = 3000;
const connection = document.getElementById("connection");

function say(key) {
  const said = text(key);
  if (connection.textContent !== said) connection.textContent = said;
}

let page = null;
let missed = false; // something of what came, so that it must be loaded again
let left = false; // the browser shows another page, and may return to this one
let stream = null;

const limits = (report) => page.profiles[report.profile];

const handlers = {
  report(report) {
    offset.show(report);
    aim.showLost(report);
    curve.mark(report, limits(report));
    history.add(report, limits(report));
    status.showDrift(report);
    status.show({ report });
  },
  event(event) {
    status.addEvent(event);
    if (event.kind === "step") history.addStep(event);
  },
  info: (info) => status.show({ info }),
  health: (health) => status.show({ health }),
  live: (live) => aim.show(live, page.pictures),
  curve: curve.show,
};

async function load() {
  page = await get("/api/page");
  const [past, info] = await Promise.all([get("/api/history"), get("/api/info").catch(() => null)]);
  history.load(past, page, info && page.profiles[info.profile]);
  status.loadEvents(page.events);
  status.show({ recording: page.recording });
  controls.build(page);
}

/** Why nothing is shown; whether it may be otherwise soon. */
function explain(error, withToken) {
  const shut = error.status === 401 || error.status === 429;
  say(shut ? (withToken ? "wrongToken" : "locked") : "lost");
  return !shut;
}

async function start() {
  const withToken = location.hash !== "";
  try {
    await logIn();
    await load();
  } catch (error) {
    if (explain(error, withToken)) setTimeout(start, TRY_AGAIN_MS);
    return;
  }
  connect();
}

/** Follow the daemon from now on; without images while the page is hidden, so that the daemon makes none. */
function connect() {
  stream?.close();
  stream = follow(handlers, { opened, lost, refused, live: !document.hidden });
}

function reconnect() {
  if (!page || left) return;
  missed = true;
  connect();
}

async function opened() {
  say("connected");
  if (!missed) return;
  missed = false;
  await load().catch(lost);
}

function lost() {
  missed = true;
  say("lost");
}

async function refused() {
  missed = true;
  try {
    await get("/api/page");
    say("full");
  } catch (error) {
    if (!explain(error, false)) return;
  }
  setTimeout(start, TRY_AGAIN_MS);
}

function redraw() {
  curve.draw();
  history.draw();
}

translate();
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("hashchange", () => location.hash && location.reload());
document.addEventListener("visibilitychange", reconnect);
addEventListener("pagehide", () => {
  left = true;
  stream?.close();
});
addEventListener("pageshow", (event) => {
  left = false;
  if (event.persisted) reconnect();
});
start();
