// Reloads: the same seat, and nobody sees anything.

import assert from "node:assert/strict";
import { create, isSeated, say, scene, seated, sees, settled, shows, texts, wire } from "./world.js";

scene("The only member reloads five times: same room, name and history", async (world) => {
  const page = await world.open();
  const code = await create(page, "solo");
  await say(page, "one");
  await sees(page, "one");

  for (let reload = 0; reload < 5; reload += 1) {
    await page.reload();
    await seated(page);
    await sees(page, "one");
  }
  assert.equal(await page.textContent("#place"), code);
  assert.equal(await page.textContent("#people-list li"), "soloyou, host");
  assert.deepEqual(await texts(page), ["one"]);
});

scene("Five reloads amid talk: a watcher sees nobody leave or join", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const watcher = await world.netcat(code, "watcher");
  const said = [];
  const hear = async (text) => {
    said.push(text);
    await sees(page, text);
  };

  const from = watcher.lines.length;
  for (let reload = 0; reload < 5; reload += 1) {
    await page.reload();
    watcher.send(`MSG while away ${reload}`);
    await hear(`while away ${reload}`);
    await say(page, `back again ${reload}`);
    await hear(`back again ${reload}`);
  }
  await page.reload();
  await seated(page);
  await page.waitForFunction((count) => document.querySelectorAll(".message").length === count, said.length);
  assert.deepEqual(await texts(page), said);
  assert.deepEqual(await watcher.presence(from), []);
});

scene("What is being written survives a reload", async (world) => {
  const page = await world.open();
  await create(page, "alice");
  await page.fill("#input", "half a sent");
  await page.reload();
  await seated(page);
  assert.equal(await page.inputValue("#input"), "half a sent");
});

scene("A duplicated tab takes the seat over; the first one says so and stays away", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  await page.waitForFunction(() => JSON.parse(sessionStorage["parlor.seat"] ?? null)?.token);
  const memory = await page.evaluate(() => ({ ...sessionStorage }));
  const watcher = await world.netcat(code, "watcher");

  const context = await world.context();
  await context.addInitScript((kept) => Object.assign(sessionStorage, kept), memory);
  const twin = await world.open(`#${code}`, { context });
  await shows(page, "#ended", "open in another window");
  assert.equal(await page.textContent("#status-text"), "Not connected");
  await say(twin, "I am the one");
  await sees(twin, "I am the one");

  await page.reload();
  assert.ok(await page.isVisible("#landing"));
  assert.ok(await isSeated(twin));
  assert.deepEqual(await watcher.presence(), []);
});

scene("After longer than the hold the page joins again, and shows what it missed", async (world) => {
  const page = await world.open();
  const code = await create(page, "sleeper");
  const watcher = await world.netcat(code, "watcher");
  await say(page, "good night");
  await sees(page, "good night");
  await wire(page, "HOLD 1");
  await settled(page);

  world.proxy.close();
  await say(page, "said in my sleep");
  await watcher.expect(/^LEFT sleeper lost/);
  await watcher.does("MSG missed 1");
  await watcher.does("MSG missed 2");
  world.proxy.open();

  await watcher.expect(/^JOINED sleeper/);
  await sees(page, "said in my sleep");
  assert.deepEqual(await texts(page), ["good night", "missed 1", "missed 2", "said in my sleep"]);
  assert.ok(await page.isVisible("#mark"));
}, { proxied: true });

scene("After QUIT the page does not come back, until it is asked to", async (world) => {
  const page = await world.open();
  await create(page, "quitter");
  await wire(page, "QUIT");
  await page.waitForSelector("#landing:not([hidden])");
  assert.equal(await page.textContent("#status-text"), "Not connected");
  await page.click("#create");
  await seated(page);
});
