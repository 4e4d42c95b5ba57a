// The form: mode, prompt, inputs, parameters, and the request that they make.

import { copy, find, h, icon, toast } from "./dom.js";
import { control, radios } from "./controls.js";
import { problem as inputProblem, release, slotView } from "./inputs.js";
import { EXAMPLES, MODES, PARAMS, modeById } from "./modes.js";
import { coloured, toCurl, toJson, toPython, toRequest } from "./request.js";
import * as settings from "./settings.js";

const prompt = find("#prompt");
const problemBox = find("#form-problem");

const kept = settings.lastForm();
const form = { mode: modeById(kept.mode).id, model: kept.model ?? "", prompt: kept.prompt ?? "", inputs: [], values: kept.values ?? {}, folder: null };
/** What was given, by mode: going to another mode and back keeps it. */
const inputsOf = new Map();
/** Names of the models that can be asked for, by kind. */
let models = { image: [], video: [] };

const mode = () => modeById(form.mode);

export function setModels(found) {
  models = found;
  drawParams();
  drawCode();
}

/** New results go into the folder that is open in the gallery. */
export function setFolder(folder) {
  if (folder === form.folder) return;
  form.folder = folder;
  drawCode();
}

function keep() {
  // A frame number means nothing without its clip, and files are not kept.
  const { frame, ...values } = form.values;
  settings.keepForm({ mode: form.mode, model: form.model, prompt: form.prompt, values });
}

function changed() {
  problemBox.hidden = true;
  keep();
  drawCode();
}

function setMode(id) {
  inputsOf.set(form.mode, form.inputs);
  form.mode = id;
  form.inputs = inputsOf.get(id) ?? [];
  draw();
}

function drawModes() {
  const kind = mode().kind;
  const first = (wanted) => MODES.find((one) => one.kind === wanted && one.label === mode().label) ?? MODES.find((one) => one.kind === wanted);
  find("#kinds").replaceChildren(radios("What comes out", [
    { value: "video", label: "Video", mark: icon("film") }, { value: "image", label: "Image", mark: icon("image") },
  ], kind, (wanted) => refocus("#kinds", () => setMode(first(wanted).id)), { className: "choice kinds", hideLabel: true }));
  find("#modes").replaceChildren(radios("Start from", MODES.filter((one) => one.kind === kind)
    .map((one) => ({ value: one.id, label: one.label, mark: icon(one.icon), title: one.hint })), form.mode,
  (id) => refocus("#modes", () => setMode(id)), { className: "choice modes", hideLabel: true }));
}

/** Redraws and gives the focus back to the chosen radio button, for those who choose with the arrow keys. */
function refocus(where, redraw) {
  redraw();
  find(`${where} input:checked`)?.focus();
}

function drawExamples() {
  find("#examples").replaceChildren(...EXAMPLES[form.mode].map((text) => h("button", {
    type: "button", class: "example", onclick: () => {
      prompt.value = form.prompt = text;
      fit();
      changed();
      prompt.focus();
    },
  }, text)));
}

function insert(text) {
  prompt.setRangeText(text, prompt.selectionStart, prompt.selectionEnd, "end");
  prompt.focus();
  form.prompt = prompt.value;
  changed();
}

function drawSlot() {
  const { slot } = mode();
  find("#slot").replaceChildren(...(slot ? [slotView(slot, form.inputs, {
    insert,
    add: async (input) => {
      delete form.values.frame;
      form.inputs.push(input);
      drawSlot();
      drawParams();
      changed();
    },
    remove: (index) => {
      release(form.inputs.splice(index, 1)[0]);
      delete form.values.frame;
      drawSlot();
      drawParams();
      changed();
      find("#slot button")?.focus();
    },
  })] : []));
}

const context = {
  clip: () => form.inputs[0],
  showFrame: (at) => {
    const video = find("#slot video");
    if (video) video.currentTime = at;
  },
};

function modelControl() {
  const names = models[mode().kind];
  if (!names.length) return null;
  const select = h("select", { id: "model", onchange: () => { form.model = select.value; changed(); } },
    names.map((name) => h("option", { value: name }, name)));
  if (!names.includes(form.model)) [form.model] = names;
  select.value = form.model;
  return h("div", { class: "field" }, h("label", { class: "label", for: "model" }, "Model"), select);
}

