// Buttons for what changes something: each asks once, says what it does, and shows what came of it.

import { command } from "./api.js";
import { number, signed, text } from "./texts.js";

const VERBS = ["recalibrate", "undo-recalibrate", "reset-calibration", "model-rollback", "restart-sources"];
const at = (id) => document.getElementById(id);

export function build(page) {
  const buttons = VERBS.filter((verb) => page.verbs.includes(verb)).map((verb) => {
    const made = document.createElement("button");
    made.textContent = text(verb);
    made.id = `do-${verb}`;
    made.addEventListener("click", () => run(verb, page));
    return made;
  });
  const save = document.createElement("a");
  Object.assign(save, { href: "/api/history.csv", download: "avdrift.csv", className: "button", id: "save", textContent: text("csv") });
  at("buttons").replaceChildren(...buttons, save);
}

async function run(verb, page) {
  if (!(await confirmed(verb, { s: number(page.calibration_s) }))) return;
  const buttons = [...at("buttons").querySelectorAll("button")];
  for (const one of buttons) one.disabled = true;
  const stop = verb === "recalibrate" ? countDown(page.calibration_s) : wait();
  try {
    const result = await command(verb);
    stop();
    at("result").textContent = result.ok ? text(`${verb}Done`, values(result)) : text("failed", { error: result.error });
  } catch (error) {
    stop();
    at("result").textContent = text("failed", { error: error.message });
  } finally {
    for (const one of buttons) one.disabled = false;
    at(`do-${verb}`).focus();
  }
}

const values = (result) => ({
  bias: result.bias_ms === undefined ? "" : signed(result.bias_ms, 1),
  error: result.bias_std_ms === undefined ? "" : number(result.bias_std_ms, 1),
  model: result.model,
});

function wait() {
  at("result").textContent = text("working");
  return () => {};
}

function countDown(seconds) {
  let left = Math.round(seconds);
  const say = () => {
    at("result").textContent = text("recalibrateRuns", { s: number(Math.max(left--, 0)) });
  };
  say();
  const timer = setInterval(say, 1000);
  return () => clearInterval(timer);
}

function confirmed(verb, inserted) {
  const question = at("question");
  at("question-title").textContent = text(verb);
  at("question-text").textContent = text(`${verb}Ask`, inserted);
  at("question-yes").textContent = text(verb);
  question.returnValue = "no";
  question.showModal();
  return new Promise((resolve) => {
    question.addEventListener("close", () => resolve(question.returnValue === "yes"), { once: true });
  });
}
