// What was made and what is being made: the server's generations, kept up to date while something runs.

import * as api from "./api.js";

const POLL_MS = 500;
const PAGE = 24;

/** Events: `items` (the view or any item changed), `folders`, `selected`, `finished` (with the item that has just ended). */
export const library = new EventTarget();

/** Generations by id, as the server tells them, and drafts: requests that it has not named yet. */
const items = new Map();
const drafts = [];
let view = { folder: null, ids: [], next: null };
let folderList = [];
let selectedId = null;
let timer = 0;
let draftCount = 0;

const tell = (name, detail) => library.dispatchEvent(new CustomEvent(name, { detail }));
const running = (item) => item.status === "pending" || item.status === "queued";

export const folders = () => folderList;
export const currentFolder = () => view.folder;
export const hasMore = () => Boolean(view.next);
export const item = (id) => items.get(id) ?? drafts.find((draft) => draft.id === id) ?? null;
export const selected = () => item(selectedId);

/** The items to show, newest first. */
export function shown() {
  const here = drafts.filter((draft) => view.folder === null || draft.folder_id === view.folder);
  const doubled = new Set(drafts.map((draft) => draft.serverId));
  return [...here, ...view.ids.filter((id) => !doubled.has(id)).map((id) => items.get(id)).filter(Boolean)];
}

export function select(id) {
  selectedId = id;
  tell("selected");
}

function take(found) {
  items.set(found.id, { ...items.get(found.id), ...found });
}

/** Loads the first page of a folder (`null`: everything). */
export async function open(folder) {
  view = { folder, ids: [], next: null };
  await load();
}

/** Loads the first page again, or with `more` the next one. */
export async function load(more = false) {
  const asked = view;
  const page = await api.generations({ folder_id: asked.folder, limit: PAGE, pagination_token: more ? asked.next : null });
  if (asked !== view) return;
  page.data.forEach(take);
  const ids = page.data.map((found) => found.id);
  view.ids = more ? [...new Set([...view.ids, ...ids])] : ids;
  view.next = page.pagination_token ?? null;
  tell("items");
  keepPolling();
}

export async function loadFolders() {
  folderList = await api.folders();
  tell("folders");
}

/** Sends a request; the draft stands for it until the server names it. Failures stay visible as a failed draft. */
export async function start(mode, request) {
  const controller = new AbortController();
  const draft = {
    id: `draft-${++draftCount}`, draft: true, kind: mode.kind, status: "pending", progress: null, prompt: request.body.prompt ?? "",
    created_at: Date.now() / 1000, folder_id: request.body.folder_id ?? null, outputs: [], request, controller,
  };
  drafts.unshift(draft);
  select(draft.id);
  tell("items");
  keepPolling();
  try {
    const answer = await api.submit(request.path, request.body, controller.signal);
    const id = answer.request_id ?? (await idOfImages(answer));
    if (answer.request_id) take(await api.generation(id));
    const here = selectedId === draft.id;
    drafts.splice(drafts.indexOf(draft), 1);
    await load();
    if (here && id) select(id);
    if (!answer.request_id && id) tell("finished", item(id));
  } catch (error) {
    const stopped = error.name === "AbortError";
    draft.status = stopped ? "cancelled" : "failed";
    if (!stopped) draft.error = { code: error.code, message: error.message };
    tell("items");
    tell("finished", draft);
  }
}

/** The answer to an image call names files, not the generation: find it by its first file. */
async function idOfImages(answer) {
  const path = api.local(answer.data[0].url).split("?")[0];
  const page = await api.generations({ limit: 10 });
  page.data.forEach(take);
  return page.data.find((found) => found.outputs.some((output) => api.local(output.url).startsWith(path)))?.id ?? null;
}

/** Gives a draft of an image call the progress that the server reports for it. */
function matchDrafts(page) {
  for (const draft of drafts.filter((one) => running(one) && one.kind === "image")) {
    const found = page.find((one) => running(one) && one.prompt === draft.prompt && one.created_at >= draft.created_at - 5);
    if (!found) continue;
    draft.serverId = found.id;
    draft.progress = found.progress;
  }
}

async function poll() {
  timer = 0;
  const waiting = [...items.values()].filter(running);
  const unnamed = drafts.some((draft) => running(draft) && draft.kind === "image");
  if (document.hidden && waiting.length === 0) return keepPolling();
  let finished = false;
  try {
    if (unnamed) matchDrafts((await api.generations({ limit: 10 })).data);
    for (const { id } of waiting) {
      const found = await api.generation(id);
      take(found);
      if (running(found)) continue;
      finished = true;
      tell("finished", item(id));
    }
    if (finished) await load();
    if (waiting.length || unnamed) tell("items");
  } catch (error) {
    if (error.status === 404) await load().catch(() => {});
    // Anything else: the next round tries again.
  }
  keepPolling();
}

function keepPolling() {
  if (timer) return;
  if (drafts.some(running) || [...items.values()].some(running)) timer = setTimeout(poll, POLL_MS);
}

/** Stops what runs, or deletes what is done. */
export async function remove(target) {
  if (target.draft) {
    // The server goes on with a call that was accepted, for the sake of clients that ask again: it must be told.
    if (running(target)) {
      if (!target.serverId) matchDrafts((await api.generations({ limit: 10 })).data);
      if (target.serverId) await api.removeGeneration(target.serverId);
      target.controller.abort();
    } else {
      drafts.splice(drafts.indexOf(target), 1);
    }
  } else {
    await api.removeGeneration(target.id);
    if (running(target)) take(await api.generation(target.id).catch(() => ({ id: target.id, status: "cancelled" })));
    else items.delete(target.id);
  }
  if (selectedId === target.id && !item(target.id)) select(null);
  await load();
  await loadFolders();
}

export async function move(target, folder) {
  await api.moveGeneration(target.id, folder);
  target.folder_id = folder;
  await load();
  await loadFolders();
}

export const isRunning = running;
