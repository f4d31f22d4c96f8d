// SPDX-License-Identifier: BSD-2-Clause
// The interactive flame graphs against what `stallbox fold` says of the same bundle.
"use strict";
const fs = require("fs");
const { ok, is, like, near, open, main } = require("./browser.js");
const dir = process.argv[2];

function folded(name) {
  return fs.readFileSync(dir + "/" + name + ".folded", "utf8").trim().split("\n").map((l) => {
    const at = l.lastIndexOf(" ");
    return { frames: l.slice(0, at).split(";").map((f) => f.replace(/_\[k\]$/, "")), weight: +l.slice(at + 1) };
  });
}
const sum = (rows) => rows.reduce((a, r) => a + r.weight, 0);
const frame = (page, name) => page.locator("#frames g.f", { has: page.locator("title", { hasText: new RegExp("^" + name + ": ") }) }).first();
const width = async (l) => +(await l.locator("rect").getAttribute("width"));
const drawn = (page) => page.locator("#frames g.f").count();
const details = async (page) => (await page.locator("#details").textContent()).replace(/(\d),(?=\d)/g, "$1");
const matched = (page) => page.locator("#matched").textContent();

async function zoomAndReset(browser) {
  const rows = folded("on-cpu"), total = sum(rows), mine = sum(rows.filter((r) => r.frames[0] === "worker1"));
  await open(browser, dir + "/on-cpu.svg", {}, async (page, seen) => {
    const all = await drawn(page), full = await width(frame(page, "all"));
    is("the picture is as wide as the window", full, 1280);
    near("a frame is as wide as its share", await width(frame(page, "worker1")), full * mine / total, 0.02);
    await frame(page, "worker1").hover();
    like("hover says count, duration and percent", await details(page),
      new RegExp("^worker1: " + mine + " samples, [0-9.]+ s, " + (100 * mine / total).toFixed(2) + " % of all$"));
    await frame(page, "worker1").click();
    is("a click zooms to the full width", await width(frame(page, "worker1")), full);
    is("nothing beside it is left", await frame(page, "worker2").count(), 0);
    is("what it stands on stays", await page.locator("#frames g.f.parent").count(), 1);
    is("the button appears", await page.locator("#reset").isVisible(), true);
    const child = page.locator("#frames g.f:not(.parent)").nth(1);
    await child.hover();
    like("hover tells the share of the zoomed frame", await details(page), / % of all, [0-9.]+ % of the zoomed frame$/);
    await page.locator("#reset").click();
    is("reset shows all again", await drawn(page), all);
    is("and the button goes", await page.locator("#reset").isVisible(), false);
    is("no request, no error, no dialog", JSON.stringify(seen), '{"requests":[],"errors":[],"dialogs":[]}');
  });
}

async function searching(browser) {
  const rows = folded("on-cpu"), re = /kfunc_1\d$/i, hit = rows.filter((r) => r.frames.some((f) => re.test(f)));
  const share = (100 * sum(hit) / sum(rows)).toFixed(1);
  await open(browser, dir + "/on-cpu.svg", {}, async (page, seen) => {
    await page.keyboard.press("/");
    await page.keyboard.type("kfunc_1\\d$");
    is("search says the share, nested hits once", await matched(page), "matched: " + share + " %");
    const hits = await page.locator("#frames g.f.hit title").allTextContents();
    ok("what matches is marked, and nothing else", hits.length > 0 && hits.every((t) => /^kfunc_1\d: /.test(t)), hits.join("|"));
    await page.keyboard.press("Enter");
    is("Enter closes the field and keeps the marks", (await page.locator("foreignObject").count()) + " " + (await matched(page)),
      "0 matched: " + share + " %");
    await page.keyboard.press("Escape");
    is("Escape clears", (await matched(page)) + (await page.locator(".hit").count()), "0");
    await page.keyboard.press("Control+f");
    await page.keyboard.type("(");
    is("half a regular expression is taken as text", await matched(page), "matched: 0.0 %");
    await page.keyboard.press("Escape");
    await page.locator("#search").click();
    await page.keyboard.type("worker[12]$");
    is("the button searches as well", await matched(page), "matched: " +
      (100 * sum(rows.filter((r) => /^worker[12]$/.test(r.frames[0]))) / sum(rows)).toFixed(1) + " %");
    await page.keyboard.press("Enter");
    await page.locator("#search").click();
    is("and clears", await matched(page), "");
    is("no request, no error, no dialog", JSON.stringify(seen), '{"requests":[],"errors":[],"dialogs":[]}');
  });
}

async function keys(browser) {
  await open(browser, dir + "/on-cpu.svg", {}, async (page, seen) => {
    const full = await width(frame(page, "all"));
    await page.keyboard.press("ArrowUp");
    const first = (await details(page)).split(":")[0];
    like("an arrow goes up to the widest thread", first, /^worker\d$/);
    await page.keyboard.press(first === "worker0" ? "ArrowRight" : "ArrowLeft");
    const second = (await details(page)).split(":")[0];
    ok("another goes beside it", /^worker\d$/.test(second) && second !== first, second);
    is("it is outlined", await page.locator("#frames g.cur title").textContent().then((t) => t.split(":")[0]), second);
    await page.keyboard.press("Enter");
    is("Enter zooms", await width(frame(page, second)), full);
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    is("two levels", await page.locator("#frames g.f.parent").count(), 2);
    await page.keyboard.press("Escape");
    is("Escape goes back one", await page.locator("#frames g.f.parent").count(), 1);
    await page.keyboard.press("Home");
    is("Home shows all", await page.locator("#frames g.f.parent").count(), 0);
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    like("down to the root", await details(page), /^(all|worker\d): /);
    await page.locator("#search").focus();
    await page.keyboard.press("Enter");
    is("a button by keyboard", await page.locator("foreignObject input").count(), 1);
    is("no request, no error, no dialog", JSON.stringify(seen), '{"requests":[],"errors":[],"dialogs":[]}');
  });
}

