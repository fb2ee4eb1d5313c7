// The page for everybody: by keyboard alone, on a narrow screen, in dark and in light, for screen readers.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { create, focused, join, say, scene, seated, sees, shows, wire } from "./world.js";

const RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"];
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Nothing that axe finds; each finding is named by its rule and the elements. */
async function assertAccessible(page) {
  const found = await page.evaluate(async (rules) => {
    const { violations } = await window.axe.run(document, { runOnly: rules });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  }, RULES);
  assert.deepEqual(found, []);
}

/** A room with people of each kind, and with all kinds of entries in the log. */
async function furnish(world, page) {
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  const gone = await world.netcat(code, "gone");
  await gone.does("HOLD 60");
  gone.end();
  await bob.does("MSG Look at https://example.org/, it is short.");
  await bob.does("TELL alice A word between us.");
  for (let at = 0; at < 10; at += 1) await (await world.netcat(code, `colour${at}`)).does(`MSG I am number ${at}`);
  await say(page, "Thank you!");
  await say(page, "/help");
  await shows(page, ".help", "MSG");
  await say(page, "/who");
  await page.waitForSelector("#people-list .held", { state: "attached" });
  await say(page, "/frob");
  await shows(page, "#problem", /\S/);
  return code;
}

for (const colorScheme of ["light", "dark"]) {
  scene(`axe finds nothing on any part of the page, ${colorScheme}`, async (world) => {
    const context = await world.context({ colorScheme });
    await context.addInitScript({ content: AXE });
    const page = await world.open("", { context });
    await page.fill("#name", "a:b");
    await page.click("#create");
    await shows(page, "#name-problem", /\S/);
    await assertAccessible(page);
    await world.screenshot(page, `landing-${colorScheme}`);

    await furnish(world, page);
    await assertAccessible(page);
    await world.screenshot(page, `room-${colorScheme}`);

    await wire(page, "FROB");
    await page.keyboard.press("F2");
    await shows(page, "#wire-lines .error", "FROB");
    await assertAccessible(page);
    await world.screenshot(page, `wire-${colorScheme}`);
    await page.keyboard.press("F2");

    await page.click("#invite");
    await assertAccessible(page);
    await world.screenshot(page, `invitation-${colorScheme}`);
    await page.keyboard.press("Escape");

    await say(page, "/close");
    await shows(page, "#ended", "closed");
    await assertAccessible(page);
  });

  scene(`All fits into 320 px, ${colorScheme}`, async (world) => {
    const context = await world.context({ colorScheme, viewport: { width: 320, height: 640 } });
    await context.addInitScript({ content: AXE });
    const page = await world.open("", { context });
    await assertNarrow(world, page, `landing-${colorScheme}`);
    await furnish(world, page);
    await page.click("#people-toggle");    // `/who` has opened it
    await assertNarrow(world, page, `room-${colorScheme}`);
    await page.click("#people-toggle");
    await assertNarrow(world, page, `people-${colorScheme}`);
    await page.click("#people-toggle");
    await page.click("#wire-toggle");
    await assertNarrow(world, page, `wire-${colorScheme}`);
    await page.click("#wire-toggle");
    await page.click("#invite");
    await assertNarrow(world, page, `invitation-${colorScheme}`);
  });
}

/** Nothing is cut off at the side, and axe is content here too. */
async function assertNarrow(world, page, name) {
  await world.screenshot(page, `narrow-${name}`);
  const outside = await page.evaluate(() => {
    const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });
    const isOutside = ({ left, right }) => left < 0 || right > innerWidth;
    const controls = [...document.querySelectorAll("button, input, textarea, h1, h2, .text")].filter(isSeen);
    return controls.filter((element) => isOutside(element.getBoundingClientRect())).map(({ id, tagName }) => id || tagName);
  });
  assert.deepEqual(outside, [], name);
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= width, `${name}: ${content} px in a window of ${width}`);
  await assertAccessible(page);
}

