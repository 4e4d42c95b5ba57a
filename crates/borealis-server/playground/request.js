// From the form to a request, and from a request to JSON, cURL and Python that do the same.

import { PARAMS } from "./modes.js";
import { bytes } from "./dom.js";

/** What stands for a file's contents in code to copy; replaced by an expression that reads the file. */
const MARK = (index) => `@@borealis-file-${index}@@`;

/** The value as it belongs into the body: numbers as numbers. */
function typed(param, value) {
  return ["range", "number", "seed", "frame"].includes(param.control) ? Number(value) : value;
}

/** The input in the body: `{ url }` or `{ file_id }`. `address` chooses how a local file is written. */
function medium(input, index, address) {
  if (input.fileId) return { file_id: input.fileId };
  if (input.url) return { url: input.url };
  return { url: address(input, index) };
}

function body(form, mode, address) {
  const out = {};
  if (form.model) out.model = form.model;
  if (form.prompt.trim()) out.prompt = form.prompt.trim();
  if (mode.slot && form.inputs.length) {
    Object.assign(out, mode.slot.wire(form.inputs.map((input, index) => medium(input, index, address))));
  }
  for (const name of mode.params) {
    const param = PARAMS[name];
    const value = form.values[name] ?? param.initial;
    if (value !== param.omit) out[param.field] = typed(param, value);
  }
  if (form.folder) out.folder_id = form.folder;
  return out;
}

/** The request to send: `{ path, body }`. */
export const toRequest = (form, mode) => ({ path: mode.path, body: body(form, mode, (input) => input.dataUrl) });

/** The body as text to read; contents of files are shortened unless `whole`. */
export function toJson(form, mode, whole) {
  const address = whole ? (input) => input.dataUrl : (input) => `data:${input.mime};base64,… (${bytes(input.size)})`;
  return JSON.stringify(body(form, mode, address), null, 2);
}

/** The body with marks for files, and the files. */
function marked(form, mode) {
  const files = [];
  const value = body(form, mode, (input, index) => {
    files.push({ mark: MARK(index), name: input.name, mime: input.mime });
    return MARK(index);
  });
  return { value, files };
}

const shellWord = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A shell command that sends the same. Files are read by the command, from the folder that it runs in. */
export function toCurl(form, mode, origin) {
  const { value, files } = marked(form, mode);
  const json = JSON.stringify(value, null, 2);
  const head = `curl -sS ${origin}${mode.path} \\\n  -H "Authorization: Bearer $BOREALIS_API_KEY" \\\n  -H "Content-Type: application/json" \\\n`;
  let start;
  if (files.length === 0) {
    start = `${head}  -d ${shellWord(json)}`;
  } else {
    // A file as an argument would pass the system's limit; a here-document has none. It expands $, ` and \ outside of the marks.
    let text = json.replace(/[\\$`]/g, "\\$&");
    for (const { mark, name, mime } of files) {
      text = text.replace(mark, () => `data:${mime};base64,$(base64 < ${shellWord(name)} | tr -d '\\n')`);
    }
    start = `${head}  -d @- <<JSON\n${text}\nJSON`;
  }
  if (mode.kind === "image") return `${start}\n`;
  return `${start}\n\n# The answer names a request_id; ask for it until its status is "done".\ncurl -sS ${origin}/v1/videos/REQUEST_ID -H "Authorization: Bearer $BOREALIS_API_KEY"\n`;
}

/** A Python literal; JSON differs in `true`, `false` and `null` only, and strings are the same. */
function python(value, indent = "") {
  const deeper = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((item) => `${deeper}${python(item, deeper)},\n`).join("")}${indent}]` : "[]";
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return `{\n${entries.map(([key, item]) => `${deeper}${JSON.stringify(key)}: ${python(item, deeper)},\n`).join("")}${indent}}`;
  }
  return JSON.stringify(value);
}

/** A Python program (with `requests`) that sends the same, waits and saves what was made. */
export function toPython(form, mode, origin) {
  const { value, files } = marked(form, mode);
  let literal = python(value);
  for (const { mark, name, mime } of files) {
    literal = literal.replace(JSON.stringify(mark), () => `data_url(${JSON.stringify(name)}, ${JSON.stringify(mime)})`);
  }
  const lines = ["import os"];
  if (files.length) lines.unshift("import base64");
  if (mode.kind === "video") lines.push("import time");
  lines.push("", "import requests", "", `base = ${JSON.stringify(`${origin}/v1`)}`, `headers = {"Authorization": f"Bearer {os.environ['BOREALIS_API_KEY']}"}`, "");
  if (files.length) {
    lines.push("", "def data_url(path, mime):", `    with open(path, "rb") as file:`, `        return f"data:{mime};base64,{base64.b64encode(file.read()).decode()}"`, "", "");
  }
  lines.push(`answer = requests.post(f"{base}${mode.path.slice(3)}", headers=headers, json=${literal})`, "answer.raise_for_status()");
  if (mode.kind === "image") {
    lines.push(`for number, image in enumerate(answer.json()["data"], start=1):`, `    ending = image["mime_type"].split("/")[1]`, `    with open(f"image-{number}.{ending}", "wb") as file:`, `        file.write(requests.get(image["url"]).content)`);
  } else {
    lines.push(
      `request_id = answer.json()["request_id"]`, "",
      "while True:", `    video = requests.get(f"{base}/videos/{request_id}", headers=headers).json()`,
      `    if video.get("status") != "pending":`, "        break", `    print(video.get("progress", 0), "%")`, "    time.sleep(1)", "",
      `if video.get("status") != "done":`, "    raise SystemExit(video)",
      `with open("video.mp4", "wb") as file:`, `    file.write(requests.get(video["video"]["url"]).content)`,
    );
  }
  return `${lines.join("\n")}\n`;
}

const TOKEN = /("(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(^[ \t]*#.*$|# .*$)|\b(true|false|True|False|None|import|def|with|as|return|while|if|for|in|not|break|raise|open)\b|(?<![\w.-])(-?\d+(?:\.\d+)?)(?![\w.])/gm;
const KINDS = ["string", "comment", "word", "number"];

/** The text as nodes with the classes `t-string`, `t-comment`, `t-word`, `t-number`. */
export function coloured(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(TOKEN)) {
    if (match.index > at) nodes.push(text.slice(at, match.index));
    const span = document.createElement("span");
    span.className = `t-${KINDS[match.slice(1).findIndex((group) => group !== undefined)]}`;
    span.textContent = match[0];
    nodes.push(span);
    at = match.index + match[0].length;
  }
  nodes.push(text.slice(at));
  return nodes;
}
