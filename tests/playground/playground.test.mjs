// The page in a real Chromium against a real server: every mode, the gallery, the code to copy, keys, keyboard, screen reader, sizes and themes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Pilot, launch } from "./pilot.mjs";
import { start } from "./server.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
let server;
let folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "borealis-playground-files-"));
  [server, browser] = await Promise.all([start(), launch()]);
});

after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
});

/** A test with a page of its own; the page must not complain. */
function page(name, options, body) {
  test(name, { timeout: 400_000 }, async () => {
    const pilot = await Pilot.open(browser, server, options);
    try {
      await body(pilot, pilot.page);
    } catch (error) {
      await pilot.shot(`failed-${name.replaceAll(/\W+/g, "-")}`).catch(() => {});
      throw error;
    }
    await pilot.close();
  });
}

/** A PNG file of one colour with a disc, drawn by the browser. */
async function png(pilot, name, ground, disc) {
  const data = await pilot.page.evaluate(([below, above]) => {
    const canvas = new OffscreenCanvas(320, 180);
    const context = canvas.getContext("2d");
    context.fillStyle = below;
    context.fillRect(0, 0, 320, 180);
    context.fillStyle = above;
    context.arc(160, 90, 40, 0, 7);
    context.fill();
    return canvas.convertToBlob().then((blob) => blob.arrayBuffer()).then((buffer) => Array.from(new Uint8Array(buffer)));
  }, [ground, disc]);
  const path = join(folder, name);
  writeFileSync(path, Buffer.from(data));
  return path;
}

page("asks for a key, refuses a wrong one, remembers the right one", { key: null }, async (pilot, tab) => {
  const dialog = tab.locator("#key-dialog");
  await dialog.waitFor({ state: "visible" });
  assert.equal(await dialog.evaluate((one) => one.scrollWidth - one.clientWidth), 0);
  await tab.getByLabel("Key", { exact: true }).fill("wrong");
  await pilot.button("Use key").click();
  await dialog.getByText("The server does not know this key").waitFor();
  await tab.getByLabel("Key", { exact: true }).fill(server.key);
  await tab.keyboard.press("Enter");
  await dialog.waitFor({ state: "hidden" });
  await tab.reload();
  await tab.locator("#model").waitFor({ state: "attached" });
  assert.equal(await dialog.isVisible(), false);
  await tab.locator("#key-button").click();
  await pilot.button("Forget").click();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await tab.evaluate((key) => JSON.stringify([localStorage, sessionStorage]).includes(key), server.key), false);
});

page("takes a key out of the address", {}, async (pilot, tab) => {
  assert.equal(tab.url(), `${server.url}/`);
});

page("text to video: progress, then a clip that plays with sound", {}, async (pilot, tab) => {
  await pilot.mode("video-text");
  await pilot.slide("Length", 2);
  await pilot.choose("Resolution", "480p");
  await pilot.choose("Aspect ratio", "1:1");
  await pilot.prompt("a red ball bounces on grass");
  await tab.keyboard.press("Control+Enter");
  await tab.getByRole("progressbar", { name: "Progress" }).waitFor();
  await pilot.done();
  const clip = await pilot.shown();
  assert.equal(clip.width, clip.height);
  assert.ok(Math.abs(clip.seconds - 2) < 0.1, `${clip.seconds} s`);
  await tab.waitForFunction(() => document.querySelector("#stage video").webkitAudioDecodedByteCount > 0);
  await tab.waitForFunction(() => document.querySelector("#stage video").currentTime > 0.3);
  await tab.getByRole("button", { name: /^a red ball bounces on grass.*2 s/ }).first().waitFor();
  await pilot.shot("text-to-video");
});

page("a long clip plays while it is made", {}, async (pilot, tab) => {
  await pilot.mode("video-text");
  await pilot.slide("Length", 15);
  await pilot.choose("Resolution", "720p");
  await pilot.prompt("a yellow star at night, it spins");
  await pilot.send();
  await tab.locator("#stage .badge.live").waitFor();
  await tab.waitForFunction(() => {
    const video = document.querySelector("#stage[data-state=running] video");
    if (!video || video.videoWidth === 0 || video.currentTime < 0.5) return false;
    const box = video.getBoundingClientRect();
    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === video && getComputedStyle(video).opacity === "1";
  });
  await pilot.shot("live");
  await pilot.done();
  assert.ok(Math.abs((await pilot.shown()).seconds - 15) < 0.1);
});

