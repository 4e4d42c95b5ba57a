// What the page remembers on this device: the key, the theme, the last form. Everything else lives on the server.

const PREFIX = "borealis.";

function stored(area, name) {
  try {
    return area.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

function store(area, name, value) {
  try {
    if (value === null) area.removeItem(PREFIX + name);
    else area.setItem(PREFIX + name, value);
  } catch {
    // Storage is blocked or full: the page works, it only forgets.
  }
}

let key = stored(sessionStorage, "key") ?? stored(localStorage, "key") ?? "";

/** The API key in use; empty when there is none. */
export const apiKey = () => key;

/** Whether the key survives closing the tab. */
export const keyIsKept = () => stored(localStorage, "key") !== null;

/** Uses a key, for this tab only or until it is removed. */
export function setApiKey(value, keep) {
  key = value.trim();
  store(sessionStorage, "key", key || null);
  store(localStorage, "key", (keep && key) || null);
}

/** Takes the key out of an address like `/#key=…`, so that it stays neither in the address bar nor in the history. */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return;
  setApiKey(given, true);
  history.replaceState(null, "", location.pathname + location.search);
}

/** `light`, `dark` or `auto` (as the system). */
export const theme = () => document.documentElement.dataset.theme ?? "auto";

export function setTheme(value) {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  store(localStorage, "theme", value === "auto" ? null : value);
}

/** The form of the last visit, or `{}`. */
export function lastForm() {
  try {
    return JSON.parse(stored(localStorage, "form")) ?? {};
  } catch {
    return {};
  }
}

export const keepForm = (form) => store(localStorage, "form", JSON.stringify(form));
