// All texts of the page, once: key: [English, German]. Words of the daemon (states, faults, …) are keys as they come.

const TABLE = {
  connecting: ["Connecting …", "Verbinde …"],
  connected: ["Live", "Live"],
  lost: ["No connection: trying again …", "Keine Verbindung: neuer Versuch …"],
  locked: [
    "Locked. Open the address that `avdrift page` prints on the device.",
    "Gesperrt. Öffne die Adresse, die „avdrift page“ auf dem Gerät ausgibt.",
  ],
  wrongToken: [
    "This address is out of date. `avdrift page` prints the right one.",
    "Diese Adresse gilt nicht mehr. „avdrift page“ gibt die richtige aus.",
  ],
  full: ["Too many pages are open: close one.", "Zu viele Seiten sind offen: schließe eine."],

  offset: ["Offset", "Versatz"],
  aim: ["Aim", "Ausrichtung"],
  curve: ["Evidence", "Messkurve"],
  history: ["History", "Verlauf"],
  drift: ["Drift", "Drift"],
  controls: ["Actions", "Aktionen"],
  devices: ["Device", "Gerät"],
  events: ["Events", "Ereignisse"],

  in_sync: ["In sync", "Synchron"],
  detectable: ["Noticeable", "Bemerkbar"],
  unacceptable: ["Unacceptable", "Unzulässig"],
  borderline: ["Borderline", "Grenzfall"],
  unknown: ["No number", "Kein Messwert"],
  audio_early: ["audio early", "Ton zu früh"],
  audio_late: ["audio late", "Ton zu spät"],
  saysEarly: ["The audio is {ms} ms ahead of the video.", "Der Ton kommt {ms} ms vor dem Bild."],
  saysLate: ["The audio is {ms} ms behind the video.", "Der Ton kommt {ms} ms nach dem Bild."],
  saysSync: ["Audio and video are in sync.", "Ton und Bild sind gleichauf."],
  older: ["The newest evidence is {s} s old.", "Die letzte Messung ist {s} s alt."],
  spokenOffset: ["{offset} ms, {direction}, {verdict}", "{offset} ms, {direction}, {verdict}"],

  speech: ["Speech", "Sprache"],
  clipping: ["Clipping", "Übersteuert"],
  level: ["Audio level in dB", "Tonpegel in dB"],
  on: ["yes", "ja"],
  off: ["no", "nein"],
  fps: ["frames/s", "Bilder/s"],
  dropped: ["lost", "verloren"],
  aimNone: ["The camera delivers no video", "Die Kamera liefert kein Bild"],
  aimOff: ["Video is turned off", "Bilder sind ausgeschaltet"],
  aimNobody: ["No face in view", "Kein Gesicht im Bild"],
  aimFaces: ["{n} face(s) in view", "{n} Gesicht(er) im Bild"],
  speaker: ["speaks", "spricht"],

  probability: ["Probability", "Wahrscheinlichkeit"],
  evidence: ["Evidence of the last seconds", "Messung der letzten Sekunden"],
  curvePeak: ["Most probable at {offset} ms", "Am wahrscheinlichsten bei {offset} ms"],
  curveNone: ["No curve yet", "Noch keine Kurve"],

  hour: ["Hour", "Stunde"],
  day: ["Day", "Tag"],
  whole: ["Show all", "Alles zeigen"],
  historyKeys: [
    "Drag or pinch to zoom. Arrow keys move the cursor, + and − zoom.",
    "Ziehen oder mit zwei Fingern vergrößern. Pfeiltasten bewegen die Marke, + und − vergrößern.",
  ],
  historyLabel: ["Offset over time", "Versatz über die Zeit"],
  historyNone: ["Nothing measured yet", "Noch nichts gemessen"],
  band: ["Offset with its error", "Versatz mit Fehler"],
  limitDetectable: ["noticeable from", "bemerkbar ab"],
  limitAcceptable: ["unacceptable from", "unzulässig ab"],
  gap: ["no number", "kein Messwert"],

  driftValue: ["{ppm} ± {error} ppm, {perHour} ms per hour", "{ppm} ± {error} ppm, {perHour} ms je Stunde"],
  steady: ["steady", "stetig"],
  drifting: ["drifting", "driftet"],
  stepped: ["stepped; too little since then", "ist gesprungen; seither zu wenig"],
  driftUnknown: ["not known yet", "noch nicht bekannt"],

  source: ["Source", "Quelle"],
  recording: ["a recording", "eine Aufnahme"],
  camera: ["Camera", "Kamera"],
  microphone: ["Microphone", "Mikrofon"],
  model: ["Models", "Modelle"],
  version: ["Version", "Version"],
  profile: ["Limits", "Grenzwerte"],
  bias: ["Calibration", "Kalibrierung"],
  notCalibrated: ["none", "keine"],
  synced: ["Clock", "Uhr"],
  clockRight: ["synchronized", "von einem Zeitdienst gestellt"],
  clockFree: ["not synchronized", "von keinem Zeitdienst gestellt"],
  microphoneClock: ["Microphone's clock", "Takt des Mikrofons"],
  fault: ["Fault", "Störung"],
  noFault: ["none", "keine"],
  temperature: ["Temperature", "Temperatur"],
  power: ["Supply voltage", "Versorgungsspannung"],
  low: ["too low", "zu niedrig"],
  fine: ["ok", "in Ordnung"],
  cpu: ["Processor", "Prozessor"],
  cpuValue: ["{percent} % of a core", "{percent} % eines Kerns"],
  memory: ["Memory", "Speicher"],
  load: ["Skipped, too slow", "Ausgelassen, zu langsam"],
  latency: ["Delay of reports", "Verzögerung der Berichte"],
  uptime: ["Running for", "Läuft seit"],
  noEvents: ["No events yet", "Noch nichts geschehen"],

  verdict: ["Verdict", "Urteil"],
  step: ["Step", "Sprung"],
  face: ["Face", "Gesicht"],
  speechEvent: ["Speech", "Sprache"],
  faultEvent: ["Fault", "Störung"],
  modelEvent: ["Models", "Modelle"],
  profileEvent: ["Limits", "Grenzwerte"],
  present: ["present", "da"],
  absent: ["absent", "weg"],
  none: ["none", "keine"],

  cancel: ["Cancel", "Abbrechen"],
  recalibrate: ["Calibrate", "Kalibrieren"],
  recalibrateAsk: [
    "Somebody must speak to the camera for {s} seconds, in sync. The measured offset becomes the new zero.",
    "Jemand muss {s} Sekunden lang zur Kamera sprechen, synchron. Was gemessen wird, gilt danach als null.",
  ],
  recalibrateRuns: ["Keep speaking: {s} s left", "Weitersprechen: noch {s} s"],
  recalibrateDone: [
    "Calibrated: {bias} ± {error} ms are now subtracted.",
    "Kalibriert: {bias} ± {error} ms werden nun abgezogen.",
  ],
  "undo-recalibrate": ["Undo calibration", "Kalibrierung zurücknehmen"],
  "undo-recalibrateAsk": [
    "The calibration before the last one will be used again.",
    "Abgezogen wird wieder, was vor der letzten Kalibrierung galt.",
  ],
  "undo-recalibrateDone": ["The previous calibration is in use again.", "Die vorige Kalibrierung gilt wieder."],
  "reset-calibration": ["Remove calibration", "Kalibrierung entfernen"],
  "reset-calibrationAsk": [
    "Reports will show the whole offset again, including that of this rig.",
    "Die Berichte zeigen wieder den ganzen Versatz, mit dem dieses Aufbaus.",
  ],
  "reset-calibrationDone": ["The calibration has been removed.", "Die Kalibrierung ist entfernt."],
  "model-rollback": ["Previous models", "Vorige Modelle"],
  "model-rollbackAsk": ["Return to the previous models?", "Zu den Modellen vor diesen zurückkehren?"],
  "model-rollbackDone": ["Now measuring with {model}.", "Misst nun mit {model}."],
  "restart-sources": ["Restart camera and microphone", "Kamera und Mikrofon neu starten"],
  "restart-sourcesAsk": ["There will be no numbers for some seconds.", "Einige Sekunden lang gibt es keine Messwerte."],
  "restart-sourcesDone": ["Restarted.", "Neu gestartet."],
  csv: ["Save the hour as CSV", "Stunde als CSV sichern"],
  working: ["Working …", "Läuft …"],
  failed: ["Failed: {error}", "Nicht ausgeführt: {error}"],

  // Why there is no number, and what to do about it.
  starting: ["Starting: this takes a few seconds of a talking face.", "Startet: Es braucht einige Sekunden ein sprechendes Gesicht."],
  no_face: [
    "Nobody's mouth is visible. Move the camera until a face is in view.",
    "Kein Mund ist zu sehen. Richte die Kamera so aus, dass ein Gesicht im Bild ist.",
  ],
  no_speech: [
    "Nobody speaks. If somebody does, check that the microphone is on and its level is high enough.",
    "Niemand spricht. Wenn doch: Ist das Mikrofon an und sein Pegel hoch genug?",
  ],
  too_little_speech: ["Too little speech so far. Wait a few seconds.", "Bisher zu wenig Sprache. Warte einige Sekunden."],
  voice_not_of_this_face: [
    "The voice does not fit the face in view. Point the camera at the person who speaks.",
    "Die Stimme gehört nicht zum Gesicht im Bild. Richte die Kamera auf die Person, die spricht.",
  ],
  beyond_search_range: [
    "The offset is beyond the search range. Raise search_ms under [measure].",
    "Der Versatz ist größer als der Suchbereich. Erhöhe search_ms unter [measure].",
  ],
  ambiguous: [
    "Several offsets fit. Let one person keep speaking; avoid echoes and a second microphone.",
    "Mehrere Werte passen. Lass eine Person weitersprechen; vermeide Echos und ein zweites Mikrofon.",
  ],
  no_sender_reports: [
    "The stream does not relate its audio to its video. Turn on RTCP at its sender.",
    "Der Stream sagt nicht, wie Ton und Bild zusammengehören. Schalte beim Sender RTCP ein.",
  ],
  low_frame_rate: ["Too few frames per second to read lips.", "Zu wenige Bilder je Sekunde, um Lippen zu lesen."],
  short: ["The recording is too short.", "Die Aufnahme ist zu kurz."],
  offset_varies: ["The offset keeps changing.", "Der Versatz ändert sich ständig."],
  uncertain: ["Not sure enough yet.", "Noch nicht sicher genug."],
  stalled: ["Camera or microphone delivers nothing. Check the cables.", "Kamera oder Mikrofon liefert nichts. Prüfe die Kabel."],
  measuring: ["Measuring", "Misst"],
  camera_missing: ["No camera found. Plug it in.", "Es gibt keine Kamera. Schließe sie an."],
  camera_busy: ["Another program uses the camera. Close it.", "Ein anderes Programm benutzt die Kamera. Beende es."],
  camera_permission: [
    "The camera may not be opened. Add the user avdrift to the group video.",
    "Die Kamera darf nicht geöffnet werden. Nimm den Benutzer avdrift in die Gruppe video auf.",
  ],
  camera_stalled: ["The camera delivers no frames. Plug it in again.", "Die Kamera liefert keine Bilder. Stecke sie neu ein."],
  camera_lost: ["The camera was disconnected. Check its cable.", "Die Kamera ist weg. Prüfe ihr Kabel."],
  camera_frozen: ["The video is frozen. Check the camera or its signal.", "Das Bild steht. Prüfe die Kamera oder ihr Signal."],
  camera_black: ["The video is black. Remove the lens cap, or add light.", "Das Bild ist schwarz. Nimm die Kappe ab oder mache Licht."],
  microphone_missing: ["No microphone found. Plug it in.", "Es gibt kein Mikrofon. Schließe es an."],
  microphone_busy: ["Another program uses the microphone. Close it.", "Ein anderes Programm benutzt das Mikrofon. Beende es."],
  microphone_permission: [
    "The microphone may not be opened. Add the user avdrift to the group audio.",
    "Das Mikrofon darf nicht geöffnet werden. Nimm den Benutzer avdrift in die Gruppe audio auf.",
  ],
  microphone_stalled: ["The microphone delivers no audio. Plug it in again.", "Das Mikrofon liefert keinen Ton. Stecke es neu ein."],
  microphone_lost: ["The microphone was disconnected. Check its cable.", "Das Mikrofon ist weg. Prüfe sein Kabel."],
  microphone_silent: ["The microphone is silent. Is it muted?", "Das Mikrofon ist stumm. Ist es ausgeschaltet?"],
  microphone_clipped: ["The audio is too loud. Lower the level.", "Der Ton ist zu laut. Drehe den Pegel herunter."],
  stream_missing: ["The stream cannot be reached. Check its address and the network.", "Der Stream ist nicht erreichbar. Prüfe Adresse und Netz."],
  stream_permission: ["The server refuses this user name or password.", "Der Server verlangt einen anderen Namen oder ein anderes Passwort."],
  stream_refused: ["This address delivers nothing that can be measured.", "Diese Adresse liefert nichts, das sich messen lässt."],
  stream_stalled: ["The stream has stopped. Check its sender.", "Der Stream sendet nichts. Prüfe den Sender."],
  stream_lost: ["The stream was lost: trying again.", "Der Stream ist abgebrochen: neuer Versuch."],
  stream_incomplete: ["The stream has no video or no audio.", "Dem Stream fehlt das Bild oder der Ton."],
  stream_unsynced: [
    "The stream does not relate its audio to its video yet. Wait, or turn on RTCP at its sender.",
    "Der Stream sagt noch nicht, wie Ton und Bild zusammengehören. Warte, oder schalte beim Sender RTCP ein.",
  ],
  stream_jumped: ["The time stamps of the stream have jumped: measuring starts again.", "Die Zeitstempel sind gesprungen: Die Messung beginnt neu."],
  stream_changed: ["The frame size or sampling rate of the stream has changed: measuring starts again.", "Der Stream hat Größe oder Rate geändert: Die Messung beginnt neu."],
  stream_slow: ["The stream falls behind. Check the network.", "Der Stream kommt immer später. Prüfe das Netz."],
  clock_jumped: ["The clock has jumped: measuring starts again.", "Die Zeit ist gesprungen: Die Messung beginnt neu."],
  overloaded: ["This computer is too slow. Request fewer or smaller frames.", "Dieser Rechner ist zu langsam. Verlange weniger oder kleinere Bilder."],
  model_failed: ["The models fail. Return to the previous ones.", "Die Modelle versagen. Kehre zu den vorigen zurück."],
  analysis_stalled: ["The analysis has stalled and is restarted.", "Die Auswertung hängt und wird neu gestartet."],
};

