// The large view: what is being made, live as soon as there are frames, and what was made, with what can be done with it.

import * as api from "./api.js";
import { announce, button, copy, find, h, icon, seconds, toast } from "./dom.js";
import { fromFrame, fromUrl } from "./inputs.js";
import * as lib from "./library.js";

const stage = find("#stage");

/** What the stage shows now, so that a poll changes text and bar but never restarts a video. */
let shownKey = "";
let variant = 0;
let parts = {};
let announced = 0;

const kindOf = (item) => (item.kind.includes("image") ? "image" : "video");

/** Redrawn when this changes: the item, and whether it waits, plays live, is done or failed. */
function keyOf(item) {
  if (!item) return "empty";
  const phase = lib.isRunning(item) ? (item.stream_url ? "live" : "waiting") : item.status;
  return `${item.id}/${phase}/${item.outputs.length}`;
}

function empty() {
  return h("div", { class: "frame hero" },
    h("div", { class: "sky", "aria-hidden": "true" }),
    h("p", { class: "hero-text" }, h("strong", {}, "Words in, pictures and sound out."),
      h("span", {}, "Write a prompt and press Generate. Everything is made on this machine.")));
}

/** Shape of the frame before its size is known: the ratio asked for. */
function ratioOf(item) {
  const output = item.outputs[variant];
  if (output?.width) return `${output.width} / ${output.height}`;
  const asked = item.request?.body?.aspect_ratio ?? item.aspect_ratio;
  return /^[\d.]+:[\d.]+$/.test(asked ?? "") ? asked.replace(":", " / ") : "16 / 9";
}

function frame(item, ...children) {
  const box = h("div", { class: "frame" }, children);
  const ratio = ratioOf(item);
  const [width, height] = ratio.split(" / ").map(Number);
  box.style.setProperty("--ratio", String(width / height));
  return box;
}

function waiting(item) {
  const bar = h("progress", { max: 100, "aria-label": "Progress" });
  const text = h("span", { class: "progress-text" });
  parts.progress = { bar, text };
  const streams = item.stream_urls ?? [];
  const live = streams[variant] ?? item.stream_url;
  const video = live && h("video", {
    class: "coming", src: api.local(live), playsinline: true, controls: true, "aria-label": "The clip so far",
    onloadeddata: () => video.classList.remove("coming"),
  });
  parts.video = video || null;
  return [
    // The sky stays until there is a first frame to see.
    frame(item, h("div", { class: "sky working", "aria-hidden": "true" }), video, live && h("span", { class: "badge live" }, "Live")),
    // Numbers, not small players: a browser keeps few lines open to one server.
    chooser(item, streams.map((_, index) => h("span", { class: "number" }, String(index + 1)))),
    h("div", { class: "progress-row" }, bar, text, button("Cancel", "stop", () => act(() => lib.remove(item)), { class: "quiet" })),
    caption(item),
  ];
}

function failed(item) {
  const moderated = item.status === "moderated" || item.error?.code === "imagine:content-moderated";
  const titles = { cancelled: "Cancelled", expired: "Expired" };
  const texts = { cancelled: "Nothing was kept.", expired: "The files were removed after their time." };
  const title = moderated ? "Blocked by moderation" : (titles[item.status] ?? "It did not work");
  return [
    h("div", { class: "frame message", role: "group" }, icon("warn"), h("strong", {}, title),
      h("p", {}, item.error?.message ?? texts[item.status] ?? ""), item.error?.code && h("code", {}, item.error.code)),
    caption(item),
    h("div", { class: "actions" },
      item.request && button("Use these settings", "again", () => emit("reuse", { item }), { class: "quiet" }),
      h("span", { class: "spring" }),
      button(item.draft ? "Dismiss" : "Delete", "trash", () => act(() => lib.remove(item)), { class: "quiet" })),
  ];
}

function picture(item, output, name) {
  const src = api.local(output.url);
  if (kindOf(item) === "image") return h("img", { src, alt: item.prompt || "Generated picture", width: output.width, height: output.height });
  const video = h("video", { src, controls: true, loop: true, playsinline: true, preload: "auto", "aria-label": item.prompt || name });
  parts.video = video;
  return video;
}

function variants(item) {
  return chooser(item, item.outputs.map((output) => {
    const src = api.local(output.url);
    return kindOf(item) === "image" ? h("img", { src, alt: "" }) : h("video", { src, muted: true, preload: "metadata", "aria-hidden": "true" });
  }));
}

/** One of several variants to look at, each with a face. */
function chooser(item, faces) {
  if (faces.length < 2) return null;
  const strip = h("div", { class: "variants", role: "radiogroup", "aria-label": "Variants" });
  faces.forEach((small, index) => {
    strip.append(h("label", {}, h("input", {
      type: "radio", name: "variant", checked: index === variant, "aria-label": `Variant ${index + 1}`,
      onchange: () => {
        variant = index;
        draw(item);
        stage.querySelectorAll(".variants input")[index]?.focus();
      },
    }), h("span", { class: "face" }, small)));
  });
  return strip;
}

function done(item) {
  const output = item.outputs[variant] ?? item.outputs[0];
  const shown = picture(item, output, "Generated clip");
  return [frame(item, shown), variants(item), caption(item, output), actions(item, output)];
}

function caption(item, output) {
  const size = output?.width && `${output.width} × ${output.height}`;
  const length = output?.duration && `${Number(output.duration).toFixed(1)} s`;
  const seed = item.seed ?? item.request?.body?.seed;
  const cost = item.usage?.cost_in_usd_ticks ? `$${(item.usage.cost_in_usd_ticks / 1e10).toFixed(4)}` : null;
  const facts = [size, length, seed !== undefined && seed !== null && `seed ${seed}`, item.model, cost].filter(Boolean);
  return h("div", { class: "caption" },
    h("p", { class: "said" }, item.prompt || "(no prompt)"), h("p", { class: "facts" }, facts.map((fact) => h("span", {}, fact))));
}

