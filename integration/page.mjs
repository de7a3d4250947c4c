// Drives the status page in a real browser, as an operator would: starts the demo, looks at the page with and without
// scripts, at a phone's width and in the dark, pauses, resumes, changes the configuration, presses reload and sees the
// generation change. Run by `./dev page`; writes a screenshot where the first argument says.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [screenshot, tools, demo] = process.argv.slice(2);
const { chromium } = createRequire(join(resolve(tools), "x.js"))("playwright-core");
const [address, token] = ["127.0.0.1:9662", "only-for-the-page"];
const config = join(resolve(tools), "page.yaml");
const text = readFileSync("config/demo.yaml", "utf8").replace("../transforms", resolve("transforms"));
writeFileSync(config, text);
const env = { ...process.env, PELTON__ADMIN__LISTEN: address, PELTON__ADMIN__TOKEN: token };
const run = spawn(demo, ["--config", config], { env, stdio: ["ignore", "ignore", "inherit"] });
try {
  for (let tries = 0; ; tries++) {
    const ready = await fetch(`http://${address}/readyz`).catch(() => null);
    if (ready?.ok) break;
    assert(tries < 120 && run.exitCode === null, "the demo does not become ready");
    await new Promise((done) => setTimeout(done, 500));
  }
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => { if (message.type() === "error" && !message.text().includes("favicon")) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(`http://${address}/`);
  const cell = (column) => page.locator(`#flow tr:has(th:text-is("redact")) > :nth-child(${column})`);
  const becomes = async (what, want) => {
    for (let tries = 0; !(await want()); tries++) {
      assert(tries < 100, `${what}: ${await page.locator("#flow").innerText()} ${await page.locator("#outcome").innerText()}`);
      await page.waitForTimeout(200);
    }
  };
  await becomes("live", async () => (await page.locator("#live").innerText()) === "live");
  const before = Number(await cell(7).innerText());
  await becomes("numbers grow", async () => Number(await cell(7).innerText()) > before);
  const order = (name) => page.getByRole("button", { name, exact: true }).click();
  await page.getByLabel("Token").fill("wrong");
  await order("Reload");
  await becomes("refused", async () => (await page.locator("#outcome").innerText()).includes("admin.token"));
  await page.getByLabel("Token").fill(token);
  await order("Pause");
  await becomes("paused", async () => (await cell(5).innerText()) === "paused (hand)");
  await order("Resume");
  await becomes("resumed", async () => (await cell(5).innerText()) === "runs");
  assert.equal(await cell(9).innerText(), "1");
  writeFileSync(config, text.replace("drop: test", "drop: trial"));
  await order("Reload");
  await becomes("reloaded", async () => (await cell(9).innerText()) === "2");
  assert((await page.locator("#outcome").innerText()).includes("Reload: done"));
  await page.waitForTimeout(6000);
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: screenshot, fullPage: false });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 375, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert(wide <= 375, `the page is ${wide} wide on a phone`);
  await page.screenshot({ path: join(resolve(tools), "phone.png") });
  const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
  await plain.goto(`http://${address}/`);
  assert((await plain.locator("#flow").innerText()).includes("redact") && !(await plain.locator("#orders").isVisible()));
  // Refused orders are told by the browser too.
  const others = complaints.filter((text) => !text.includes("401") && !text.includes("404"));
  assert.deepEqual(others, []);
  await browser.close();
  console.log("the page does what it should");
} finally {
  run.kill("SIGTERM");
  if (run.exitCode === null) await once(run, "exit");
}
