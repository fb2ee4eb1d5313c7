// A world for one test: the real server, Chromium, and people on netcat. All of it ends with the test.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PROGRAM = process.env.PARLOR ?? fileURLToPath(new URL("../../target/debug/parlor", import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS;   // a directory for those who want to look at the page
const PATIENCE = 20_000;                       // ms; the tests may run on a busy machine

// Without the later ones Chromium itself would talk to the world.
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // This name means this machine: an origin that is not secure, as it is for people on the network.
  "--host-resolver-rules=MAP lab.test 127.0.0.1",
  // Pages of one test may share processes: there are up to 50.
  "--renderer-process-limit=4",
];

/**
 * A test that plays in a world of its own. Whatever it is about: no page may log an error, break its
 * policy or ask another host for anything.
 */
export function scene(name, play, options = {}) {
  scenesToCome += 1;
  test(name, { timeout: options.timeout ?? 60_000 }, async () => {
    const world = new World(options);
    try {
      await world.begin();
      await play(world);
      assert.deepEqual(world.troubles, []);
    } catch (error) {
      if (world.troubles.length) console.error("Troubles of the pages:", world.troubles);
      throw error;
    } finally {
      await world.end();
      scenesToCome -= 1;
      if (!scenesToCome) await closeBrowser();
    }
  });
}

// All scenes of a file share a browser, as it is slow to start, but nothing that it remembers.
let browser = null;
let scenesToCome = 0;

function openBrowser() {
  browser ??= chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  return browser;
}

async function closeBrowser() {
  await (await browser)?.close();
}

// --- The world

class World {
  troubles = [];             // what no page may do
  requests = [];             // the addresses that pages have asked for, those of WebSockets too
  netcats = [];
  contexts = [];

  /**
   * `listen` is the address to listen on, and `host` the name by which pages find the server. With `proxied` they come
   * through a proxy, which can cut them off. With `tls` the server has a certificate that it made itself.
   */
  constructor({ listen = "127.0.0.1", host = listen, proxied = false, tls = false }) {
    Object.assign(this, { listen, host, proxied, tls });
  }

  async begin() {
    this.server = await startServer(this.listen, this.tls);
    if (this.proxied) this.proxy = await Proxy.before(this.server.webPort);
    this.authority = `${this.host}:${this.proxy?.port ?? this.server.webPort}`;
    this.address = `${this.tls ? "https" : "http"}://${this.authority}/`;
  }

  async end() {
    for (const netcat of this.netcats) netcat.end();
    for (const context of this.contexts) await context.close();
    this.proxy?.end();
    await this.server?.end();
  }

  /** A browser's profile: its pages share what they remember. */
  async context(options = {}) {
    const browser = await openBrowser();
    const view = { viewport: { width: 1100, height: 720 }, ignoreHTTPSErrors: this.tls };
    const context = await browser.newContext({ ...view, ...options });
    this.contexts.push(context);
    context.setDefaultTimeout(PATIENCE);
    // A script from outside is not bound by the page's policy, so it can report.
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) => {
        console.error(`policy: ${violatedDirective} ${blockedURI} ${sample}`);
      });
    });
    return context;
  }

  /** A page of a profile, or of a new one. `hash` is what follows the address: "#BKTW". */
  async open(hash = "", { context, ...options } = {}) {
    const page = await (context ?? await this.context(options)).newPage();
    this.watch(page);
    await page.goto(this.address + hash);
    return page;
  }

  watch(page) {
    page.on("pageerror", (error) => this.troubles.push(String(error.stack)));
    page.on("request", (request) => this.note(request.url()));
    page.on("websocket", (socket) => this.note(socket.url()));
    page.on("console", (message) => {
      // A connection that breaks is logged by Chromium itself, and many tests break some.
      const isBreak = message.text().startsWith("WebSocket connection to");
      if (message.type() === "error" && !isBreak) this.troubles.push(message.text());
    });
  }

  note(address) {
    const { protocol, host } = new URL(address);
    this.requests.push(address);
    if (protocol !== "data:" && host !== this.authority) this.troubles.push(`asked elsewhere: ${address}`);
  }

  /** Somebody on netcat, in the room if there is a code. */
  async netcat(code, name) {
    const netcat = new Netcat(this.server.linePort);
    this.netcats.push(netcat);
    await netcat.expect(/^HELLO /);
    if (code) await netcat.does(`JOIN ${code} ${name}`);
    return netcat;
  }

  async screenshot(page, name) {
    if (!SCREENSHOTS) return;
    mkdirSync(SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
  }
}