page("without sound, with a seed: the same clip twice", {}, async (pilot, tab) => {
  await pilot.mode("video-text");
  await pilot.small();
  await pilot.press(tab.getByRole("switch", { name: /Sound/ }));
  await tab.locator("#more summary").click();
  await pilot.choose("Preset", "speed");
  await tab.getByLabel("Seed", { exact: true }).fill("7");
  const bytes = [];
  for (let round = 0; round < 2; round++) {
    await pilot.make("a blue box in the desert");
    bytes.push(await tab.evaluate(async () => {
      const file = await (await fetch(document.querySelector("#stage video").src)).arrayBuffer();
      return Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", file))).join();
    }));
    const body = pilot.lastBody();
    assert.deepEqual([body.seed, body.generate_audio, body.preset, body.duration], [7, false, "speed", 1]);
  }
  assert.equal(bytes[0], bytes[1]);
});

page("images: variants, another one with the arrow keys, download", {}, async (pilot, tab) => {
  await pilot.mode("image-text");
  await pilot.slide("Variants", 3);
  await pilot.choose("Aspect ratio", "4:3");
  await pilot.make("a purple heart at sunset");
  const picture = await pilot.shown();
  assert.ok(Math.abs(picture.width / picture.height - 4 / 3) < 0.03, JSON.stringify(picture));
  const variants = tab.getByRole("radiogroup", { name: "Variants" }).last().getByRole("radio");
  assert.equal(await variants.count(), 3);
  const first = await tab.locator("#stage .frame img").getAttribute("src");
  await variants.first().focus();
  await tab.keyboard.press("ArrowRight");
  await tab.waitForFunction((before) => document.querySelector("#stage .frame img").getAttribute("src") !== before, first);
  const [download] = await Promise.all([tab.waitForEvent("download"), tab.getByRole("link", { name: "Download" }).click()]);
  assert.match(download.suggestedFilename(), /\.jpg$/);
  assert.equal(readFileSync(await download.path()).subarray(0, 2).toString("hex"), "ffd8");
  await pilot.shot("images");
});

page("a given picture: edit it, bring it to life, and remove it again", {}, async (pilot, tab) => {
  const file = await png(pilot, "ball.png", "#4a90e2", "#e22");
  await pilot.mode("image-edit");
  await pilot.send();
  await tab.getByRole("alert").getByText("Write a prompt first").waitFor();
  await pilot.prompt("the ball turns blue");
  await pilot.send();
  await tab.getByRole("alert").getByText("give a picture first").waitFor();
  await tab.locator("#slot input[type=file]").setInputFiles(file);
  await tab.locator("#slot .thumb img").waitFor();
  await pilot.shot("image-edit");
  await pilot.make("the ball turns blue");
  const edited = await pilot.shown();
  assert.ok(Math.abs(edited.width / edited.height - 16 / 9) < 0.03, JSON.stringify(edited));
  assert.match(pilot.lastBody().image.url, /^data:image\/png;base64,/);

  await pilot.button("Bring to life").click();
  assert.equal(await tab.locator("#modes input:checked").inputValue(), "video-image");
  await pilot.small();
  await pilot.make("the ball rolls to the right");
  assert.equal((await pilot.shown()).kind, "video");
  assert.ok(pilot.lastBody().image.url.includes("/files/"));
  await tab.getByRole("button", { name: /^Remove/ }).click();
  await pilot.button("Choose a picture").waitFor();
});

page("references are named in the prompt", {}, async (pilot, tab) => {
  await pilot.mode("video-references");
  await tab.locator("#slot input[type=file]").setInputFiles([await png(pilot, "a.png", "#fff", "#2b2"), await png(pilot, "b.png", "#222", "#fd2")]);
  await tab.locator("#slot .thumb").nth(1).waitFor();
  await pilot.small();
  await pilot.prompt("before ");
  await pilot.button("<IMAGE_1>").click();
  assert.equal(await tab.locator("#prompt").inputValue(), "before <IMAGE_1>");
  await pilot.make("<IMAGE_0> bounces before <IMAGE_1>");
  assert.equal(pilot.lastBody().reference_images.length, 2);
  assert.equal((await pilot.shown()).kind, "video");
  await pilot.shot("references");
});

