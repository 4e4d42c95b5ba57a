// A Chromium with the page open: what a user does, in words that tests read well with. Whatever the page complains about ends the test.

import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** A generation on a busy machine. */
export const LONG = 120_000;

const SHOTS = process.env.SHOTS;
const CHROMIUM = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

export async function launch() {
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });
}

/** One browser context with the page open. `key` is given in the address, as the server prints it; `null` gives none. */
export class Pilot {
  static async open(browser, server, { width = 1280, height = 860, scheme = "dark", key = server.key, touch = false } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, hasTouch: touch, acceptDownloads: true });
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.url });
    const page = await context.newPage();
    const pilot = new Pilot(page, context, server);
    await page.goto(key ? `${server.url}/#key=${key}` : server.url);
    if (key) await page.locator("#model, #more-params select").first().waitFor({ state: "attached", timeout: LONG });
    return pilot;
  }

  constructor(page, context, server) {
    Object.assign(this, { page, context, server, complaints: [], posted: [] });
    page.setDefaultTimeout(LONG);
    page.on("pageerror", (error) => this.complaints.push(`error: ${error.message}`));
    page.on("console", (message) => {
      // A status that is not a success is reported by Chromium itself; tests look at those in the page.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) this.complaints.push(message.text());
    });
    page.on("request", (request) => {
      if (request.method() === "POST") this.posted.push({ path: new URL(request.url()).pathname, body: request.postData() });
    });
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.complaints, [], "the page complained");
  }

  async shot(name) {
    if (SHOTS) await this.page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
  }

  /** Chooses a radio button or flips a switch as the keyboard does; the browser scrolls to what has the focus. */
  async press(input) {
    await input.focus();
    await this.page.keyboard.press("Space");
  }

  /** Chooses a mode: `video-text`, `image-edit`, ... */
  async mode(id) {
    await this.press(this.page.locator(`#kinds input[value=${id.split("-")[0]}]`));
    await this.press(this.page.locator(`#modes input[value=${id}]`));
    assert.equal(await this.page.locator("#modes input:checked").inputValue(), id);
  }

  /** Chooses a radio button of a labelled group of the form. */
  async choose(group, value) {
    const input = this.page.locator("#composer").getByRole("radiogroup", { name: group }).locator(`input[value="${value}"]`);
    await this.press(input);
    assert.ok(await input.isChecked(), `${group}: ${value}`);
  }

  /** Sets a slider. */
  async slide(label, value) {
    await this.page.getByRole("slider", { name: label }).fill(String(value));
  }

  async prompt(text) {
    await this.page.getByLabel("Prompt", { exact: true }).fill(text);
  }

  /** The smallest clip: a second of 480 lines, plainer and faster. */
  async small() {
    await this.slide("Length", 1);
    await this.choose("Resolution", "480p");
  }

  async send() {
    await this.page.locator("#submit").click();
  }

  /** Waits until the stage shows what was sent, done; fails with what the stage says otherwise. */
  async done() {
    const stage = this.page.locator("#stage");
    await this.page.waitForFunction(() => ["done", "failed", "cancelled", "expired", "moderated"].includes(document.querySelector("#stage").dataset.state));
    assert.equal(await stage.getAttribute("data-state"), "done", await stage.innerText());
  }

  async make(text) {
    await this.prompt(text);
    await this.send();
    await this.page.locator("#stage[data-state=running]").waitFor();
    await this.done();
  }

  /** What the clip or picture on the stage really is, as the browser decoded it. */
  async shown() {
    const media = this.page.locator("#stage .frame > :is(img, video)");
    await media.waitFor();
    return media.evaluate(async (element) => {
      if (element.tagName === "IMG") {
        await element.decode();
        return { kind: "image", width: element.naturalWidth, height: element.naturalHeight };
      }
      if (element.readyState < 2) await new Promise((ready) => element.addEventListener("loadeddata", ready, { once: true }));
      return { kind: "video", width: element.videoWidth, height: element.videoHeight, seconds: element.duration };
    });
  }

  /** Body of the last request that started a generation. */
  lastBody() {
    const sent = this.posted.filter(({ path }) => /\/(generations|edits|extensions)$/.test(path)).at(-1);
    return JSON.parse(sent.body);
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  /** Text of the clipboard after pressing a button that copies. */
  async copied(name) {
    await this.button(name).click();
    await this.page.locator("#toast", { hasText: "Copied" }).waitFor();
    return this.page.evaluate(() => navigator.clipboard.readText());
  }
}