/** Starts the program on free ports, and waits until it says where it listens. */
async function startServer(listen, tls) {
  // Settings of whoever runs the tests shall not reach the server.
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("PARLOR_")));
  const args = ["--listen", `${listen}:0`, "--web", `${listen}:0`];
  const folder = tls && mkdtempSync(path.join(tmpdir(), "parlor-"));
  if (tls) {
    const [cert, key] = [path.join(folder, "cert.pem"), path.join(folder, "key.pem")];
    execFileSync(PROGRAM, ["mkcert", "--cert", cert, "--key", key]);
    args.push("--tls-cert", cert, "--tls-key", key);
  }
  const child = spawn(PROGRAM, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  const said = await firstWords(child);
  return {
    linePort: Number(/(?:nc|ncat --ssl) [\d.]+ (\d+)/.exec(said)[1]),
    webPort: Number(/https?:\/\/\S+:(\d+)\//.exec(said)[1]),
    async end() {
      child.kill();
      await ended;
      if (tls) rmSync(folder, { recursive: true });
    },
  };
}

/** What the program says on stderr, up to the line that ends its greeting. */
function firstWords(child) {
  return new Promise((resolve, reject) => {
    let said = "";
    child.on("error", (error) => reject(new Error(`${PROGRAM} does not start (cargo build?): ${error}`)));
    child.on("exit", () => reject(new Error(`The server ended: ${said}`)));
    child.stderr.setEncoding("utf8").on("data", (words) => {
      said += words;
      if (/^ *To stop it:.*\n/m.test(said)) resolve(said);
    });
  });
}

/** Numbers from 0 to below 1, the same ones for the same seed (mulberry32). */
export function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// --- Netcat

class Netcat {
  lines = [];
  #begun = "";               // a line that has not ended yet
  #waiting = new Set();      // what is called when lines have come

  constructor(port) {
    this.socket = net.connect(port, "127.0.0.1");
    this.socket.setEncoding("utf8");
    this.socket.on("error", () => {});
    this.socket.on("data", (data) => this.#receive(data));
  }

  #receive(data) {
    const lines = (this.#begun + data).split("\n");
    this.#begun = lines.pop();
    this.lines.push(...lines);
    for (const look of [...this.#waiting]) look();
  }

  send(line) {
    this.socket.write(`${line}\n`);
  }

  /** The first line that fits, from line number `from` on; waits for it. */
  expect(pattern, from = 0) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle(value);
      };
      const look = () => {
        const line = this.lines.slice(from).find((candidate) => pattern.test(candidate));
        if (line !== undefined) finish(resolve, line);
      };
      const missing = () => new Error(`no ${pattern} in:\n${this.lines.slice(from).slice(-20).join("\n")}`);
      const timer = setTimeout(() => finish(reject, missing()), PATIENCE);
      this.#waiting.add(look);
      look();
    });
  }

  /** Sends a command and returns its answer. By then all that came before it has come, too. */
  ask(line) {
    const from = this.lines.length;
    this.send(line);
    return this.expect(/^(OK|ERR) /, from);
  }

  async does(line) {
    const answer = await this.ask(line);
    assert.match(answer, /^OK /, line);
    return answer;
  }

  /** The texts of all messages so far, or of those that `name` has sent. */
  async texts(name) {
    await this.does("PING");
    const messages = this.lines.map((line) => /^MSG \d+ \S+ (\S+) (.*)$/.exec(line)).filter(Boolean);
    return messages.filter(([, by]) => !name || by === name).map(([, , text]) => text);
  }

  /** Who was seen to come or to go, from line number `from` on. */
  async presence(from = 0) {
    await this.does("PING");
    return this.lines.slice(from).filter((line) => /^(JOINED|LEFT) /.test(line));
  }

  end() {
    this.socket.destroy();
  }
}

