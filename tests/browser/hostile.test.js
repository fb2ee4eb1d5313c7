// Hostile names and texts: they stay text, and the page keeps its shape.

import assert from "node:assert/strict";
import { create, join, names, say, scene, sees, shows, texts } from "./world.js";

const BAIT = "window.hacked = true";

/** Each is a text that somebody may send. */
const TEXTS = [
  `<script>${BAIT}</script>`,
  `<img src=x onerror="${BAIT}">`,
  `<svg onload='${BAIT}'><a href="javascript:${BAIT}">x</a></svg>`,
  `</p></li></ol><iframe srcdoc="<script>top.${BAIT}</script>"></iframe>`,
  `"><style>body { display: none }</style><b class="pending">bold</b>`,
  `<meta http-equiv="refresh" content="0; url=http://elsewhere.example/">`,
  `<base href="http://elsewhere.example/"><form id="composer" action="http://elsewhere.example/">`,
  "&lt;b&gt; &amp;amp; &#x3c;i&#x3e; \\u003cb\\u003e",
  "{{constructor.constructor('window.hacked = true')()}} ${window.hacked = true} <%= 7 * 7 %>",
  `javascript:${BAIT}`,
  `JaVaScRiPt:${BAIT}//http://elsewhere.example/`,
  "data:text/html,<script>top.hacked=true</script>",
  "vbscript:x file:///etc/passwd ftp://elsewhere.example/",
  `http://elsewhere.example/"onmouseover="${BAIT}`,
  "https://elsewhere.example/<script>window.hacked=true</script>",
  "http://[::1 http://%zz/ http:// https://// http://user:word@",
  "מה שלומך? <b>שלום</b> http://elsewhere.example/שלום",
  "ltr then عربي then 123 (brackets) ] }",
  "zero\u200bwidth\u200cjoi\u200dned\u2060 and soft\u00adhyphen\ufeff",
  "\u200b\u200b\u200b",
  "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334a\u0489\u0321\u0359l\u034e\u031eg\u0321\u0353o",
  "W".repeat(1800),
  "\u{12219}".repeat(450),
  "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}".repeat(90),
  "\ufdfd".repeat(600),
  "https://elsewhere.example/" + "x".repeat(1700),
  "a\t" + "\t".repeat(500) + "b" + " ".repeat(500) + "c",
  "OK JOIN ABCD eve 0 1 0", "ERR MSG muted You are muted.", "BYE kicked you are out", "__proto__ constructor toString",
];

// The server refuses them (LINE-8): they would turn the order of the line, or end it.
const REFUSED_CHARACTERS = ["\u202e", "\u2066", "\u200f", "\u061c", "\x1b", "\0", "\x85"];

/** Names that the server takes, and that a page could trip over. */
const NAMES = [
  "__proto__", "constructor", "toString", "hasOwnProperty", "null", "undefined", "javascript", "seat", "input",
  "W".repeat(20), "\u{12219}".repeat(20), "علي", "שלום_123", "A\u030a\u0323b\u0310\u0360", "---", "...",
];

const BAD_NAMES = [
  `<img/src=x/onerror=${BAIT}>`, "<b>bob</b>", "javascript:alert(1)", "bob\u202eecila", "bob\u200bbob", '"onclick="x',
];

/** All elements that may stand in the log. A text can make a link, and nothing else. */
const OWN_ELEMENTS = ["A", "B", "BDI", "DIV", "LI", "OL", "P", "SMALL", "SPAN", "TIME"];

async function assertSound(page) {
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  const found = await page.$$eval("#log *, #people *", (elements) => elements.map(({ tagName }) => tagName));
  const strange = found.filter((tag) => ![...OWN_ELEMENTS, "ASIDE", "BUTTON", "H2", "UL"].includes(tag));
  assert.deepEqual(strange, []);
  assert.equal(await page.locator(".text *:not(a)").count(), 0);
  for (const href of await page.$$eval("a", (links) => links.map((link) => link.href))) {
    assert.match(href, /^https?:\/\//);
  }
  await assertFits(page);
}

/** Nothing is wider than the window, and what one needs is in it. */
async function assertFits(page) {
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= width, `${content} px in a window of ${width}`);
  for (const selector of ["#place", "#input", "#send", "#leave"]) {
    const box = await page.locator(selector).boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= width, `${selector} is outside`);
    assert.ok(box.y >= 0 && box.y + box.height <= page.viewportSize().height, `${selector} is outside`);
  }
}

scene("Hostile texts stay text, on wide and on narrow pages", async (world) => {
  const wide = await world.open();
  const code = await create(wide, "wide");
  const narrow = await world.open("", { viewport: { width: 320, height: 640 } });
  await join(narrow, code, "narrow");
  const sender = await world.netcat(code, "sender");

  for (const text of TEXTS) await sender.does(`MSG ${text}`);
  for (const page of [wide, narrow]) {
    await sees(page, TEXTS.at(-1));
    assert.deepEqual(await texts(page), TEXTS);
    await page.keyboard.press("F2");       // the wire shows them, too
    await page.keyboard.press("F2");
    await assertSound(page);
  }
  await world.screenshot(wide, "hostile-wide");
  await world.screenshot(narrow, "hostile-narrow");
});

scene("The page itself says hostile texts as they are, but for what no line may have", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  const watcher = await world.netcat(code, "watcher");

  for (const text of TEXTS) await say(page, text);
  await say(page, `turned${REFUSED_CHARACTERS.slice(0, -1).join("")}round`);
  await sees(page, "turnedround");
  assert.deepEqual(await watcher.texts("alice"), [...TEXTS, "turnedround"]);
  assert.deepEqual(await texts(page), [...TEXTS, "turnedround"]);
  await assertSound(page);

  for (const character of REFUSED_CHARACTERS) {
    assert.match(await watcher.ask(`MSG a${character}b`), /^ERR \S+ control-char /);
  }
});

scene("Strange names are names", async (world) => {
  const page = await world.open();
  const code = await create(page, "alice");
  for (const name of NAMES) {
    const person = await world.netcat(code, name);
    await person.does(`MSG I am ${name}`);
    await person.does("TELL alice a word <b>between</b> us");
  }
  const last = NAMES.at(-1);
  await page.waitForFunction((count) => document.querySelectorAll("#people-list li").length === count, NAMES.length + 1);
  await sees(page, `I am ${last}`);
  assert.deepEqual(await names(page), ["alice", ...NAMES.map((name) => name.normalize("NFC"))]);
  await assertSound(page);

  await page.setViewportSize({ width: 320, height: 640 });
  await page.click("#people-toggle");
  await assertSound(page);
  await world.screenshot(page, "hostile-names");
});

scene("Bad names, codes, addresses and reasons are shown as text", async (world) => {
  const page = await world.open(`#<img src=x onerror='${BAIT}'>`);
  for (const name of BAD_NAMES) {
    await page.fill("#name", name);
    await page.click("#create");
    await shows(page, "#name-problem", /\S/);
    await page.fill("#name", "");
    await page.click("#create");           // it clears what was shown
    await shows(page, "#name-problem", "Type a name first");
  }
  await page.fill("#name", "alice");
  await page.fill("#code", `<script>${BAIT}</script>`);
  await page.click("#join");
  await shows(page, "#code-problem", /\S/);

  const host = await world.netcat();
  const [, , code] = (await host.does("CREATE host")).split(" ");
  await join(page, code, "alice");
  await host.does(`KICK alice <img src=x onerror="${BAIT}">`);
  await shows(page, "#ended", "<img");
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});
