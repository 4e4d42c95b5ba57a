// A real `borealis serve` (the command that BOREALIS_BIN names) on a free port with a data folder of its own, or the server that BOREALIS_URL and
// BOREALIS_KEY name.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const START_MS = 120_000;

/** Starts the server; `{ url, key, stop }`. */
export async function start() {
  const { BOREALIS_URL: url, BOREALIS_KEY: key } = process.env;
  if (url && key) return { url, key, stop: async () => {} };

  const binary = process.env.BOREALIS_BIN ?? "borealis";
  const data = mkdtempSync(join(tmpdir(), "borealis-playground-"));
  const log = join(data, "log.txt");
  const child = spawn(binary, ["serve", "--address", "127.0.0.1:0", "--data", data], { stdio: ["ignore", "pipe", openSync(log, "a")] });
  const gone = new Promise((done) => child.once("exit", done));
  const found = await new Promise((done, fail) => {
    const said = {};
    const late = setTimeout(() => fail(new Error("the server did not start in time")), START_MS);
    gone.then(() => fail(new Error(`the server did not start: ${readFileSync(log, "utf8").slice(-2000)}`)));
    child.once("error", fail);
    createInterface(child.stdout).on("line", (line) => {
      said.url ??= /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
      said.key ??= /\bbk-[0-9a-f]{10}-\S+/.exec(line)?.[0];
      if (!said.url || !said.key) return;
      clearTimeout(late);
      done(said);
    });
  });
  return {
    ...found,
    stop: async () => {
      child.kill("SIGTERM");
      const code = await gone;
      rmSync(data, { recursive: true, force: true });
      if (code !== 0) throw new Error(`the server ended with ${code}`);
    },
  };
}