async function durations(browser) {
  const rows = folded("off-cpu"), mine = rows.filter((r) => r.frames[0] === "worker3");
  await open(browser, dir + "/off-cpu.svg", {}, async (page) => {
    await frame(page, "worker3").hover();
    like("off-CPU: duration, events, percent", await details(page), new RegExp("^worker3: " + (sum(mine) / 1e9).toFixed(3) +
      " s in \\d+ events, " + (100 * sum(mine) / sum(rows)).toFixed(2) + " % of all$"));
  });
  await open(browser, dir + "/blocked.svg", {}, async (page) => {
    await frame(page, "all").hover();
    is("threads are counted", await details(page), "all: 17 threads, 100.00 % of all");
  });
}

async function shapes(browser) {
  const y = async (l) => +(await l.locator("rect").getAttribute("y"));
  await open(browser, dir + "/on-cpu.svg", {}, async (page) => {
    ok("the root is at the bottom", (await y(frame(page, "all"))) > (await y(frame(page, "worker1"))));
  });
  await open(browser, dir + "/inverted.svg", {}, async (page) => {
    ok("inverted: the root is on top", (await y(frame(page, "all"))) < (await y(frame(page, "worker1"))));
    await page.keyboard.press("ArrowDown");
    like("and arrows go the other way", await details(page), /^worker\d: /);
  });
  const rows = folded("on-cpu"), leaf = rows[0].frames[rows[0].frames.length - 1];
  await open(browser, dir + "/reverse.svg", {}, async (page) => {
    const root = await y(frame(page, "all"));
    is("reverse: a leaf stands on the root", await y(frame(page, leaf)), root - 16);
    await frame(page, leaf).hover();
    like("with all that ends in it", await details(page), new RegExp("^" + leaf + ": " +
      sum(rows.filter((r) => r.frames[r.frames.length - 1] === leaf)) + " samples"));
  });
  await open(browser, dir + "/process.svg", {}, async (page) => {
    is("by process", await width(frame(page, "server 1000")), 1280);
  });
  await open(browser, dir + "/many.svg", {}, async (page, seen) => {
    const before = await drawn(page);
    ok("frames too thin to draw are drawn together", (await page.locator("#frames rect.thin").count()) > 0);
    const names = await page.locator("#frames g.f title").allTextContents();
    await frame(page, names[3].split(":")[0]).click();
    const after = await page.locator("#frames g.f title").allTextContents();
    ok("zooming brings some of them out", after.filter((t) => !names.some((o) => o.split(":")[0] === t.split(":")[0])).length > 0, before);
    is("no error", seen.errors.length, 0);
  });
  await open(browser, dir + "/on-cpu.svg", { viewport: { width: 900, height: 600 } }, async (page) => {
    is("a narrow window", await width(frame(page, "all")), 880);
    await page.setViewportSize({ width: 1500, height: 600 });
    await page.waitForFunction(() => document.querySelector("#frames rect").getAttribute("width") === "1480.00");
    is("that becomes wide", await width(frame(page, "all")), 1480);
  });
}

async function compared(browser) {
  const side = (k) => fs.readFileSync(dir + "/diff.folded", "utf8").trim().split("\n").map((l) => {
    const w = l.split(" ");
    return { weight: +w[w.length - (k ? 1 : 2)] };
  });
  await open(browser, dir + "/diff.svg", {}, async (page, seen) => {
    await frame(page, "all").hover();
    like("both sides, the new one as folded", await details(page), new RegExp("^all: after " + sum(side(1)) + " samples, .* \\(100.00 %\\), before .* samples"));
    ok("more is red, less is blue", (await page.locator("#frames rect[class^=r]").count()) > 0 && (await page.locator("#frames rect[class^=b]").count()) > 0);
    is("no request, no error, no dialog", JSON.stringify(seen), '{"requests":[],"errors":[],"dialogs":[]}');
  });
}

async function hostile(browser) {
  await open(browser, dir + "/hostile.svg", {}, async (page, seen) => {
    const script = page.locator("#frames title", { hasText: "<script>" }).first();
    like("a name with a script in it is text", await script.textContent(), /]]><\/script><script>pwned=1<\/script><img src=x onerror=pwned=1>/);
    await page.keyboard.press("/");
    await page.keyboard.type("<img");
    like("it can be searched for", await matched(page), /matched: [1-9]/);
    await page.keyboard.press("Enter");
    await page.locator("#frames g.f.hit").first().click();
    like("and zoomed to", await details(page), /<script>/);
    is("nothing of it has run", await page.evaluate(() => typeof window.pwned), "undefined");
    is("no element came out of it", await page.evaluate(() => document.querySelectorAll("img").length + " " + document.querySelectorAll("script").length), "0 1");
    is("no request, no error, no dialog", JSON.stringify(seen), '{"requests":[],"errors":[],"dialogs":[]}');
  });
}

async function still(browser) {
  await open(browser, dir + "/on-cpu.svg", { javaScriptEnabled: false }, async (page) => {
    near("without scripts the picture is there", await width(frame(page, "all")), 1180, 0.01);
    ok("with names and titles", (await page.locator("#frames text").count()) >= 6);
    is("and no buttons that do nothing", await page.locator("#search").isVisible(), false);
  });
}

main(async (browser) => {
  for (const t of [zoomAndReset, searching, keys, durations, shapes, compared, hostile, still]) {
    const begin = Date.now();
    await t(browser);
    console.log("# " + t.name + ": " + (Date.now() - begin) + " ms");
  }
});
