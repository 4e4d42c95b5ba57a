// Modal questions, on the platform's own <dialog>: it keeps the focus inside and gives it back.

import * as api from "./api.js";
import { find } from "./dom.js";
import * as settings from "./settings.js";

for (const close of document.querySelectorAll("[data-close]")) {
  close.addEventListener("click", () => close.closest("dialog").close("cancel"));
}

function openAsk(title, text, okLabel, value) {
  const dialog = find("#ask-dialog");
  const input = find("#ask-input");
  find("#ask-title").textContent = title;
  find("#ask-text").textContent = text;
  find("#ask-ok").textContent = okLabel;
  input.hidden = value === null;
  input.value = value ?? "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  input.select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? input : null), { once: true }));
}

find("#ask-ok").value = "ok";

/** Asks for a line of text; null when cancelled or empty. */
export const ask = async (title, text, value) => (await openAsk(title, text, "OK", value))?.value.trim() || null;

/** Asks yes or no. */
export const confirm = async (title, text, okLabel) => (await openAsk(title, text, okLabel, null)) !== null;

const dialog = find("#key-dialog");
const input = find("#key");
const problem = find("#key-problem");

function say(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

/** Opens the dialog for the API key. */
export function askKey(message = "") {
  input.value = settings.apiKey();
  find("#keep-key").checked = settings.keyIsKept() || !settings.apiKey();
  say(message);
  if (!dialog.open) dialog.showModal();
  input.focus();
}

/** Calls `changed` after a key that the server accepts was entered, or the key was forgotten. */
export function onKey(changed) {
  find("#key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const before = settings.apiKey();
    const kept = settings.keyIsKept();
    if (!input.value.trim()) return say("Enter a key");
    settings.setApiKey(input.value, find("#keep-key").checked);
    try {
      await api.keyInfo();
    } catch (error) {
      settings.setApiKey(before, kept);
      return say(error.status === 401 || error.status === 400 ? "The server does not know this key" : error.message);
    }
    dialog.close("ok");
    changed();
  });
  find("#forget-key").addEventListener("click", () => {
    settings.setApiKey("", false);
    dialog.close("ok");
    changed();
  });
}