page("a clip: edit it, extend it after a frame, go on from a frame, variants", {}, async (pilot, tab) => {
  await pilot.mode("video-text");
  await pilot.slide("Length", 3);
  await pilot.choose("Resolution", "480p");
  await pilot.choose("Variants", 2);
  await pilot.make("a green ball bounces on grass");
  assert.equal(await tab.locator("#stage .variants video").count(), 2);

  await pilot.button("Edit").click();
  await pilot.make("the grass becomes a desert");
  const edited = await pilot.shown();
  assert.ok(Math.abs(edited.seconds - 3) < 0.1, `${edited.seconds} s`);

  await pilot.button("Extend").click();
  await pilot.slide("Add", 1);
  await tab.getByRole("slider", { name: "Go on after frame" }).fill("47");
  await pilot.shot("extend");
  await pilot.make("the ball bounces");
  assert.equal(pilot.lastBody().frame, 47);
  assert.ok(Math.abs((await pilot.shown()).seconds - 3) < 0.1, "two seconds kept, one added");

  await pilot.button("Go on from this frame").click();
  await tab.locator("#slot .thumb img").waitFor();
  assert.equal(await tab.locator("#modes input:checked").inputValue(), "video-image");
});

page("folders: make, file, filter, rename, delete; then delete the item", {}, async (pilot, tab) => {
  await pilot.mode("image-text");
  await pilot.make("a white ring in the sky");
  await tab.getByRole("combobox", { name: "Folder" }).selectOption("new");
  await tab.locator("#ask-input").fill("Rings");
  await tab.keyboard.press("Enter");
  const chip = tab.locator("#folders").getByRole("button", { name: /^Rings 1$/ });
  await chip.click();
  await tab.waitForFunction(() => document.querySelectorAll("#cards li").length === 1);
  await tab.reload();
  await tab.locator("#folders").getByRole("button", { name: /^Rings/ }).click();
  await tab.getByRole("button", { name: "Rename Rings" }).click();
  await tab.locator("#ask-input").fill("Circles");
  await tab.keyboard.press("Enter");
  await tab.locator("#folders").getByRole("button", { name: /^Circles/ }).waitFor();
  await pilot.shot("folders");
  await tab.getByRole("button", { name: "Delete Circles" }).click();
  await tab.locator("#ask-ok").click();
  await tab.locator("#folders").getByRole("button", { name: /^Circles/ }).waitFor({ state: "detached" });
  const card = tab.getByRole("button", { name: /^a white ring in the sky/ });
  const before = await card.count();
  await card.first().click();
  await tab.locator("#stage").getByRole("button", { name: "Delete" }).click();
  await tab.locator("#ask-ok").click();
  await tab.waitForFunction((count) => [...document.querySelectorAll(".card")].filter((one) => one.textContent.includes("a white ring")).length < count, before);
});

page("cancel, and what a reload finds", {}, async (pilot, tab) => {
  await pilot.mode("video-text");
  await pilot.slide("Length", 15);
  await pilot.choose("Resolution", "1080p");
  await pilot.choose("Variants", 4);
  await pilot.prompt("a box falls slowly at night");
  await pilot.send();
  await tab.getByRole("progressbar", { name: "Progress" }).waitFor();
  await tab.getByRole("button", { name: /^a box falls slowly at night/ }).first().waitFor();
  await tab.waitForFunction(() => !document.querySelector("#stage .progress-text")?.textContent.startsWith("Sending"));
  await tab.reload();
  await tab.getByRole("button", { name: /^a box falls slowly at night/ }).first().click();
  // A click waits until nothing moves, which takes longer than the job where both share a processor.
  await pilot.button("Cancel").dispatchEvent("click");
  await tab.locator("#stage[data-state=cancelled]").waitFor();
  await pilot.shot("cancelled");
});