// --- A proxy between the pages and the server

class Proxy {
  arrivals = [];             // when WebSockets were let through
  turnedAway = 0;
  #pairs = new Set();
  #closed = false;
  #budget = Infinity;        // bytes that may still pass
  #onCut = () => {};

  /** Starts one before a port of this machine. */
  static async before(target) {
    const proxy = new Proxy();
    proxy.listener = net.createServer((socket) => proxy.#join(socket, target));
    await new Promise((resolve) => proxy.listener.listen(0, "127.0.0.1", resolve));
    proxy.port = proxy.listener.address().port;
    return proxy;
  }

  #join(client, target) {
    if (this.#closed) {
      this.turnedAway += 1;
      return client.destroy();
    }
    const server = net.connect(target, "127.0.0.1");
    this.#pairs.add([client, server]);
    for (const [from, to] of [[client, server], [server, client]]) {
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => to.end());
      from.on("data", (data) => this.#pass(data, to));
    }
    client.once("data", (request) => {
      if (/^GET \/ws /.test(request.toString("latin1"))) this.arrivals.push(Date.now());
    });
  }

  #pass(data, to) {
    to.write(data.subarray(0, this.#budget));
    this.#budget -= data.length;
    if (this.#budget <= 0) this.cut();
  }

  /** Breaks all connections, without a word of goodbye. */
  cut() {
    this.#budget = Infinity;
    for (const sockets of this.#pairs) for (const socket of sockets) socket.destroy();
    this.#pairs.clear();
    this.#onCut();
  }

  /** Breaks them after so many bytes more, be it in the middle of a line. The promise is kept when it has happened. */
  cutAfter(bytes) {
    this.#budget = bytes;
    return new Promise((resolve) => { this.#onCut = resolve; });
  }

  /** From now on nobody gets through, as if the server were away. */
  close() {
    this.#closed = true;
    this.cut();
  }

  open() {
    this.#closed = false;
    this.arrivals = [];
  }

  end() {
    this.listener.close();
    this.cut();
  }
}

// --- What people do with a page

/** Waits until the page sits in its room, and knows who is there. */
export function seated(page) {
  return page.waitForFunction(() => (
    document.querySelector("#status").dataset.state === "online" && document.querySelector("#room:not([hidden]) #people li")
  ));
}

/** Makes a room and returns its code. */
export async function create(page, name) {
  await page.fill("#name", name);
  await page.click("#create");
  await seated(page);
  return page.textContent("#place");
}

export async function join(page, code, name) {
  await page.fill("#name", name);
  await page.fill("#code", code);
  await page.click("#join");
  await seated(page);
}

export async function say(page, text) {
  await page.fill("#input", text);
  await page.press("#input", "Enter");
}

/** Sends a line by the wire panel. */
export async function wire(page, line) {
  if (await page.isHidden("#wire")) await page.keyboard.press("F2");
  await page.fill("#wire-input", line);
  await page.press("#wire-input", "Enter");
  await page.keyboard.press("F2");
}

/** Waits until the server has taken all that the page has said. */
export const settled = (page) => page.waitForFunction(() => (
  document.querySelector("#status").dataset.state === "online" && !document.querySelector(".pending")
));

/** Waits for an element whose text fits. */
export const shows = (page, selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor();

/** Waits for a message that has exactly this text, and has reached the server. */
export function sees(page, text) {
  return page.waitForFunction((wanted) => (
    [...document.querySelectorAll(".message:not(.pending) .text")].some(({ textContent }) => textContent === wanted)
  ), text);
}

const textsOf = (page, selector) => page.$$eval(selector, (items) => items.map((item) => item.textContent));

export const texts = (page) => textsOf(page, ".message:not(.pending) .text");
export const notes = (page) => textsOf(page, ".note span");
export const names = (page) => textsOf(page, "#people-list bdi");

export const isSeated = (page) => page.isVisible("#composer");
export const focused = (page) => page.evaluate(() => document.activeElement.id);
export const address = (page) => page.evaluate(() => location.hash);
