// The gallery: cards of what was made, and its folders.

import * as api from "./api.js";
import { ago, button, find, h, icon, toast } from "./dom.js";
import { ask, confirm } from "./dialogs.js";
import * as lib from "./library.js";

const cards = find("#cards");
/** Cards by item id, kept so that a poll does not reload pictures. */
const known = new Map();

/** Clips load when they come near the screen. */
const lazy = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    entry.target.src = entry.target.dataset.src;
    lazy.unobserve(entry.target);
  }
}, { rootMargin: "200px" });

const LABELS = { cancelled: "Cancelled", expired: "Expired", failed: "Failed", moderated: "Blocked" };

function preview(item) {
  const output = item.outputs[0];
  if (item.status !== "done" || !output) {
    return h("span", { class: lib.isRunning(item) ? "sky working" : "sky off" });
  }
  // The fragment lets the browser show a frame of the middle instead of an often empty first one.
  const src = api.local(output.url);
  if (item.kind.includes("image")) return h("img", { src, alt: "", loading: "lazy" });
  const video = h("video", { "data-src": `${src}#t=0.4`, muted: true, loop: true, playsinline: true, preload: "metadata", "aria-hidden": "true" });
  lazy.observe(video);
  return video;
}

function card(item) {
  const state = h("span", { class: "badge" });
  const open = h("button", { type: "button", class: "card", onclick: () => lib.select(item.id) },
    h("span", { class: "card-prompt" }, item.prompt || "(no prompt)"), h("span", { class: "picture" }, preview(item), state),
    h("span", { class: "hint card-time" }));
  const video = open.querySelector("video");
  if (video) {
    const start = () => video.play().catch(() => {});
    open.addEventListener("pointerenter", start);
    open.addEventListener("pointerleave", () => video.pause());
  }
  return h("li", {}, open);
}

function badge(item) {
  if (lib.isRunning(item)) return item.progress ? `${item.progress} %` : "Waiting";
  if (LABELS[item.status]) return LABELS[item.status];
  const length = item.outputs[0]?.duration;
  const count = item.outputs.length > 1 ? `${item.outputs.length} × ` : "";
  return length ? `${count}${Math.round(length)} s` : count ? `${item.outputs.length}` : "";
}

/** Brings the cards up to date with the library. */
export function render() {
  const items = lib.shown();
  const wanted = new Set(items.map((item) => item.id));
  for (const id of known.keys()) if (!wanted.has(id)) known.delete(id);
  const rows = items.map((item) => {
    const key = `${item.status}/${item.outputs.length}`;
    let row = known.get(item.id);
    if (row?.key !== key) known.set(item.id, (row = { key, element: card(item) }));
    const text = badge(item);
    const state = row.element.querySelector(".badge");
    state.textContent = text;
    state.hidden = !text;
    row.element.querySelector(".card-time").textContent = ago(item.created_at);
    const open = row.element.firstElementChild;
    if (lib.selected()?.id === item.id) open.setAttribute("aria-current", "true");
    else open.removeAttribute("aria-current");
    return row.element;
  });
  // Moving elements that are in place already would take the focus from them.
  if (rows.length !== cards.children.length || rows.some((row, index) => row !== cards.children[index])) {
    const focused = document.activeElement;
    cards.replaceChildren(...rows);
    if (focused && cards.contains(focused)) focused.focus();
  }
  find("#gallery-empty").hidden = items.length > 0;
  find("#load-more").hidden = !lib.hasMore();
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message, "error");
  }
}

/** Asks for a name and makes a folder; its id, or null. */
export async function newFolder() {
  const name = await ask("New folder", "Name of the folder", "");
  if (!name) return null;
  const folder = await api.createFolder(name);
  await lib.loadFolders();
  return folder.id;
}

export function renderFolders() {
  const current = lib.currentFolder();
  const tab = (id, name, count) =>
    h("button", { type: "button", class: "chip", "aria-pressed": String(current === id), onclick: () => attempt(async () => { await lib.open(id); renderFolders(); }) },
      id && icon("folder"), h("span", {}, name), count !== undefined && h("span", { class: "count" }, count));
  const bar = find("#folders");
  bar.replaceChildren(tab(null, "All"), ...lib.folders().map((folder) => tab(folder.id, folder.name, folder.count)),
    button("New folder", "plus", () => attempt(newFolder), { class: "chip" }));
  const folder = lib.folders().find((one) => one.id === current);
  if (!folder) return;
  bar.append(
    h("button", { type: "button", class: "ghost square", "aria-label": `Rename ${folder.name}`, title: "Rename", onclick: () => attempt(() => rename(folder)) }, icon("edit")),
    h("button", { type: "button", class: "ghost square", "aria-label": `Delete ${folder.name}`, title: "Delete", onclick: () => attempt(() => drop(folder)) }, icon("trash")));
}

async function rename(folder) {
  const name = await ask("Rename folder", "New name", folder.name);
  if (!name || name === folder.name) return;
  await api.renameFolder(folder.id, name);
  await lib.loadFolders();
}

async function drop(folder) {
  if (!(await confirm(`Delete “${folder.name}”?`, "What is in it stays, without a folder.", "Delete"))) return;
  await api.removeFolder(folder.id);
  await lib.open(null);
  await lib.loadFolders();
}
