// The few helpers that everything on the page is built with. Text only ever becomes text nodes: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** The one element that matches, which index.html must contain. */
export const find = (selector, root = document) => root.querySelector(selector);

/**
 * Makes an element: `h("button", { class: "primary", onclick: run, disabled: true }, "Run")`.
 * `on…` are listeners, `true`/`false` set and drop attributes, `null` and `undefined` are left out.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "muted" || name === "srcObject") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An icon of the sprite in index.html; decoration, so hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon and a label. */
export function button(label, name, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, name && icon(name), h("span", {}, label));
}

/** Tells screen readers what happened, without moving the focus. */
export function announce(text) {
  find("#announcer").textContent = text;
}

let toastTimer = 0;

/** A short message at the foot of the page; also read aloud. */
export function toast(text, kind = "info") {
  const box = find("#toast");
  box.textContent = text;
  box.dataset.kind = kind;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), kind === "error" ? 9000 : 3500);
  announce(text);
}

/** Copies text; works without the clipboard API too, which plain http on a LAN address does not have. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "offscreen", readonly: true, value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return toast("The browser did not allow copying; select the text and copy it by hand", "error");
  }
  toast("Copied");
}

/** `1.2 MB`. */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

/** `6 s`, `1 min 20 s`. */
export function seconds(count) {
  const whole = Math.max(0, Math.round(count));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** `just now`, `5 min ago`, a date. `at` is in Unix seconds. */
export function ago(at) {
  const past = Date.now() / 1000 - at;
  if (past < 60) return "just now";
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86400) return `${Math.floor(past / 3600)} h ago`;
  return new Date(at * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}
