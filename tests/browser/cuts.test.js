// The connection is cut again and again: no message is lost, none comes twice.

import assert from "node:assert/strict";
import { create, randomFrom, say, scene, settled, texts } from "./world.js";

const CUTS = 50;
const RELOAD_EACH = 10;      // cuts
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

scene(`${CUTS} cuts at random moments while texts are sent (SEED=${SEED})`, async (world) => {
  const random = randomFrom(SEED);
  const page = await world.open();
  const code = await create(page, "alice");
  const watcher = await world.netcat(code, "watcher");
  const other = await world.netcat(code, "other");
  const talk = talker(random, page, other);
  await watcher.expect(/^JOINED other$/);

  const from = watcher.lines.length;
  for (let cut = 0; cut < CUTS; cut += 1) {
    await talkUntilCut(world.proxy, random, talk, page);
    if (random() < 0.5) await talk();      // these wait on the page
    if (cut % RELOAD_EACH === 0) await page.reload();
    // Some are impatient; the others wait for the page to try again by itself.
    if (random() < 0.5) await connectNow(page);
  }
  await talk();
  await settled(page);

  assert.deepEqual(await watcher.texts("alice"), talk.said);
  assert.deepEqual(await watcher.presence(from), []);
  await assertShownAsSaid(page, await watcher.texts());
}, { proxied: true, timeout: 150_000 });

/** A function that says some numbered texts, of which it keeps a list. */
function talker(random, page, other) {
  const talk = async () => {
    const texts = Array.from({ length: 1 + Math.floor(random() * 6) }, (_, at) => `text ${talk.said.length + at}`);
    talk.said.push(...texts);
    if (random() < 0.3) other.send(`MSG before ${texts[0]}`);
    await say(page, texts.join("\n"));
  };
  talk.said = [];
  return talk;
}

/**
 * Talks until the connection is cut. The moment is a number of bytes, so it may be in the middle of a line, of the
 * handshake or of the replay.
 */
async function talkUntilCut(proxy, random, talk, page) {
  let isCut = false;
  const cut = proxy.cutAfter(1 + Math.floor(random() * 3000)).then(() => { isCut = true; });
  while (!isCut) {
    await talk();
    await Promise.race([cut, settled(page)]);
  }
}

async function connectNow(page) {
  await page.evaluate(() => document.querySelector("#connect:not([hidden])")?.click());
}

/** The page shows what the watcher has heard, in that order, once all of the history is fetched. */
async function assertShownAsSaid(page, heard) {
  await page.waitForFunction((count) => {
    const log = document.querySelector("#log");
    log.scrollTop = 0;                     // this fetches older messages
    log.dispatchEvent(new Event("scroll"));
    return document.querySelectorAll(".message").length >= count;
  }, heard.length);
  assert.deepEqual(await texts(page), heard);
}