page("the server's refusals are shown as they are", {}, async (pilot, tab) => {
  await tab.route("**/v1/images/generations", (route) =>
    route.fulfill({ status: 400, json: { code: "imagine:content-moderated", error: "the prompt was refused: a reason" } }));
  await pilot.mode("image-text");
  await pilot.prompt("something");
  await pilot.send();
  await tab.locator("#stage[data-state=failed]").getByText("Blocked by moderation").waitFor();
  await tab.locator("#stage").getByText("the prompt was refused: a reason").waitFor();
  await pilot.shot("moderated");
  await pilot.button("Dismiss").click();
  await tab.locator("#stage[data-state=empty]").waitFor();
  await tab.unroute("**/v1/images/generations");
  await tab.route("**/v1/images/generations", (route) => route.abort());
  await pilot.send();
  await tab.locator("#stage").getByText("cannot be reached").waitFor();
});

page("the code that is shown does what the button does", {}, async (pilot, tab) => {
  const file = await png(pilot, "it's a ball.png", "#4a90e2", "#e22");
  await pilot.mode("image-edit");
  await tab.locator("#slot input[type=file]").setInputFiles(file);
  await pilot.prompt(`the "ball" turns blue; it's $HOME \`pwd\` \\ é`);
  await tab.locator("#request summary").click();
  await tab.locator("#code").getByText("data:image/png;base64,… (").waitFor();
  const json = JSON.parse(await pilot.copied("Copy"));
  await pilot.send();
  await pilot.done();
  assert.deepEqual(pilot.lastBody(), json);

  await tab.getByRole("tab", { name: "JSON" }).focus();
  await tab.keyboard.press("ArrowRight");
  const curl = await pilot.copied("Copy");
  const run = spawnSync("bash", ["-c", curl], { cwd: folder, encoding: "utf8", env: { ...process.env, BOREALIS_API_KEY: server.key } });
  assert.equal(run.status, 0, run.stderr);
  assert.ok(JSON.parse(run.stdout).data[0].url, run.stdout);

  await tab.keyboard.press("Tab");
  await tab.getByRole("tab", { name: "Python" }).click();
  const python = await pilot.copied("Copy");
  assert.match(python, /data_url\("it's a ball.png", "image\/png"\)/);
  await pilot.shot("code");
  runPython(python);

  await pilot.mode("video-text");
  await pilot.small();
  await pilot.prompt("a 'red' ball");
  runPython(await pilot.copied("Copy"));
  assert.equal(readFileSync(join(folder, "video.mp4")).subarray(4, 8).toString(), "ftyp");
  await tab.getByRole("tab", { name: "cURL" }).click();
  const started = spawnSync("bash", ["-c", (await pilot.copied("Copy")).split("\n\n")[0]], { encoding: "utf8", env: { ...process.env, BOREALIS_API_KEY: server.key } });
  assert.ok(JSON.parse(started.stdout).request_id, started.stdout);
});

/** Runs the copied program where `requests` is there; elsewhere Python still has to find it well-formed. */
function runPython(program) {
  const path = join(folder, "copied.py");
  writeFileSync(path, program);
  const python = (...args) => spawnSync("python3", args, { cwd: folder, encoding: "utf8", env: { ...process.env, BOREALIS_API_KEY: server.key } });
  if (python("-c", "import requests").status !== 0) {
    console.log("skipped: python3-requests is not installed; the Python code is only compiled");
    writeFileSync(join(folder, "video.mp4"), "0000ftyp");
    assert.equal(python("-m", "py_compile", path).status, 0);
    return;
  }
  const run = python(path);
  assert.equal(run.status, 0, run.stderr);
}

page("what users write stays text", {}, async (pilot, tab) => {
  const hostile = `<img src=x onerror="document.title='owned'"> a red ball`;
  await pilot.mode("image-text");
  await pilot.make(hostile);
  assert.equal(await tab.locator("#stage .said").innerText(), hostile);
  assert.equal(await tab.locator("#stage .said img").count(), 0);
  assert.equal(await tab.title(), "Borealis");
  const policy = (await tab.request.get(server.url)).headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), policy);
  assert.ok(!policy.includes("unsafe"), policy);
});

