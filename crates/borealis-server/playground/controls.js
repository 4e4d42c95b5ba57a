// One function per kind of control: (param, value, set, context) -> element. `set(value)` stores and redraws nothing.

import { button, h, icon } from "./dom.js";

let counter = 0;
const freshId = () => `c${++counter}`;

/** A labelled group of radio buttons: the arrow keys move within it, as the platform does it. */
export function radios(label, options, value, set, { name = freshId(), className = "choice", hideLabel = false } = {}) {
  const group = h("div", { class: className, role: "radiogroup", "aria-label": label });
  for (const option of options) {
    const input = h("input", {
      type: "radio", name, value: String(option.value), checked: option.value === value, onchange: () => set(option.value),
    });
    group.append(h("label", { title: option.title }, input, h("span", { class: "face" }, option.mark, h("span", { class: "text" }, option.label))));
  }
  return hideLabel ? group : h("div", { class: "field" }, h("span", { class: "label", "aria-hidden": "true" }, label), group);
}

/** A rectangle of the ratio, so that one sees what one chooses. */
function ratioMark(ratio) {
  if (ratio === "auto") return icon("auto");
  const [width, height] = ratio.split(":").map(Number);
  const box = h("span", { class: "shape", "aria-hidden": "true" });
  const scale = 18 / Math.max(width, height);
  box.style.inlineSize = `${Math.max(5, width * scale)}px`;
  box.style.blockSize = `${Math.max(5, height * scale)}px`;
  return h("span", { class: "shape-frame" }, box);
}

function ratio(param, value, set) {
  const options = param.values.map((item) => ({
    value: item, label: item === "auto" ? "Input" : item, mark: ratioMark(item),
  }));
  return radios(param.label, options, value, set, { className: `choice ratios${options.length > 8 ? " many" : ""}` });
}

const choice = (param, value, set) => radios(param.label, param.options, value, set);

function range(param, value, set) {
  const id = freshId();
  const text = (number) => (param.unit ? `${number} ${param.unit}` : `${number}`);
  const output = h("output", { for: id }, text(value));
  const input = h("input", {
    id, type: "range", min: param.min, max: param.max, step: param.step ?? 1, "aria-valuetext": text(value),
    oninput: () => {
      output.textContent = text(input.value);
      input.setAttribute("aria-valuetext", text(input.value));
      fill();
      set(Number(input.value));
    },
  });
  const fill = () => input.style.setProperty("--fill", `${(100 * (input.value - param.min)) / (param.max - param.min)}%`);
  input.value = value;
  fill();
  return h("div", { class: "field" }, h("span", { class: "label-row" }, h("label", { class: "label", for: id }, param.label), output), input);
}

function toggle(param, value, set) {
  const id = freshId();
  const input = h("input", { id, type: "checkbox", role: "switch", class: "switch", checked: value, onchange: () => set(input.checked) });
  return h("div", { class: "field inline" },
    h("label", { for: id }, h("span", { class: "label" }, param.label), param.hint && h("span", { class: "hint" }, param.hint)), input);
}

/** A text field whose value is kept only while it is valid; the browser says what is wrong with it. */
function field(param, value, set, props, extra) {
  const id = freshId();
  const input = h("input", {
    id, autocomplete: "off", spellcheck: "false", ...props, value, "aria-describedby": param.hint && `${id}h`,
    oninput: () => {
      const valid = input.checkValidity();
      input.toggleAttribute("aria-invalid", !valid);
      set(valid ? input.value.trim() : "");
    },
  });
  const row = extra ? h("div", { class: "with-button" }, input, extra(input)) : input;
  return h("div", { class: "field" }, h("label", { class: "label", for: id }, param.label), row,
    param.hint && h("span", { class: "hint", id: `${id}h` }, param.hint));
}

const number = (param, value, set) =>
  field(param, value, set, { type: "number", inputmode: "decimal", min: param.min, max: param.max, step: param.step, placeholder: "automatic" });

const url = (param, value, set) => field(param, value, set, { type: "url", placeholder: "https://" });

function seed(param, value, set) {
  const roll = (input) =>
    button("Draw", "dice", () => {
      input.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
      input.dispatchEvent(new Event("input"));
    }, { class: "quiet" });
  return field(param, value, set, { type: "text", inputmode: "numeric", pattern: "[0-9]{0,15}", placeholder: "random" }, roll);
}

/** Which frame of the given clip to go on after; the last one is the default and is left out of the request. */
function frame(param, value, set, context) {
  const clip = context.clip();
  if (!clip?.seconds) return null;
  const last = Math.max(1, Math.round(clip.seconds * 24)) - 1;
  const id = freshId();
  const text = (at) => (at >= last ? "the end" : `frame ${at} · ${(at / 24).toFixed(2)} s`);
  const start = value === "" ? last : Math.min(Number(value), last);
  const output = h("output", { for: id }, text(start));
  const input = h("input", {
    id, type: "range", min: 0, max: last, step: 1, "aria-valuetext": text(start),
    oninput: () => {
      const at = Number(input.value);
      output.textContent = text(at);
      input.setAttribute("aria-valuetext", text(at));
      input.style.setProperty("--fill", `${(100 * at) / last}%`);
      context.showFrame(at / 24);
      set(at >= last ? "" : at);
    },
  });
  input.value = start;
  input.style.setProperty("--fill", `${(100 * start) / last}%`);
  return h("div", { class: "field" }, h("span", { class: "label-row" }, h("label", { class: "label", for: id }, param.label), output), input);
}

const CONTROLS = { ratio, choice, range, switch: toggle, number, url, seed, frame };

/** The control of a parameter, or null when it makes no sense yet. */
export const control = (param, value, set, context) => CONTROLS[param.control](param, value, set, context);
