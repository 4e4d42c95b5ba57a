// Pictures and clips that a request starts from: dropped, chosen, pasted, given by address or taken from a result.

import * as api from "./api.js";
import { button, bytes, h, icon, toast } from "./dom.js";
import { tagOf } from "./modes.js";

/** Larger files are uploaded first and named by id; a body of JSON may have 25 MiB, and base64 adds a third. */
const INLINE_BYTES = 6 * 1024 * 1024;
const LIMIT = { image: 20e6, video: 50e6 };
const TYPES = { image: "image/png,image/jpeg,image/webp", video: "video/mp4,video/quicktime,video/webm" };

const readDataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });

/** Seconds of a clip, 0 when the browser cannot tell. */
const secondsOf = (src) =>
  new Promise((resolve) => {
    const video = document.createElement("video");
    const done = (seconds) => resolve(Number.isFinite(seconds) ? seconds : 0);
    video.preload = "metadata";
    video.onloadedmetadata = () => done(video.duration);
    video.onerror = () => done(0);
    video.src = src;
  });

/** A file as an input: `{ kind, name, mime, size, preview, dataUrl | fileId, seconds? }`. */
export async function fromFile(file, kind) {
  if (!file.type.startsWith(`${kind}/`)) throw new Error(`${file.name || "this file"} is not ${kind === "image" ? "a picture" : "a clip"}`);
  if (file.size > LIMIT[kind]) throw new Error(`${file.name} has ${bytes(file.size)}; at most ${bytes(LIMIT[kind])} can be given`);
  const input = { kind, name: file.name || "pasted.png", mime: file.type, size: file.size, preview: URL.createObjectURL(file) };
  if (file.size <= INLINE_BYTES) input.dataUrl = await readDataUrl(file);
  else input.fileId = (await api.upload(file)).id;
  if (kind === "video") input.seconds = await secondsOf(input.preview);
  return input;
}

/** An address as an input. Only this server's own addresses can be shown: the page loads nothing from elsewhere. */
export async function fromUrl(url, kind, name) {
  const own = new URL(url, location.origin);
  const preview = own.pathname.startsWith("/files/") ? api.local(url) : null;
  const input = { kind, name: name ?? own.pathname.split("/").pop() ?? own.host, url, preview };
  if (kind === "video" && preview) input.seconds = await secondsOf(preview);
  return input;
}

/** The picture that a video element shows, as an input. */
export async function fromFrame(video, name) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("the browser could not read this frame");
  return fromFile(new File([blob], name, { type: "image/png" }), "image");
}

export const release = (input) => input.preview?.startsWith("blob:") && URL.revokeObjectURL(input.preview);

/** What is wrong with the inputs for this slot, or null. */
export function problem(slot, inputs) {
  if (inputs.length < slot.min) return `${slot.label}: give ${slot.accept === "image" ? "a picture" : "a clip"} first`;
  const seconds = inputs[0]?.seconds;
  if (seconds && slot.maxSeconds && seconds > slot.maxSeconds + 0.05) return `The clip has ${seconds.toFixed(1)} s; at most ${slot.maxSeconds} s can be given`;
  if (seconds && slot.minSeconds && seconds < slot.minSeconds - 0.05) return `The clip has ${seconds.toFixed(1)} s; at least ${slot.minSeconds} s are needed`;
  return null;
}

function thumb(input, index, slot, actions) {
  let picture;
  if (!input.preview) picture = h("span", { class: "no-preview" }, icon("link"));
  else if (input.kind === "image") picture = h("img", { src: input.preview, alt: "" });
  else picture = h("video", { src: input.preview, muted: true, playsinline: true, preload: "auto", loop: true, "aria-hidden": "true" });
  const detail = [input.size && bytes(input.size), input.seconds && `${input.seconds.toFixed(1)} s`].filter(Boolean).join(" · ");
  return h("li", { class: "thumb" },
    picture,
    h("div", { class: "thumb-text" },
      h("span", { class: "name", title: input.name }, input.name),
      detail && h("span", { class: "hint" }, detail),
      slot.tags && h("button", { type: "button", class: "tag", title: "Put into the prompt", onclick: () => actions.insert(tagOf(index)) }, tagOf(index))),
    h("button", { type: "button", class: "ghost square", "aria-label": `Remove ${input.name}`, onclick: () => actions.remove(index) }, icon("close")));
}

/** The drop zone with what was given. `actions`: add(input), remove(index), insert(text). */
export function slotView(slot, inputs, actions) {
  const room = inputs.length < slot.max;
  const list = h("ul", { class: "thumbs" }, inputs.map((input, index) => thumb(input, index, slot, actions)));
  if (!room) return h("fieldset", { class: "slot" }, h("legend", { class: "label" }, slot.label), list);

  const take = async (files) => {
    for (const file of [...files].slice(0, slot.max - inputs.length)) {
      try {
        await actions.add(await fromFile(file, slot.accept));
      } catch (error) {
        toast(error.message, "error");
      }
    }
  };
  const picker = h("input", {
    type: "file", accept: TYPES[slot.accept], multiple: slot.max > 1, class: "offscreen", tabindex: "-1", "aria-hidden": "true",
    onchange: () => take(picker.files),
  });
  const zone = h("div", {
    class: `drop${inputs.length ? " small" : ""}`,
    ondragover: (event) => { event.preventDefault(); zone.classList.add("over"); },
    ondragleave: () => zone.classList.remove("over"),
    ondrop: (event) => { event.preventDefault(); zone.classList.remove("over"); take(event.dataTransfer.files); },
    onpaste: (event) => { if (event.clipboardData.files.length) { event.preventDefault(); take(event.clipboardData.files); } },
  },
  !inputs.length && icon(slot.accept === "image" ? "image" : "film"),
  button(slot.accept === "image" ? "Choose a picture" : "Choose a clip", null, () => picker.click(), { class: "quiet" }),
  h("span", { class: "hint" }, "or drop it here, or take a result"),
  picker, address(slot, actions));
  return h("fieldset", { class: "slot" }, h("legend", { class: "label" }, slot.label, slot.max > 1 && h("span", { class: "hint" }, ` ${inputs.length} of ${slot.max}`)), list, zone);
}

/** A field for an address: this server's own results, or what its policy lets it fetch. */
function address(slot, actions) {
  const input = h("input", { type: "url", placeholder: "https://… address", "aria-label": `Address of ${slot.accept === "image" ? "a picture" : "a clip"}` });
  const use = async () => {
    if (!input.value.trim() || !input.checkValidity()) return input.reportValidity();
    try {
      await actions.add(await fromUrl(input.value.trim(), slot.accept));
    } catch (error) {
      toast(error.message, "error");
    }
  };
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    use();
  });
  return h("div", { class: "with-button address" }, input, button("Use", null, use, { class: "quiet" }));
}
