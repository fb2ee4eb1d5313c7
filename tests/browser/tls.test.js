// The page over TLS.

import assert from "node:assert/strict";
import { create, say, scene, seated, sees } from "./world.js";

scene("Over https the page takes a wss socket, and invites to https", async (world) => {
  const page = await world.open();
  assert.equal(await page.evaluate(() => window.isSecureContext), true);
  const sockets = [];
  const bob = await (await world.context()).newPage();
  world.watch(bob);
  bob.on("websocket", (socket) => sockets.push(socket.url()));
  const code = await create(page, "alice");
  await page.click("#invite");
  assert.equal(await page.inputValue("#link"), `${world.address}#${code}`);

  await bob.goto(await page.inputValue("#link"));
  await bob.fill("#name", "bob");
  await bob.press("#name", "Enter");
  await seated(bob);
  assert.deepEqual(sockets, [`wss://${world.authority}/ws`]);
  await say(bob, "here I am");
  await sees(page, "here I am");
}, { tls: true });