export const LANGUAGE = (navigator.languages ?? [navigator.language]).find((one) => /^(en|de)\b/.test(one))?.slice(0, 2) ?? "en";

const COLUMN = LANGUAGE === "de" ? 1 : 0;

/** Whether there is such a text. */
export const has = (key) => Object.hasOwn(TABLE, key);

/** The text of a key, with what is in braces filled in; a word without a text is shown as it is. */
export function text(key, values = {}) {
  const found = has(key) ? TABLE[key][COLUMN] : String(key).replaceAll("_", " ");
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

const format = (digits, sign) => new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: digits, signDisplay: sign });
const PLAIN = [0, 1, 2].map((digits) => format(digits, "auto"));
const SIGNED = [0, 1, 2].map((digits) => format(digits, "exceptZero"));

export const number = (value, digits = 0) => PLAIN[digits].format(value);
export const signed = (value, digits = 0) => SIGNED[digits].format(value).replace("-", "−");
export const clock = (ms, seconds = true) =>
  new Date(ms).toLocaleTimeString(LANGUAGE, { hourCycle: "h23", hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }) });

/** Fill in everything that is marked in the document. */
export function translate(root = document) {
  document.documentElement.lang = LANGUAGE;
  for (const one of root.querySelectorAll("[data-text]")) one.textContent = text(one.dataset.text);
  for (const one of root.querySelectorAll("[data-label]")) one.setAttribute("aria-label", text(one.dataset.label));
}