/** Presses Tab, or Shift+Tab, until the element has the focus, which can always be seen. */
async function tabTo(page, id, key = "Tab") {
  for (let presses = 0; presses < 30; presses += 1) {
    await page.keyboard.press(key);
    await assertFocusShows(page);
    if (await focused(page) === id) return;
  }
  assert.fail(`${key} does not come to ${id}`);
}

async function assertFocusShows(page) {
  const isHidden = await page.evaluate(() => {
    const element = document.activeElement;
    if (element === document.body) return false;       // between the end and the start
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return outlineStyle === "none" || outlineWidth === "0px";
  });
  assert.equal(isHidden, false, `the focus on ${await focused(page)} does not show`);
}

scene("A journey by keyboard alone", async (world) => {
  const page = await world.open();
  const { keyboard } = page;
  assert.equal(await focused(page), "name");
  await keyboard.type("alice");
  await tabTo(page, "create");
  await keyboard.press("Enter");
  await seated(page);
  const code = await page.textContent("#place");
  const bob = await world.netcat(code, "bob");
  await shows(page, "#people-list", "bob");

  assert.equal(await focused(page), "input");
  await keyboard.type("hello");
  await keyboard.press("Enter");
  await bob.expect(/ alice hello$/);
  await keyboard.press("ArrowUp");         // what was sent comes again
  assert.equal(await page.inputValue("#input"), "hello");
  await keyboard.press("ArrowDown");
  await keyboard.type("/te");
  await keyboard.press("Tab");
  await keyboard.type("bo");
  await keyboard.press("Tab");
  assert.equal(await page.inputValue("#input"), "/tell bob ");
  await keyboard.type("psst");
  await keyboard.press("Enter");
  await bob.expect(/^TELL \S+ alice psst$/);
  await sees(page, "psst");

  await keyboard.press("F2");
  assert.equal(await focused(page), "wire-input");
  await keyboard.type("PING keys");
  await keyboard.press("Enter");
  await shows(page, "#wire-lines", "OK PING keys");
  await keyboard.press("F2");
  assert.equal(await focused(page), "input");

  await tabTo(page, "invite", "Shift+Tab");
  await keyboard.press("Enter");
  await page.waitForSelector("#invitation[open]");
  await keyboard.press("Escape");
  assert.equal(await focused(page), "invite");
  await tabTo(page, "leave");
  await keyboard.press("Enter");
  await page.waitForSelector("#landing:not([hidden])");
  assert.equal(await bob.expect(/^LEFT alice/), "LEFT alice quit");
});

scene("A link in a text, the log and the people can be reached by keyboard", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const bob = await world.netcat(code, "bob");
  await bob.does("MSG see http://elsewhere.example/");
  await page.waitForSelector(".text a");
  await tabTo(page, "log", "Shift+Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.href), "http://elsewhere.example/");
  await tabTo(page, "input");
  await tabTo(page, "");                   // the button of a person has no id
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "bob");
  await page.keyboard.press("Enter");
  assert.equal(await page.inputValue("#input"), "/tell bob ");
  assert.equal(await focused(page), "input");
});

scene("A screen reader is told what is new, not the whole history", async (world) => {
  const host = await world.netcat("LOBBY", "host");
  await host.does("MSG long ago");
  const context = await world.context();
  await context.addInitScript(recordAnnouncements);
  const page = await world.open("", { context });
  await join(page, "LOBBY", "alice");
  await sees(page, "long ago");
  await page.waitForSelector("#log[role=log][aria-live=polite]");
  await host.does("MSG just now");
  await sees(page, "just now");
  const announced = await page.evaluate(() => window.announced);
  assert.equal(announced.some((text) => text.includes("long ago")), false);
  assert.equal(announced.some((text) => text.includes("just now")), true);
});

/** Runs in the page: keeps what comes into the log while it is announced. */
function recordAnnouncements() {
  window.announced = [];
  const record = (changes) => {
    if (document.querySelector("#log").ariaLive !== "polite") return;
    for (const { addedNodes } of changes) for (const { textContent } of addedNodes) window.announced.push(textContent);
  };
  const start = () => new MutationObserver(record).observe(document.querySelector("#messages"), { childList: true });
  document.addEventListener("DOMContentLoaded", start);
}
