// What people do together: page to page, and page to netcat.

import assert from "node:assert/strict";
import { address, create, focused, join, names, notes, say, scene, seated, sees, shows, texts } from "./world.js";

const CODE = /^[BCDFGHJKMNPQRSTVWXYZ2-9]{4}$/;

scene("A room by its code: create, join, talk, leave, and it is gone", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  assert.match(code, CODE);
  assert.equal(await address(alice), `#${code}`);

  await say(alice, "is anybody here?");
  await sees(alice, "is anybody here?");
  const bob = await world.open();
  await join(bob, code.toLowerCase(), "bob");
  await sees(bob, "is anybody here?");     // a newcomer gets the history
  await shows(alice, ".note", "bob joined");

  await say(bob, "  I am, with  blanks");
  await sees(alice, "  I am, with  blanks");
  assert.deepEqual(await texts(alice), await texts(bob));
  assert.deepEqual(await names(alice), ["alice", "bob"]);

  await bob.click("#leave");
  await shows(alice, ".note", "bob left");
  await alice.click("#leave");
  await alice.waitForSelector("#landing:not([hidden])");
  assert.equal(await address(alice), "");

  await bob.fill("#code", code);
  await bob.click("#join");
  await shows(bob, "#code-problem", /no room|no such room|gone/i);
});

scene("The lobby: a room for everyone, with a name that is remembered", async (world) => {
  const alice = await world.open();
  await alice.fill("#name", "alice");
  await alice.click("#lobby");
  await seated(alice);
  assert.equal(await alice.textContent("#place"), "LOBBY");

  const carl = await world.netcat("LOBBY", "carl");
  await say(alice, "hello lobby");
  await carl.expect(/ alice hello lobby$/);

  await alice.click("#leave");
  await alice.waitForSelector("#landing:not([hidden])");
  assert.equal(await alice.inputValue("#name"), "alice");
});

scene("A link and a remembered name: one key press comes in", async (world) => {
  const context = await world.context();
  const first = await world.open("", { context });
  const code = await create(first, "alice");
  await world.netcat(code, "carl");        // so that the room stays
  await first.click("#leave");
  await first.waitForSelector("#landing:not([hidden])");

  const second = await world.open(`#${code.toLowerCase()}`, { context });
  await second.keyboard.press("Enter");
  await seated(second);
  assert.equal(await second.textContent("#place"), code);
});

scene("Pages and netcats sit in the same room", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const bob = await world.open();
  await join(bob, code, "bob");
  const carl = await world.netcat(code, "carl");

  await say(alice, "from a page");
  await carl.expect(/^MSG \d+ \S+ alice from a page$/);
  carl.send("MSG from netcat");
  for (const page of [alice, bob]) await sees(page, "from netcat");
  assert.deepEqual(await texts(alice), ["from a page", "from netcat"]);
  assert.deepEqual(await texts(bob), await texts(alice));
  assert.ok((await notes(alice)).includes("bob, carl joined"));

  await carl.does("QUIT");
  await shows(alice, ".note", "carl left");
});

scene("Private messages are for one person alone", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const bob = await world.open();
  await join(bob, code, "bob");
  const carl = await world.netcat(code, "carl");

  await say(bob, "/tell carl psst");
  await carl.expect(/^TELL \S+ bob psst$/);
  await carl.does("TELL bob back to you");
  await sees(bob, "back to you");
  assert.equal(await bob.locator(".private").count(), 2);

  await say(bob, "for all");
  await sees(alice, "for all");            // then what came before would be here, too
  assert.deepEqual(await texts(alice), ["for all"]);
});

scene("A new name reaches everybody and is remembered", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const bob = await world.open();
  await join(bob, code, "bob");

  await say(bob, "/nick robert");
  await shows(alice, ".note", "bob is now robert");
  await shows(alice, "#people-list", "robert");
  await bob.click("#leave");
  await bob.waitForSelector("#landing:not([hidden])");
  assert.equal(await bob.inputValue("#name"), "robert");
});

scene("The host locks, mutes, puts out and closes", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const bob = await world.open();
  await join(bob, code, "bob");
  const carl = await world.netcat(code, "carl");

  await say(bob, "/lock");                 // he is not the host
  await shows(bob, "#problem", /host/i);
  assert.equal(await bob.inputValue("#input"), "/lock");

  await say(alice, "/lock");
  await carl.expect(/^NOTICE locked/);
  const late = await world.open(`#${code}`);
  await late.fill("#name", "late");
  await late.press("#name", "Enter");
  await shows(late, "#code-problem", /lock/i);

  await say(alice, "/mute bob");
  await shows(bob, ".note", /mute/i);
  await say(bob, "am I heard?");
  await shows(bob, "#problem", /mute/i);
  assert.equal(await bob.inputValue("#input"), "am I heard?");
  await say(alice, "/unmute bob");
  await shows(bob, ".note", /unmuted|speak again|may speak/i);
  await bob.press("#input", "Enter");
  await sees(alice, "am I heard?");

  await say(alice, "/kick carl be nice");
  await carl.expect(/^BYE kicked be nice$/);
  await shows(bob, ".note", "carl was put out");

  await say(alice, "/close");
  for (const page of [alice, bob]) await shows(page, "#ended", "The room was closed");
});

scene("Who was put out stays out, and can come again by himself", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const bob = await world.open();
  await join(bob, code, "bob");

  await say(alice, "/kick bob");
  await shows(bob, "#ended", "You were put out");
  assert.equal(await focused(bob), "ended-back");
  assert.equal(await bob.textContent("#status-text"), "Not connected");

  await bob.press("#ended-back", "Enter");
  await join(bob, code, "bob");
  await say(bob, "sorry");
  await sees(alice, "sorry");
});

scene("Errors stand beside the field, in the server's own words", async (world) => {
  const page = await world.open();
  const stranger = await world.netcat();

  const wordsOf = async (line) => (await stranger.ask(line)).split(" ").slice(3).join(" ");
  await page.fill("#name", "");
  await page.click("#lobby");
  await shows(page, "#name-problem", "Type a name first");
  await page.fill("#name", "a:b");
  await page.click("#create");
  await shows(page, "#name-problem", await wordsOf("CREATE a:b"));
  assert.equal(await focused(page), "name");

  await page.fill("#name", "alice");
  await page.fill("#code", "AEIO");
  await page.click("#join");
  await shows(page, "#code-problem", await wordsOf("JOIN AEIO alice"));
  assert.equal(await focused(page), "code");
});

scene("Commands: a double slash, an unknown one, and help", async (world) => {
  const alice = await world.open();
  await create(alice, "alice");

  await say(alice, "//slash");
  await sees(alice, "/slash");
  await say(alice, "/frob");
  await shows(alice, "#problem", /frob|HELP/i);
  await say(alice, "/help");
  await shows(alice, ".help", "MSG");
});

scene("Several lines are several messages, in order, and many are sent after a question", async (world) => {
  const alice = await world.open();
  const code = await create(alice, "alice");
  const carl = await world.netcat(code, "carl");
  const few = Array.from({ length: 20 }, (_, at) => `few ${at}`);
  const many = Array.from({ length: 21 }, (_, at) => `many ${at}`);

  await say(alice, few.join("\n"));
  await carl.expect(/ few 19$/);
  await say(alice, many.join("\n"));
  await shows(alice, "#question", "21");
  assert.deepEqual(await carl.texts("alice"), few);
  await alice.keyboard.press("Enter");
  await carl.expect(/ many 20$/);
  assert.deepEqual(await carl.texts("alice"), [...few, ...many]);
});