function drawParams() {
  const made = mode().params.map((name) => {
    const param = PARAMS[name];
    const set = (value) => {
      form.values[name] = value;
      changed();
    };
    return { more: param.more, element: control(param, form.values[name] ?? param.initial, set, context) };
  });
  const of = (more) => made.filter((one) => Boolean(one.more) === more).map((one) => one.element).filter(Boolean);
  find("#params").replaceChildren(...of(false));
  find("#more-params").replaceChildren(...[modelControl()].filter(Boolean), ...of(true));
}

const LANGUAGES = { json: (whole) => toJson(form, mode(), whole), curl: () => toCurl(form, mode(), location.origin), python: () => toPython(form, mode(), location.origin) };
let language = "json";

function drawCode() {
  find("#route").textContent = `POST ${mode().path}`;
  find("#code").replaceChildren(...coloured(LANGUAGES[language](false)));
}

function draw() {
  drawModes();
  drawExamples();
  drawSlot();
  drawParams();
  find("#mode-hint").textContent = mode().hint;
  find("#submit-label").textContent = mode().verb;
  prompt.required = mode().promptRequired;
  changed();
}

/** Grows with its text, as far as the style sheet lets it. */
function fit() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

function problem() {
  if (mode().promptRequired && !form.prompt.trim()) return ["Write a prompt first", prompt];
  const wrong = mode().slot && inputProblem(mode().slot, form.inputs);
  return wrong ? [wrong, find("#slot button")] : null;
}

/** Puts an input from elsewhere into a mode, replacing what does not fit beside it. */
export function use(id, input) {
  setMode(id);
  const { slot } = mode();
  if (form.inputs.length >= slot.max) form.inputs.splice(0).forEach(release);
  delete form.values.frame;
  form.inputs.push(input);
  draw();
  prompt.focus();
  find("#composer").scrollIntoView({ block: "start" });
}

/** The mode that a generation was made in. What was given is not told, only that something was (`complete` is false). */
function modeOf({ path, complete }, prompt) {
  const given = complete === false;
  if (given && path === "/v1/images/generations") return "image-edit";
  if (given && path === "/v1/videos/generations") return /<IMAGE_\d>|@image\d/i.test(prompt) ? "video-references" : "video-image";
  return MODES.find((one) => one.path === path)?.id ?? form.mode;
}

/** Puts prompt and parameters of a generation back into the form. */
export function reuse({ request }) {
  const { body } = request;
  setMode(modeOf(request, body.prompt ?? ""));
  form.prompt = prompt.value = body.prompt ?? "";
  form.model = body.model ?? form.model;
  for (const name of mode().params) {
    const param = PARAMS[name];
    const value = body[param.field];
    if (value === undefined || value === null) delete form.values[name];
    else form.values[name] = ["seed", "number", "url"].includes(param.control) ? String(value) : value;
  }
  fit();
  draw();
  prompt.focus();
  if (mode().slot && !form.inputs.length) toast("Prompt and parameters are back; give the picture or clip again");
}

function wireTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    language = tab.dataset.language;
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
    }
    find("#code-panel").setAttribute("aria-labelledby", tab.id);
    drawCode();
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      choose(next);
    });
  });
  find("#copy-code").addEventListener("click", () => copy(LANGUAGES[language](true)));
}

/** Draws the form; `send(mode, request)` is called with every valid request. */
export function begin(send) {
  prompt.value = form.prompt;
  prompt.addEventListener("input", () => {
    form.prompt = prompt.value;
    fit();
    changed();
  });
  prompt.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (!file || mode().slot?.accept !== "image") return;
    find("#slot .drop")?.dispatchEvent(new ClipboardEvent("paste", { clipboardData: event.clipboardData, cancelable: true }));
    event.preventDefault();
  });
  find("#composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const wrong = problem();
    if (wrong) {
      [problemBox.textContent] = wrong;
      problemBox.hidden = false;
      wrong[1]?.focus();
      return;
    }
    send(mode(), toRequest(form, mode()));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      find("#composer").requestSubmit();
    }
  });
  wireTabs();
  draw();
  fit();
}
