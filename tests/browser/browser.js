// SPDX-License-Identifier: BSD-2-Clause
// Debian's chromium, driven by playwright-core: one page with everything that a page of ours must
// not do counted (requests, console errors, dialogs), and checks in TAP.
"use strict";
const { chromium } = require("playwright-core");

let n = 0, failed = 0;
function ok(what, good, ...notes) {
  n++;
  if (!good) failed++;
  console.log((good ? "ok " : "not ok ") + n + " - " + what);
  if (!good) notes.forEach((t) => console.log("# " + String(t).slice(0, 500)));
}
function is(what, got, want) { ok(what, String(got) === String(want), "got:      " + got, "expected: " + want); }
function like(what, got, re) { ok(what, re.test(String(got)), "got: " + got, "expected to match: " + re); }
function near(what, got, want, by) { ok(what, Math.abs(got - want) <= by, "got: " + got, "expected: " + want + " +- " + by); }

// fn(page, seen) on a fresh page that shows the file.
async function open(browser, file, options, fn) {
  const context = await browser.newContext(Object.assign({ viewport: { width: 1300, height: 900 } }, options));
  const page = await context.newPage();
  const seen = { requests: [], errors: [], dialogs: [] };
  page.on("request", (r) => { if (r.url() !== "file://" + file) seen.requests.push(r.url()); });
  page.on("console", (m) => { if (m.type() === "error") seen.errors.push(m.text()); });
  page.on("pageerror", (e) => seen.errors.push(e.message));
  page.on("dialog", (d) => { seen.dialogs.push(d.message()); d.dismiss(); });
  await page.goto("file://" + file);
  await fn(page, seen);
  if (process.env.STALLBOX_ARTIFACTS)
    await page.screenshot({ path: process.env.STALLBOX_ARTIFACTS + "/" + require("path").basename(file) + "." + n + ".png" });
  await context.close();
}

async function main(tests) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"] });
  try {
    await tests(browser);
  } finally {
    await browser.close();
  }
  console.log("1.." + n);
  process.exitCode = failed ? 1 : 0;
}

module.exports = { ok, is, like, near, open, main };