const emit = (name, detail) => stage.dispatchEvent(new CustomEvent(name, { detail }));

async function act(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message, "error");
  }
}

/** The result, or the frame on the screen, as the input of another mode. */
const useOutput = (mode, item, output) =>
  act(async () => emit("use", { mode, input: await fromUrl(output.url, kindOf(item), item.prompt || "result") }));

const useFrame = (mode) => act(async () => emit("use", { mode, input: await fromFrame(parts.video, "frame.png") }));

function actions(item, output) {
  const ending = output.mime_type?.split("/")[1]?.replace("jpeg", "jpg") ?? "mp4";
  const image = kindOf(item) === "image";
  const go = image
    ? [button("Bring to life", "film", () => useOutput("video-image", item, output), { class: "quiet" }),
       button("Edit", "edit", () => useOutput("image-edit", item, output), { class: "quiet" }),
       button("Reference", "images", () => useOutput("video-references", item, output), { class: "quiet" })]
    : [button("Extend", "extend", () => useOutput("video-extend", item, output), { class: "quiet" }),
       button("Edit", "edit", () => useOutput("video-edit", item, output), { class: "quiet" }),
       button("Go on from this frame", "camera", () => useFrame("video-image"), { class: "quiet" }),
       button("Edit this frame", "image", () => useFrame("image-edit"), { class: "quiet" })];
  return h("div", { class: "actions" },
    h("a", { class: "button quiet", href: api.local(output.url), download: `borealis-${item.id.slice(0, 8)}-${variant + 1}.${ending}` }, icon("download"), h("span", {}, "Download")),
    go,
    button("Settings", "again", () => emit("reuse", { item }), { class: "quiet", title: "Put prompt and parameters back into the form" }),
    button("Link", "copy", () => copy(output.url), { class: "quiet", title: "Copy the signed address, good until it expires" }),
    h("span", { class: "spring" }),
    folderChooser(item),
    button("Delete", "trash", () => emit("remove", { item }), { class: "quiet danger" }));
}

function folderChooser(item) {
  const select = h("select", {
    class: "small", "aria-label": "Folder",
    onchange: () => {
      if (select.value === "new") emit("newfolder", { item });
      else act(() => lib.move(item, select.value || null));
    },
  }, h("option", { value: "" }, "No folder"), lib.folders().map((folder) => h("option", { value: folder.id }, folder.name)), h("option", { value: "new" }, "New folder…"));
  select.value = item.folder_id ?? "";
  parts.folder = { select, count: lib.folders().length };
  return select;
}

function updateProgress(item) {
  const { bar, text } = parts.progress;
  const spent = Date.now() / 1000 - item.created_at;
  const percent = item.progress ?? 0;
  if (percent > 0) bar.value = percent;
  else bar.removeAttribute("value");
  const left = percent >= 5 ? ` · about ${seconds((spent * (100 - percent)) / percent)} left` : "";
  text.textContent = percent > 0 ? `${percent} %${left}` : `${item.draft && kindOf(item) === "video" ? "Sending" : "Waiting"} · ${seconds(spent)}`;
  bar.setAttribute("aria-valuetext", text.textContent);
  // A screen reader hears quarters, not every percent.
  const quarter = Math.floor(percent / 25);
  if (quarter > announced) {
    announced = quarter;
    announce(`${percent} percent`);
  }
}

/** Starts playing with sound where the browser lets it, silently elsewhere. */
async function play(video) {
  try {
    await video.play();
  } catch {
    video.muted = true;
    await video.play().catch(() => {});
  }
}

function draw(item) {
  const wasAt = parts.video && !parts.video.ended ? parts.video.currentTime : 0;
  const wasLive = shownKey.includes("/live/") && item && shownKey.startsWith(`${item.id}/`);
  const focused = stage.contains(document.activeElement);
  parts = {};
  shownKey = keyOf(item);
  stage.dataset.state = item ? (lib.isRunning(item) ? "running" : item.status) : "empty";
  if (!item) stage.replaceChildren(empty());
  else if (lib.isRunning(item)) stage.replaceChildren(...waiting(item).filter(Boolean));
  else if (item.status === "done" && item.outputs.length) stage.replaceChildren(...done(item).filter(Boolean));
  else stage.replaceChildren(...failed(item));
  // What had the focus is gone; the keyboard goes on from here.
  if (focused) stage.focus({ preventScroll: true });
  if (parts.video && item) {
    // What played live goes on where it was, now from the finished file.
    if (wasLive && wasAt > 0) parts.video.currentTime = wasAt;
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches || lib.isRunning(item)) play(parts.video);
  }
}

/** Shows the selected item, or brings the shown one up to date. */
export function render() {
  const item = lib.selected();
  const key = keyOf(item);
  const sameItem = item && shownKey.startsWith(`${item.id}/`);
  if (key !== shownKey) {
    if (!sameItem) [variant, announced] = [0, 0];
    draw(item);
  }
  if (parts.progress) updateProgress(item);
  if (parts.folder && parts.folder.count !== lib.folders().length && document.activeElement !== parts.folder.select) {
    parts.folder.select.replaceWith(folderChooser(item));
  }
}

export const on = (name, listener) => stage.addEventListener(name, (event) => listener(event.detail));
export const focus = () => stage.scrollIntoView({ block: "nearest", behavior: "auto" });
