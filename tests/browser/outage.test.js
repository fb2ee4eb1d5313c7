// The server is away for a while, and many pages want to come back.

import assert from "node:assert/strict";
import { setTimeout as pass } from "node:timers/promises";
import { join, say, scene, seated, sees } from "./world.js";

const PAGES = 50;
const CONTEXTS = 5;          // profiles; each has some of the pages
const AWAY = 10_000;         // ms

scene(`${PAGES} pages come back after ${AWAY / 1000} s, spread out, to their seats`, async (world) => {
  const host = await world.netcat("LOBBY", "host");
  const pages = await openPages(world);
  await host.does("MSG before");
  for (const page of pages) await sees(page, "before");
  for (const page of pages) await armed(page);
  const from = host.lines.length;

  world.proxy.close();
  await pass(AWAY);          // not to wait for something: this is what happens
  await host.does("MSG while they were away");
  await say(pages[0], "I said this while you were away");
  assert.ok(world.proxy.turnedAway >= PAGES, "each has tried");
  world.proxy.open();

  for (const page of pages) await sees(page, "while they were away");
  for (const page of pages) await seated(page);
  await sees(pages.at(-1), "I said this while you were away");
  assert.deepEqual(await host.presence(from), []);
  assert.equal(await countHere(host), PAGES + 1);
  assertSpread(world.proxy.arrivals);
}, { proxied: true, timeout: 150_000 });

async function openPages(world) {
  const opened = Array.from({ length: CONTEXTS }, async (_, number) => {
    const context = await world.context();
    const pages = [];
    for (let at = 0; at < PAGES / CONTEXTS; at += 1) {
      const page = await world.open("", { context });
      await join(page, "LOBBY", `guest-${number}-${at}`);
      pages.push(page);
    }
    return pages;
  });
  return (await Promise.all(opened)).flat();
}

/** The server holds the seat of a page once it has given out a token for it. */
const armed = (page) => page.waitForFunction(() => JSON.parse(sessionStorage["parlor.seat"] ?? null)?.token);

async function countHere(netcat) {
  const from = netcat.lines.length;
  await netcat.does("WHO");
  return netcat.lines.slice(from).filter((line) => / here\b/.test(line)).length;
}

/** They did not all come in one moment: over seconds, and in no quarter of a second the half of them. */
function assertSpread(arrivals) {
  assert.equal(arrivals.length, PAGES);
  const sorted = arrivals.toSorted((one, other) => one - other);
  const whole = sorted.at(-1) - sorted[0];
  assert.ok(whole > 1000, `all came within ${whole} ms`);
  const half = Math.min(...sorted.slice(PAGES / 2).map((time, at) => time - sorted[at]));
  assert.ok(half > 250, `half of them came within ${half} ms`);
}
