// Every call that the page makes. Same origin only; the key travels in the Authorization header and nowhere else.

import { apiKey } from "./settings.js";

/** An answer that is not a success: HTTP status (0 when the server was not reached), code and message of the body. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Told of every 401, so that the page can ask for a key. */
export const unauthorized = new EventTarget();

async function failure(response) {
  const text = await response.text().catch(() => "");
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.slice(0, 300) };
  }
  // `error` is a string in xAI's shape and an object in OpenAI's.
  const nested = typeof body.error === "object" && body.error !== null ? body.error : null;
  let message = nested?.message ?? body.error ?? `the server answered ${response.status}`;
  const wait = response.headers.get("retry-after");
  if (response.status === 429 && wait) message += ` (try again in ${wait} s)`;
  return new ApiError(response.status, nested?.code ?? body.code ?? "", message || `the server answered ${response.status}`);
}

async function call(method, path, { json, form, headers = {}, signal } = {}) {
  const init = { method, headers: { ...headers }, signal, credentials: "omit", cache: "no-store" };
  if (apiKey()) init.headers.Authorization = `Bearer ${apiKey()}`;
  if (json !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(json);
  } else if (form) {
    init.body = form;
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "the server cannot be reached; is borealis serve still running?");
  }
  if (!response.ok) {
    const error = await failure(response);
    if (response.status === 401) unauthorized.dispatchEvent(new Event("key"));
    throw error;
  }
  return response.status === 204 ? null : response.json();
}

/** 128 random bits; `crypto.randomUUID` is missing on plain http outside of this machine. */
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

const query = (values) => {
  const used = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return used.length ? `?${new URLSearchParams(used)}` : "";
};

/** Starts a generation. The idempotency key makes a repeat by the browser harmless. */
export const submit = (path, body, signal) =>
  call("POST", path, { json: body, signal, headers: { "Idempotency-Key": `playground-${randomId()}` } });

/** Names of models that make pictures and of models that make clips, this server's own first: `{ image: [..], video: [..] }`. */
export async function models() {
  const [image, video] = await Promise.all([call("GET", "/v1/image-generation-models"), call("GET", "/v1/video-generation-models")]);
  // Names of xAI's are there for its clients and have xAI's limits.
  const names = ({ models: found }) => found.sort((a, b) => (a.owned_by === "xai") - (b.owned_by === "xai")).map((model) => model.id);
  return { image: names(image), video: names(video) };
}

export const keyInfo = () => call("GET", "/v1/api-key");

/** A file too large for a `data:` address; answers with `{ id, .. }`. */
export function upload(file) {
  const form = new FormData();
  form.append("purpose", "vision");
  form.append("file", file, file.name);
  return call("POST", "/v1/files", { form });
}

export const generations = (filter) => call("GET", `/v1/generations${query(filter)}`);
export const generation = (id) => call("GET", `/v1/generations/${encodeURIComponent(id)}`);
export const removeGeneration = (id) => call("DELETE", `/v1/generations/${encodeURIComponent(id)}`);
export const moveGeneration = (id, folder_id) =>
  call("PATCH", `/v1/generations/${encodeURIComponent(id)}`, { json: { folder_id } });

export const folders = async () => (await call("GET", "/v1/folders")).data;
export const createFolder = (name) => call("POST", "/v1/folders", { json: { name } });
export const renameFolder = (id, name) => call("PATCH", `/v1/folders/${encodeURIComponent(id)}`, { json: { name } });
export const removeFolder = (id) => call("DELETE", `/v1/folders/${encodeURIComponent(id)}`);

/** Results are served by this very server under another name perhaps (localhost, 127.0.0.1): keep path and signature only. */
export function local(url) {
  if (!url || url.startsWith("data:") || url.startsWith("blob:")) return url;
  const parsed = new URL(url, location.origin);
  return parsed.pathname + parsed.search;
}
