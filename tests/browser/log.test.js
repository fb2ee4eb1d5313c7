// The page may be open for days: its log stays short, and whoever reads in it keeps the place.

import assert from "node:assert/strict";
import { create, scene, sees, settled, shows, texts } from "./world.js";

const LOG_MOST = 2000;       // entries; twice as many while somebody reads old ones
const LONG = { timeout: 120_000 };

/** The numbered texts from `first` to below `end`. */
const numbered = (first, end) => Array.from({ length: end - first }, (_, at) => `text ${first + at}`);

/** Says numbered texts, and waits until the page shows the last one. */
async function flood(page, netcat, first, end) {
  netcat.send(numbered(first, end).map((text) => `MSG ${text}`).join("\n"));
  await netcat.does("PING");
  await sees(page, `text ${end - 1}`);
}

const has = (page, most) => page.waitForFunction((count) => (
  document.querySelectorAll("#messages > li").length <= count
), most);

/** As if the tab were not the one that is seen, or were again: without a window there is no other way. */
async function setHidden(page, hidden) {
  await page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
}

/** Scrolls as somebody would who looks for what is old. */
async function scrollUp(page, pixels) {
  await page.evaluate((by) => { document.querySelector("#log").scrollTop -= by; }, pixels);
  await page.waitForSelector("#pill:not([hidden])");
}

/** How far below the window's top a text stands. */
const placeOf = (page, text) => page.evaluate((wanted) => (
  [...document.querySelectorAll(".text")].find(({ textContent }) => textContent === wanted).getBoundingClientRect().top
), text);

scene("Nobody looks at the page: its log stays short, and goes on after a break", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  await shows(page, ".note", "bob joined");
  await setHidden(page, true);
  await flood(page, bob, 0, 2500);
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), numbered(500, 2500));
  // All of that is new, and so says the mark.
  assert.ok(await page.isVisible("#messages > li:first-child > #mark"));
  assert.equal(await page.title(), `(2500) ${code} · parlor`);

  world.proxy.cut();
  await bob.does("MSG text 2500");
  await sees(page, "text 2500");
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), numbered(501, 2501));

  await setHidden(page, false);
  await page.click("#pill");
  await page.waitForSelector("#pill[hidden]", { state: "attached" });
  assert.equal(await page.title(), `${code} · parlor`);
}, { proxied: true, ...LONG });

scene("Who reads old lines keeps the place, and the log is bounded all the same", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  await flood(page, bob, 0, LOG_MOST);
  await page.waitForSelector("#pill[hidden]", { state: "attached" });
  await scrollUp(page, 1000);
  const place = await placeOf(page, "text 1960");

  await flood(page, bob, LOG_MOST, 2.2 * LOG_MOST);
  await has(page, 2 * LOG_MOST);
  assert.deepEqual(await texts(page), numbered(0.2 * LOG_MOST, 2.2 * LOG_MOST));
  const moved = Math.abs(await placeOf(page, "text 1960") - place);
  assert.ok(moved < 2, `it has moved by ${moved} px`);
  assert.ok(await page.isVisible("#pill"));

  await page.click("#pill");
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), numbered(1.2 * LOG_MOST, 2.2 * LOG_MOST));
}, LONG);

scene("What was taken out can be fetched again", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  await flood(page, bob, 0, 50);
  bob.send(Array.from({ length: LOG_MOST }, (_, at) => `NICK bob${at}`).join("\n"));
  await bob.does("PING");
  await shows(page, ".note", `is now bob${LOG_MOST - 1}.`);
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), []);

  await page.waitForSelector("#pill[hidden]", { state: "attached" });
  await page.evaluate(() => { document.querySelector("#log").scrollTop = 0; });
  await sees(page, "text 0");
  await bob.does("MSG and so on");
  await sees(page, "and so on");
  assert.deepEqual(await texts(page), [...numbered(0, 50), "and so on"]);
  const kinds = await page.$$eval("#messages > li", (items) => items.map(({ className }) => className.split(" ")[0]));
  assert.deepEqual(kinds.slice(0, 50), Array(50).fill("message"));
  assert.deepEqual(kinds.slice(50, -1), Array(LOG_MOST).fill("note"));

  await page.click("#pill");
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), ["and so on"]);
}, LONG);

scene("A paste that is longer than the log is sent whole", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  const lines = numbered(0, 1.2 * LOG_MOST);
  // Chromium takes long to type so much.
  await page.evaluate((text) => { document.querySelector("#input").value = text; }, lines.join("\n"));
  await page.press("#input", "Enter");
  await page.click("#question-yes");
  await sees(page, lines.at(-1));
  await settled(page);
  assert.deepEqual(await bob.texts("alice"), lines);
  await has(page, LOG_MOST);
  assert.deepEqual(await texts(page), lines.slice(-LOG_MOST));
}, LONG);