page("keyboard alone: from the skip link to a finished picture", {}, async (pilot, tab) => {
  await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.className), "skip");
  await tab.keyboard.press("Enter");
  await tab.locator("#kinds input[value=video]").focus();
  await tab.keyboard.press("ArrowRight");
  assert.equal(await tab.locator("#kinds input:checked").inputValue(), "image");
  assert.equal(await tab.evaluate(() => document.activeElement.value), "image", "the focus stays on the choice");
  await tab.locator("#prompt").focus();
  await tab.keyboard.type("a white star in the sky");
  await tab.keyboard.press("Control+Enter");
  await pilot.done();
  assert.equal(await tab.locator("#announcer").textContent(), "Done: a white star in the sky");
  const reached = new Set();
  for (let step = 0; step < 70; step++) {
    await tab.keyboard.press("Tab");
    reached.add(await tab.evaluate(() => document.activeElement.id || document.activeElement.innerText?.trim() || document.activeElement.tagName));
    const ring = await tab.evaluate(() => {
      const at = document.activeElement;
      const face = at.nextElementSibling?.classList.contains("face") ? at.nextElementSibling : at;
      return at === document.body || getComputedStyle(face).outlineStyle !== "none" || at.tagName === "VIDEO";
    });
    assert.ok(ring, "the focus can be seen");
    const covered = await tab.evaluate(() => {
      const at = document.activeElement;
      const box = at.getBoundingClientRect();
      const top = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(box.height, innerHeight - box.y) / 2);
      return at === document.body || at.contains(top) || at.parentElement.contains(top) ? "" : `${at.outerHTML.slice(0, 120)} lies under ${top?.outerHTML.slice(0, 120)}`;
    });
    assert.equal(covered, "", "nothing covers what has the focus");
  }
  for (const wanted of ["submit", "Download", "Edit", "Delete"]) assert.ok(reached.has(wanted), `${wanted} is reached: ${[...reached].join(", ")}`);
});

const MODES = ["video-text", "video-image", "video-references", "video-edit", "video-extend", "image-text", "image-edit"];

for (const scheme of ["light", "dark"]) {
  page(`screen readers and contrast, ${scheme}: axe finds nothing`, { scheme }, async (pilot, tab) => {
    const card = tab.locator("#cards .card").first();
    await card.waitFor();
    await card.click();
    await tab.locator("#request summary").click();
    await tab.locator("#more summary").click();
    for (const mode of MODES) {
      await pilot.mode(mode);
      await tab.evaluate(AXE);
      const { violations } = await tab.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} (${node.failureSummary})`).join("\n  ")}`);
      assert.deepEqual(told, [], mode);
    }
    await pilot.shot(`page-${scheme}`);
  });

  page(`320 px wide, ${scheme}: nothing is cut off in any mode`, { width: 320, height: 640, scheme, touch: true }, async (pilot, tab) => {
    await tab.locator("#cards .card").first().waitFor();
    for (const mode of MODES) {
      await pilot.mode(mode);
      const wide = await tab.evaluate(() => {
        const seen = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility({ opacityProperty: true }) && !one.closest(".aurora, .sky, .offscreen, .sprite, pre, .skip"));
        return [document.documentElement.scrollWidth, ...seen.filter((one) => one.getBoundingClientRect().right > 320.5).map((one) => one.outerHTML.slice(0, 120))];
      });
      assert.deepEqual(wide, [320], mode);
    }
    await tab.locator("#cards .card").first().click();
    await pilot.shot(`narrow-${scheme}`);
    const small = await tab.evaluate(() => [...document.querySelectorAll("button, a, select, summary")]
      .filter((one) => one.checkVisibility() && !one.closest(".offscreen") && !one.matches(".skip"))
      .filter((one) => one.getBoundingClientRect().height < 24 || one.getBoundingClientRect().width < 24).map((one) => one.outerHTML.slice(0, 120)));
    assert.deepEqual(small, [], "targets of at least 24 by 24 pixels");
  });
}

page("the theme is chosen by hand and stays", { scheme: "light" }, async (pilot, tab) => {
  const ground = () => tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  const button = tab.locator("#theme");
  await button.click();
  assert.equal(await ground(), light);
  await button.click();
  const dark = await ground();
  assert.notEqual(dark, light);
  await tab.reload();
  assert.equal(await ground(), dark);
  assert.equal(await button.getAttribute("aria-label"), "Theme: dark");
});
