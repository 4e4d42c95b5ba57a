// Start of the page: connects the form, the library of what was made, the stage and the gallery.

import * as api from "./api.js";
import * as composer from "./composer.js";
import { askKey, confirm, onKey } from "./dialogs.js";
import { announce, find, icon, toast } from "./dom.js";
import * as gallery from "./gallery.js";
import * as lib from "./library.js";
import * as settings from "./settings.js";
import * as stage from "./stage.js";

const THEMES = { auto: ["system", "as the system", "light"], light: ["light", "light", "dark"], dark: ["dark", "dark", "auto"] };

function drawTheme() {
  const [mark, name] = THEMES[settings.theme()];
  const button = find("#theme");
  button.replaceChildren(icon(mark));
  button.setAttribute("aria-label", `Theme: ${name}`);
  button.title = `Theme: ${name}`;
}

find("#theme").addEventListener("click", () => {
  settings.setTheme(THEMES[settings.theme()][2]);
  drawTheme();
});

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.status !== 401) toast(error.message, "error");
    return null;
  }
}

function sayKey(text) {
  find("#key-state").textContent = text;
  find("#key-button").setAttribute("aria-label", text === "Key" ? "API key" : `API key: ${text}`);
}

/** Loads all that needs a key; after a 401 the dialog is open and this runs again once there is one. */
async function connect() {
  sayKey("Key");
  const names = await attempt(api.models);
  if (!names) return;
  const info = settings.apiKey() ? await api.keyInfo().catch(() => null) : null;
  sayKey(info?.name || (settings.apiKey() ? "Key" : "No key needed"));
  composer.setModels(names);
  await attempt(() => Promise.all([lib.loadFolders(), lib.open(null)]));
}

settings.takeKeyFromAddress();
drawTheme();

lib.library.addEventListener("items", () => {
  composer.setFolder(lib.currentFolder());
  gallery.render();
  stage.render();
});
lib.library.addEventListener("selected", () => {
  gallery.render();
  stage.render();
  if (lib.selected()) stage.focus();
});
lib.library.addEventListener("folders", () => {
  gallery.renderFolders();
  stage.render();
});

lib.library.addEventListener("finished", ({ detail: item }) => {
  announce(item.status === "done" ? `Done: ${item.prompt}` : `${item.status}: ${item.error?.message ?? item.prompt}`);
});

stage.on("use", ({ mode, input }) => composer.use(mode, input));
stage.on("reuse", ({ item }) => composer.reuse(item));
stage.on("newfolder", ({ item }) => attempt(async () => {
  const id = await gallery.newFolder();
  if (id) await lib.move(item, id);
  stage.render();
}));
stage.on("remove", ({ item }) => attempt(async () => {
  if (await confirm("Delete this?", "The files are removed from the server.", "Delete")) await lib.remove(item);
}));

find("#load-more").addEventListener("click", () => attempt(() => lib.load(true)));
find("#key-button").addEventListener("click", () => askKey());
api.unauthorized.addEventListener("key", () => askKey(settings.apiKey() ? "The server does not know this key" : ""));
onKey(connect);

composer.begin((mode, request) => lib.start(mode, request));
gallery.renderFolders();
gallery.render();
stage.render();
connect();
