// What the page asks for: little, and nothing from elsewhere.

import assert from "node:assert/strict";
import { create, scene } from "./world.js";

const MOST_BYTES = 50 * 1024;
const ASSETS = ["/", "/parlor.css", "/parlor.js"];

scene("The page asks this server only, and only for what it needs", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const carl = await world.netcat(code, "carl");
  // Nothing that is said makes a page look for it.
  await carl.does("MSG see http://elsewhere.example/picture.png and https://elsewhere.example/");
  await page.waitForSelector(".text a");
  await page.click("#invite");
  await page.waitForFunction(() => document.querySelector("#qr").naturalWidth > 0);

  const own = world.requests.map((request) => new URL(request)).filter(({ protocol }) => protocol !== "data:");
  assert.deepEqual(new Set(own.map(({ host }) => host)), new Set([world.authority]));
  const paths = own.map(({ pathname }) => pathname);
  assert.deepEqual(paths.toSorted(), [...ASSETS, "/qr.svg", "/ws"]);
});

scene(`The page has at most ${MOST_BYTES} bytes in all`, async (world) => {
  const bodies = await Promise.all(ASSETS.map(async (path) => {
    const response = await fetch(new URL(path, world.address));
    assert.equal(response.status, 200, path);
    return response.arrayBuffer();
  }));
  const bytes = bodies.reduce((sum, body) => sum + body.byteLength, 0);
  assert.ok(bytes <= MOST_BYTES, `${bytes} bytes`);
});
