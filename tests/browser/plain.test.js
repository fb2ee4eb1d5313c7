// Plain http under a name of the network: no secure context, so some of what browsers offer is missing.

import assert from "node:assert/strict";
import { create, say, scene, seated, sees, shows } from "./world.js";

const ON_THE_NETWORK = { listen: "0.0.0.0", host: "lab.test" };

scene("On an origin that is not secure all works, copying a link too", async (world) => {
  const page = await world.open();
  assert.equal(await page.evaluate(() => window.isSecureContext), false);
  assert.equal(await page.evaluate(() => navigator.clipboard), undefined);
  const code = await create(page, "alice");
  await page.reload();
  await seated(page);

  await page.click("#invite");
  await assertCopies(page, "#copy-link", `${world.address}#${code}`);
  await assertCopies(page, "#copy-code", code);
  await page.press("#done", "Enter");

  const bob = await world.open(`#${code}`);
  await bob.fill("#name", "bob");
  await bob.press("#name", "Enter");
  await seated(bob);
  await say(bob, "here I am");
  await sees(page, "here I am");
}, ON_THE_NETWORK);

/** What is copied is found by pasting it, as somebody would. */
async function assertCopies(page, button, wanted) {
  await page.click(button);
  await shows(page, "#copied", "Copied.");
  const elsewhere = await page.context().newPage();
  await elsewhere.setContent("<input autofocus>");
  await elsewhere.press("input", "Control+V");
  assert.equal(await elsewhere.inputValue("input"), wanted);
  await elsewhere.close();
}

scene("The link's QR code is made by this server", async (world) => {
  const page = await world.open();
  await create(page, "alice");
  await page.click("#invite");
  await page.waitForFunction(() => document.querySelector("#qr").naturalWidth > 0);
  const source = await page.getAttribute("#qr", "src");
  assert.equal(source, `qr.svg?${encodeURIComponent(await page.inputValue("#link"))}`);
}, ON_THE_NETWORK);
