// Who is here: pages follow what they are told, and seldom ask. An answer is as long as the room is large, and what
// makes one page ask makes all of them.

import assert from "node:assert/strict";
import { create, join, names, say, scene, sees, shows } from "./world.js";

const PEOPLE_MOST = 200;     // in a larger room a page asks once a minute at most
const MINUTE = 60_000;       // ms
const STEP = 5_000;          // ms that pass at once: less than a page waits for an answer

/** Runs in the page: keeps the lines that it sends, and its latest socket. */
function recordSent() {
  const { send } = WebSocket.prototype;
  window.sent = [];
  WebSocket.prototype.send = function record(line) {
    window.sent.push(line);
    window.socket = this;
    return send.call(this, line);
  };
}

/** A profile whose pages tell what they send, and whose clock can be stopped. */
async function watchedContext(world) {
  const context = await world.context();
  await context.addInitScript(recordSent);
  await context.clock.install();
  return context;
}

/** Stops the clock. Each page has just asked who is here, so that none needs to for 20 seconds. */
async function stopClock(context) {
  await context.clock.pauseAt(await context.pages()[0].evaluate(() => Date.now() + 1000));
  for (const page of context.pages()) {
    await say(page, "/who");
    await page.waitForFunction(() => !document.querySelector("#input").value);
    await page.evaluate(() => { window.sent = []; });
  }
}

const questions = (page) => page.evaluate(() => window.sent.filter((line) => line === "WHO").length);
const people = (page) => page.$$eval("#people-list li", (items) => items.map(({ textContent }) => textContent));

scene("A name that changes again and again makes no page ask, and all show the last one", async (world) => {
  const host = await world.netcat();
  const [, , code] = (await host.does("CREATE host")).split(" ");
  const context = await watchedContext(world);
  const pages = [];
  for (const name of ["alice", "bob", "carol"]) {
    pages.push(await world.open("", { context }));
    await join(pages.at(-1), code, name);
  }
  const [alice, bob, carol] = pages;
  await host.does("MUTE bob");
  await host.does("MSG all here");
  for (const page of pages) await sees(page, "all here");
  await stopClock(context);

  for (let at = 0; at < 20; at += 1) for (const name of ["left", "right"]) await host.does(`NICK ${name}`);
  await host.does("NICK zoe");
  await say(bob, "/nick robert");
  await shows(bob, ".note", "You are robert now");
  for (const page of pages) await shows(page, ".note", "right is now zoe");
  for (const page of [alice, carol]) await shows(page, ".note", "bob is now robert");
  await context.clock.runFor(5000);

  // At their places, and with their marks.
  assert.deepEqual(await people(alice), ["zoehost", "aliceyou", "robertmuted", "carol"]);
  assert.deepEqual(await people(bob), ["zoehost", "alice", "robertyou, muted", "carol"]);
  assert.deepEqual(await people(carol), ["zoehost", "alice", "robertmuted", "carolyou"]);
  for (const page of pages) assert.equal(await questions(page), 0);
  await world.screenshot(alice, "renamed");

  await host.does("QUIT");
  for (const page of pages) await shows(page, ".note", "zoe left");
  await shows(alice, ".note", "You are the host now");
  await context.clock.runFor(1000);
  assert.deepEqual(await people(alice), ["aliceyou, host", "robertmuted", "carol"]);
  assert.deepEqual(await people(carol), ["alicehost", "robertmuted", "carolyou"]);
  for (const page of [bob, carol]) assert.equal(await questions(page), 0);
});

scene("A name that nobody was known to have is shown, too", async (world) => {
  const page = await world.open("", { context: await watchedContext(world) });
  const code = await create(page, "alice");
  await world.netcat(code, "bob");
  await shows(page, "#people-list", "bob");
  // The first as if its JOINED were lost in a gap, the second as if an answer to WHO had been quicker.
  await page.evaluate(() => {
    for (const data of ["RENAMED stranger friend", "RENAMED ghost bob"]) window.socket.onmessage({ data });
  });
  await shows(page, "#people-list", "friend");
  assert.deepEqual(await names(page), ["alice", "bob", "friend"]);
});

scene("In a large room a page asks once a minute at most, and shows the host all the same", async (world) => {
  const host = await world.netcat();
  const [, , code] = (await host.does("CREATE host")).split(" ");
  const context = await watchedContext(world);
  const page = await world.open("", { context });
  await join(page, code, "alice");
  for (let at = 0; at <= PEOPLE_MOST; at += 1) await world.netcat(code, `guest${at}`);
  const guest = await world.netcat(code, "bob");
  await shows(page, "#people-list", "and 4 more");
  await stopClock(context);
  const passStep = async (step) => {
    await context.clock.runFor(STEP);
    await guest.does(`MSG step ${step}`);
    await sees(page, `step ${step}`);
  };

  await host.does("QUIT");
  await shows(page, ".note", "You are the host now");
  await context.clock.runFor(100);
  assert.equal((await people(page))[0], "aliceyou, host");
  for (let step = 1; step < MINUTE / STEP; step += 1) await passStep(step);
  assert.equal(await questions(page), 0);
  for (const step of [12, 13, 14]) await passStep(step);
  assert.equal(await questions(page), 1);

  // The same after a break, when all come back at once.
  world.proxy.cut();
  await page.waitForSelector("#status[data-state=waiting]");
  await context.clock.runFor(2000);
  await page.waitForSelector("#status[data-state=online]");
  await passStep(15);
  assert.equal(await questions(page), 1);
}, { proxied: true });
