// Talking with the daemon: the token of the address becomes a cookie, then JSON, commands and one stream of events.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  if (answer.ok || answer.status === 409) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.error ?? answer.statusText);
}

export const get = async (path) => (await ask(path)).json();

export const command = async (verb) => (await ask(`/api/command/${verb}`, { method: "POST", body: "{}" })).json();

/** Show the token in the address, if there is one, and take it out of there. */
export async function logIn() {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await ask("/api/login", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}

/** Have each event of these kinds given to its handler, until the server refuses or the returned stream is closed. */
export function follow(handlers, { opened, lost, refused, live }) {
  const source = new EventSource(live ? "/api/events?live=1" : "/api/events");
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  }
  source.onopen = opened;
  source.onerror = () => (source.readyState === EventSource.CLOSED ? refused() : lost());
  return source;
}
