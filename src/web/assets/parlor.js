// The page of parlor: the rooms of a parlor/1 server, in a browser.
// It speaks the protocol of PROTOCOL.md over a WebSocket. Each text frame is one line; F2 shows them all.

const HOLD = 120;            // seconds that the server keeps our seat after a broken connection
const WAIT = [500, 15_000];  // ms between two tries to connect, at least and at most
const SILENCE = 20_000;      // ms without a line, then we ask whether the server is there
const PATIENCE = 8_000;      // ms without an answer, then the connection counts as dead
const PAGE = 100;            // messages fetched at once
const MISSED = 1000;         // messages fetched at most after a long absence
const LOG_MOST = 2000;       // entries kept on the page, which may be open for days
const WIRE_MOST = 500;       // lines kept in the wire panel
const ASK_ABOVE = 20;        // more lines than this are sent only after a question
const PEOPLE_MOST = 200;     // people shown; in a larger room we do not ask again and again
const WHO_SPREAD = 20;       // ms for each person here, within which we ask who is here
const WHO_REST = 60_000;     // ms between two such questions in a larger room, at least

// --- Tools

const $ = (id) => document.getElementById(id);

/** Makes an element. Texts become text nodes: nothing that people say can turn into markup. */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Storage may be full or forbidden: then the page works without a memory. */
function recall(store, key) {
  try { return JSON.parse(window[store][`parlor.${key}`]); } catch { return null; }
}
function remember(store, key, value) {
  try { window[store][`parlor.${key}`] = JSON.stringify(value); } catch { /* never mind */ }
}

/** Runs an action once, soon, however often it is asked for. */
function soon(action) {
  let timer = 0;
  return () => { timer ||= setTimeout(() => { timer = 0; action(); }, 16); };
}

const isAtEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 40;

const bytes = (text) => new TextEncoder().encode(text).length;

/** The fields of a line after its word, up to the `count`th; then the text that follows them. */
function fieldsOf(line, count) {
  const fields = line.split(" ");
  return [...fields.slice(1, count), fields.slice(count).join(" ")];
}

// What the server refuses in a line (LINE-8), and what ends one.
const FORBIDDEN = /[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const LINE_END = /\r\n?|[\n\v\f\x85\u2028\u2029]/;

/** The lines of a text, as they can be sent. */
function linesOf(text) {
  const clean = text.replace(FORBIDDEN, "").replace(/\p{Surrogate}/gu, "\uFFFD");
  return clean.split(LINE_END).filter((line) => /[^ \t]/.test(line));
}

// --- The connection

/** Commands with data lines: which field of their OK counts them. */
const COUNT_FIELD = { JOIN: 4, RESUME: 4, HISTORY: 0, WHO: 0, HELP: 0 };

/** One WebSocket. A line with OK or ERR answers the oldest unanswered command; all others are data or events. */
class Connection {
  greeted = false;           // has the server said HELLO?
  seated = false;            // do we sit in a room, so that messages may be sent?
  unanswered = [];           // commands, oldest first: { line, verb, done, sentAt }
  undecided = [];            // data of the oldest command, or events: its OK will tell
  heardAt = Date.now();

  constructor() {
    this.socket = new WebSocket(new URL("ws", location.href).href.replace(/^http/, "ws"));
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = () => this.end();
  }

  /** Sends a command. `done` gets its reply, or null if the connection ends before. */
  send(line, done = () => {}) {
    const verb = line.trim().split(/[ \t]/)[0].toUpperCase();
    this.unanswered.push({ line, verb, done, sentAt: Date.now() });
    wire.add("sent", line);
    this.socket.send(line);
  }

  receive(line) {
    this.heardAt = Date.now();
    wire.add("received", line);
    const [word] = line.split(" ", 1);
    if (word === "OK" || word === "ERR") this.answer(line);
    else if (word !== "BYE" && this.unanswered[0]?.verb in COUNT_FIELD) this.undecided.push(line);
    else onEvent(line);
  }

  answer(line) {
    const command = this.unanswered.shift();
    const data = this.undecided;
    this.undecided = [];
    const [status, verb, ...args] = line.split(" ");
    const ok = status === "OK";
    const count = ok ? args[COUNT_FIELD[command.verb]] ?? 0 : 0;
    for (const event of data.splice(0, data.length - count)) onEvent(event);
    const reply = { ok, verb, args, data, sent: command.line, code: args[0], words: args.slice(1).join(" ") };
    if (ok) onOk[verb]?.(reply);
    command.done(reply);
    save();
  }

  /** The end, by the network's will or by ours; a closing handshake may never come. */
  end() {
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
    // Messages will be replayed, but private ones come once: save them out of half a reply.
    for (const line of this.undecided) if (line.startsWith("TELL ")) onEvent(line);
    link.ended();
    for (const { done } of this.unanswered) done(null);
  }

  isDead() {
    const waitingSince = this.greeted ? this.unanswered[0]?.sentAt : 0;
    return Date.now() - Math.max(waitingSince, this.heardAt) > PATIENCE;
  }
}

// --- Coming and going

let connection = null;
let wish = null;             // { line, field }: the CREATE or JOIN that somebody asked for, until it is answered
const limits = { line: 2048, text: 1800, lobby: "LOBBY" };   // as the HELLO says

const link = {
  wanted: true,              // false after a BYE that means: do not come back
  failures: 0,
  timer: 0,

  open() {
    clearTimeout(this.timer);
    this.wanted = true;
    if (connection) return;
    showStatus("connecting", "Connecting…");
    connection = new Connection();
  },

  /** Waits for a random while, longer each time: not all shall come back in one moment. */
  ended() {
    connection = null;
    if (!this.wanted) return showStatus("off", "Not connected");
    showStatus("waiting", "Connection lost, trying again…");
    const [least, most] = WAIT;
    const range = Math.min(most, least * 2 ** ++this.failures) - least;
    this.timer = setTimeout(() => this.open(), least + Math.random() * range);
  },

  /** The network may have changed, or the computer slept. */
  probe() {
    if (connection?.greeted) connection.send("PING");
    else if (this.wanted) this.open();
  },

  /** Is the server there? And who is here? Nobody tells us when a seat is held or taken again. */
  beat() {
    if (connection?.isDead()) connection.end();
    const since = Date.now() - SILENCE;
    if (connection?.seated && people.size <= PEOPLE_MOST && toldWhoAt < since) askWho();
    else if (connection?.greeted && connection.heardAt < since) connection.send("PING");
  },
};

function showStatus(state, words) {
  $("status").dataset.state = state;
  $("status-text").textContent = words;
  $("connect").hidden = state === "online" || state === "connecting";
}

/** The server's HELLO: take up what was going on. */
function arrive(line) {
  const pairs = line.split(" ")[2].split(",").map((pair) => pair.split("="));
  Object.assign(limits, Object.fromEntries(pairs));
  connection.greeted = true;
  link.failures = 0;
  showStatus("online", "Connected");
  if (seat) resume();
  else if (wish) enter(wish);
}

// --- The seat

// { code, name, token, last, accepted }: `last` is the highest id that we have shown, all lower ones shown too, and
// `accepted` counts our OK MSG. With these and the outbox, RESUME loses nothing and doubles nothing.
let seat = null;

// Our messages that are not answered yet, oldest first: { text, sent, item }. The item stands in the log.
let outbox = [];

function saveNow() {
  remember("sessionStorage", "seat", seat && { ...seat, outbox });
  remember("sessionStorage", "draft", input.value);
}
const save = soon(saveNow);

/** Asks for a room. If the connection breaks before the answer, the wish stays for the next one. */
function enter(newWish) {
  wish = newWish;
  if (!connection?.greeted) return link.open();
  connection.send(wish.line, (reply) => {
    if (!reply) return;
    wish = null;
    if (!reply.ok) showEntryProblem(newWish.field, reply);
  });
}

function sitDown(code, name, more) {
  seat = { code, name, token: null, last: 0, accepted: 0, ...more };
  remember("localStorage", "name", name);
  showRoom();
}

/** Now messages may be sent. A new seat is armed first, and an empty log filled from before `id`. */
function settleIn(id) {
  connection.seated = true;
  if (!seat.token) connection.send(`HOLD ${HOLD}`);
  if (log.oldest >= id) log.fetchOlder(id);
  askWho();
  for (const message of outbox) if (!message.sent) transmit(message);
}

/** Takes the seat again after a break, or, when it is held no longer, a new one under the same name. */
function resume() {
  if (!seat.token) return rejoin();
  connection.send(`RESUME ${seat.code} ${seat.token} ${seat.last}`, (reply) => {
    if (!reply || reply.ok) return;
    if (reply.code === "shutting-down") return connection.end();
    if (reply.code !== "bad-id") return rejoin();
    seat.last = 0;           // our count is wrong: drop what we know, and take all of it again
    log.clear();
    resume();
  });
}

/** What was missed is fetched in `onOk.JOIN`. */
function rejoin() {
  seat.token = null;
  connection.send(`JOIN ${seat.code} ${seat.name} 0`, (reply) => {
    if (!reply || reply.ok) return;
    const { code } = seat;
    leave(code);
    const why = reply.code === "no-such-room" ? `The room ${code} is gone.` : `You could not come back to ${code}.`;
    $("farewell").textContent = why + (input.value && " What you had not sent waits in the next room's input.");
    showEntryProblem("code", reply);
  });
}

/** The seat is over. What was not sent returns to the input. */
function standUp() {
  const unsent = outbox;
  seat = wish = null;
  outbox = [];
  if (connection) connection.seated = false;
  for (const { item, text } of unsent) {
    item.remove();
    giveBack(text);
  }
  saveNow();
}

/** To the start, or to the invitation to another room. */
function leave(code) {
  const left = () => { standUp(); showLanding(code); };
  if (connection?.seated) connection.send("LEAVE", left);
  else left();
}

const FINAL = {
  replaced: "This seat is now open in another window.",
  kicked: "You were put out of the room.",
  closed: "The room was closed.",
};

/** After a BYE that says: do not come back. The log stays, to be read. */
function finish(reason, words) {
  const inRoom = seat && reason !== "quit";
  link.wanted = false;
  standUp();
  connection.end();
  if (!inRoom) return showLanding();
  $("ended-text").textContent = `${FINAL[reason]} ${words}`;
  $("ended").hidden = false;
  $("send").hidden = input.readOnly = true;
  $("ended-back").focus();
}

// --- Messages on their way out

/** Says something: on this page at once, and to the server as soon as there is one. */
function say(text, line) {
  const message = { text, sent: false, item: log.addPending(text) };
  outbox.push(message);
  if (connection?.seated) transmit(message, line);
  save();
}

function transmit(message, line = `MSG ${message.text}`) {
  message.sent = true;
  connection.send(line, (reply) => {
    if (!reply || !outbox.includes(message)) return;     // `settle` will find out whether it arrived
    if (reply.code === "shutting-down") message.sent = false;     // it was not run: for the next connection
    else if (!reply.ok) refused(message, reply.words);
    else {
      seat.accepted += 1;
      arrived(message, Number(reply.args[0]), reply.args[1]);
    }
  });
}

function arrived(message, id, time) {
  outbox.splice(outbox.indexOf(message), 1);
  seat.last = id;
  log.confirm(message.item, id, time);
}

function refused(message, words) {
  outbox.splice(outbox.indexOf(message), 1);
  message.item.remove();
  giveBack(message.text);
  showProblem(words);
}

/**
 * After a break: which of the messages that we sent have arrived? `count` says how many, if that is known, and the
 * replay has them, but for a gap. One that was passed over was refused. What is left is sent again.
 */
function settle(replay, names, count = Infinity) {
  const sent = outbox.filter((message) => message.sent);
  for (const line of replay) {
    const { id, time, name, text } = parseMessage(line);
    const at = names.includes(name) && count > 0 ? sent.findIndex((message) => message.text === text) : -1;
    if (at < 0) {
      onEvent(line, true);
      continue;
    }
    for (const other of sent.splice(0, at)) refused(other, "The server did not take this.");
    arrived(sent.shift(), id, time);
    count -= 1;
  }
  if (count < Infinity) for (const { item } of sent.slice(0, count)) item.remove();
  outbox = outbox.filter(({ item }) => item.isConnected);
  for (const message of outbox) message.sent = false;
}

// --- What the server says

/** What an OK changes, whoever sent the command. */
const onOk = {
  CREATE({ args: [code, name] }) {
    if (!name) return;       // made, but not entered
    sitDown(code, name);
    log.note("You opened this room. Invite others by its link. As its host you may /lock, /kick, /mute and /close.");
    settleIn();
  },

  JOIN({ args: [code, name, last], data }) {
    if (!seat) {
      sitDown(code, name, { last: Number(last) });
      log.addHistory(data);
      return settleIn();
    }
    const before = { ...seat };
    Object.assign(seat, { name, accepted: 0 });
    log.note("You were away for long, and came in again.");
    connection.send(`HISTORY after ${before.last} ${MISSED}`, (reply) => {
      if (!reply?.ok) return;
      settle(reply.data, [before.name, name]);
      seat.last = Math.max(seat.last, last);
      settleIn(before.last + 1);
    });
  },

  RESUME({ args: [code, name, last, , , said], data, sent }) {
    if (!seat) sitDown(code, name, { token: sent.trim().split(/[ \t]+/)[2], accepted: Number(said) });
    const before = { ...seat };
    settle(data, [before.name, name], said - before.accepted);
    Object.assign(seat, { name, last: Math.max(seat.last, last), accepted: Number(said) });
    settleIn(before.last + 1);
  },

  NICK({ args: [name] }) {
    rename(seat.name, name);
    seat.name = name;
    remember("localStorage", "name", name);
    log.note(`You are ${name} now.`);
  },

  TELL({ args: [name], sent }) {
    const text = /^[ \t]*\S+[ \t]+\S+[ \t](.*)$/.exec(sent)[1];
    log.add({ time: new Date().toISOString(), name: seat.name, text, aside: ` to ${name}` });
  },

  LEAVE() {
    standUp();
    showLanding();
  },

  HOLD({ args: [token] }) { seat.token = token; },
  WHO({ data }) { showWho(data); },

  /** In talk mode each command of this page would be said as a message. */
  TALK({ args: [mode] }) { if (mode === "on") connection.send("/TALK off"); },
};

function parseMessage(line) {
  if (!line.startsWith("MSG ")) return {};
  const [id, time, name, text] = fieldsOf(line, 4);
  return { id: Number(id), time, name, text };
}

const LEFT = { lost: "lost the connection", kicked: "was put out" };
const NOTICES = /^(shutdown|(un)?locked|(un)?muted|host|announce|here)$/;

const events = {
  HELLO: arrive,

  MSG(line, missed) {
    const message = parseMessage(line);
    seat.last = message.id;
    log.addNew(message, missed);
  },

  TELL(line, missed) {
    const [time, name, text] = fieldsOf(line, 3);
    log.addNew({ time, name, text, aside: " to you" }, missed);
  },

  GAP(line) {
    const [count] = fieldsOf(line, 1);
    if (count > 0) log.note(`${count} messages are missing here. They are kept no longer.`);
    askWho();
  },

  JOINED(line) {
    const [name] = fieldsOf(line, 1);
    people.set(name, { marks: [] });
    showPeople();
    log.presence(name, "joined");
  },

  LEFT(line) {
    const [name, reason] = fieldsOf(line, 2);
    const wasHost = people.get(name)?.marks.includes("host");
    people.delete(name);
    const [eldest] = people.values();
    if (wasHost) eldest?.marks.unshift("host");     // as HOST-2 says
    showPeople();
    log.presence(name, LEFT[reason] ?? "left");
  },

  RENAMED(line) {
    const [before, after] = fieldsOf(line, 2);
    log.note(`${before} is now ${after}.`);
    rename(before, after);
  },

  NOTICE(line) {
    const [kind, words] = fieldsOf(line, 2);
    if (NOTICES.test(kind)) log.note(words);
    if (kind === "host") askWho();
  },

  BYE(line) {
    const [reason, words] = fieldsOf(line, 2);
    if (reason === "quit" || reason in FINAL) finish(reason, words);
  },
};

/** An event; `missed` if it is replayed. Words that we do not know are ignored: the protocol may grow. */
function onEvent(line, missed = false) {
  const [word] = line.split(" ", 1);
  events[word]?.(line, missed);
  save();
}

// --- The log

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });

/** The same name has the same colour everywhere: one of .c0 to .c9. */
function colourOf(name) {
  let hash = 0;
  for (const char of name.toLowerCase()) hash = (hash * 31 + char.codePointAt(0)) % 65_521;
  return `name c${hash % 10}`;
}

/** The nodes of a text: web addresses can be followed, all else is text. */
function linked(text) {
  const nodes = [];
  let done = 0;
  for (const { 0: found, index } of text.matchAll(/\bhttps?:\/\/(\([^\s<>"()]*\)|[^\s<>"()])+/gi)) {
    const href = found.replace(/[.,;:!?'*\]}]+$/, "");     // a full stop belongs to the sentence
    if (!URL.canParse(href)) continue;
    nodes.push(text.slice(done, index), make("a", { href, rel: "noreferrer nofollow", target: "_blank" }, href));
    done = index + href.length;
  }
  return [...nodes, text.slice(done)];
}

/** The messages, in the order of their ids. Ours that are not answered yet stand at the end. */
const log = {
  box: $("log"),
  list: $("messages"),
  mark: $("mark"),           // stands before the first message that came while nobody looked
  oldest: Infinity,          // from this id on all is shown
  mayFetch: true,            // false while we fetch older ones, and when there are none
  following: true,           // does the view stay at the end?
  top: 0,                    // where it was scrolled to
  unread: 0,

  clear() {
    this.list.replaceChildren(...outbox.map(({ item }) => item));
    Object.assign(this, { oldest: Infinity, mayFetch: true, following: true, unread: 0 });
    this.showUnread();
  },

  /** An entry. Without a time it is on its way. */
  entry(kind, time, ...parts) {
    const item = make("li", { className: kind }, make("div", {}, ...parts, make("time", {}, "sending")));
    if (time) this.date(item, time);
    return item;
  },

  date(item, time) {
    const at = new Date(time);
    Object.assign(item.querySelector("time"), { dateTime: time, textContent: clock.format(at) });
    item.dataset.day = calendar.format(at);
  },

  /** Adds a message; one with an `aside` is private, and has no id. */
  add({ id, time, name, text, aside = "" }) {
    const kind = `message ${aside && "private"} ${time ? "" : "pending"} ${name === seat.name ? "own" : ""}`;
    const label = make("b", { className: colourOf(name) }, make("bdi", {}, name), aside);
    const words = make("p", { className: "text", dir: "auto" }, ...linked(text));
    const item = this.entry(kind, time, label, words);
    if (!aside) item.dataset.name = name;
    this.insert(item, id);
    return item;
  },

  /** Nothing is shown twice. */
  shows({ id }) { return $(`m${id}`); },

  addNew(message, missed) {
    if (this.shows(message)) return;
    const item = this.add(message);
    if (missed || !this.watched()) {
      if (!this.unread) this.moveMark(item);
      this.unread += 1;
    }
    this.showUnread();
  },

  addPending(text) {
    this.moveMark(null);     // who speaks has read,
    this.following = true;   // and wants to see it
    return this.add({ name: seat.name, text });
  },

  /** Our oldest pending message has arrived. All lower ids are here already, so it stands at its place. */
  confirm(item, id, time) {
    if (this.shows({ id })) return item.remove();
    item.classList.remove("pending");
    this.date(item, time);
    this.insert(item, id);
  },

  note(words, kind = "") {
    const item = this.entry(`note ${kind}`, new Date().toISOString(), make("span", {}, words));
    this.insert(item);
    return item;
  },

  /** "anna, ben joined". When many come at once they share a line. */
  presence(name, words) {
    const last = outbox[0]?.item.previousElementSibling ?? this.list.lastElementChild;
    const item = last?.dataset.presence === words ? last : this.note("");
    const span = item.querySelector("span");
    item.dataset.presence = words;
    span.textContent = span.textContent.replace(` ${words}`, ", ") + `${name} ${words}`;
  },

  /** Puts an item at its place: before what is on its way, and by its id if it has one. */
  insert(item, id) {
    let next = item.matches(".pending") ? null : outbox[0]?.item ?? null;
    if (id < this.oldest && this.oldest < Infinity) next = this.list.firstElementChild;
    const before = () => (next ? next.previousElementSibling : this.list.lastElementChild);
    while (id && Number(before()?.dataset.id) > id) next = before();
    if (next !== item) this.list.insertBefore(item, next);
    if (id) {
      item.id = `m${id}`;
      item.dataset.id = id;
      this.oldest = Math.min(this.oldest, id);
    }
    this.dress(item);
    if (item.nextElementSibling) this.dress(item.nextElementSibling);
    this.scroll();
  },

  /** A day's first entry shows the day; in a run of messages the name is shown once. */
  dress(item) {
    const before = item.previousElementSibling?.dataset ?? {};
    const { day, name } = item.dataset;
    const newDay = day && day !== before.day;
    item.querySelector(".day")?.remove();
    if (newDay) item.prepend(make("p", { className: "day" }, day));
    item.classList.toggle("follows", Boolean(name) && name === before.name && !newDay && !item.contains(this.mark));
  },

  /** Older messages, which no screen reader shall read out. */
  addHistory(lines) {
    this.box.ariaLive = "off";
    this.keepPlace(() => {
      for (const message of lines.reverse().map(parseMessage)) if (!this.shows(message)) this.add(message);
    });
    setTimeout(() => { this.box.ariaLive = "polite"; }, 500);
  },

  /** Changes what stands above the view, which keeps its place. */
  keepPlace(change) {
    const below = this.box.scrollHeight - this.box.scrollTop;
    change();
    this.box.scrollTop = this.box.scrollHeight - below;
  },

  fetchOlder(id = this.oldest) {
    if (!this.mayFetch || !connection?.seated || id <= 1) return;
    if (this.list.childElementCount > this.most() - PAGE) return;
    this.mayFetch = false;
    connection.send(`HISTORY before ${id} ${PAGE}`, (reply) => {
      this.mayFetch = !reply || reply.data.length === PAGE;
      if (reply?.ok) this.addHistory(reply.data);
    });
  },

  /** More while somebody may be reading old ones. */
  most() { return this.following || document.hidden ? LOG_MOST : 2 * LOG_MOST; },

  /** Takes out what is too old, but nothing that is on its way. It can be fetched again. */
  trim() {
    const surplus = [...this.list.children].slice(0, -this.most()).filter((item) => !item.matches(".pending"));
    if (!surplus.length) return;
    this.keepPlace(() => {
      for (const item of surplus) {
        item.remove();
        if (item.dataset.id) this.oldest = Number(item.dataset.id) + 1;
      }
      const first = this.list.firstElementChild;
      if (this.unread && !this.mark.isConnected) this.moveMark(first);
      this.dress(first);
    });
    this.mayFetch = true;
  },

  /** Is somebody looking at the end? */
  watched() { return this.following && !document.hidden && document.hasFocus(); },

  moveMark(item) {
    const marked = this.mark.closest("li");
    this.mark.hidden = !item;
    (item ?? this.box).prepend(this.mark);
    if (marked) this.dress(marked);
    if (item) this.dress(item);
  },

  showUnread() {
    if (this.watched()) this.unread = 0;
    document.title = `${this.unread ? `(${this.unread}) ` : ""}${seat ? `${seat.code} · ` : ""}parlor`;
    $("pill").hidden = this.following;
    $("pill").textContent = this.unread ? `${this.unread} new ↓` : "To the latest ↓";
  },

  /** Follows the end, but not so far that what is unread would leave the view. */
  scroll: soon(() => {
    log.trim();
    if (!log.following) return;
    log.box.scrollTop = log.unread ? log.mark.offsetTop - 8 : log.box.scrollHeight;
    log.following = isAtEnd(log.box);
    log.showUnread();
  }),

  toEnd() {
    Object.assign(this, { following: true, unread: 0 });
    this.scroll();
    input.focus();
  },

  /** Only somebody who scrolls up stops following: new lines alone do not. */
  scrolled() {
    const { scrollTop } = this.box;
    if (isAtEnd(this.box)) this.following = true;
    else if (scrollTop < this.top) this.following = false;
    this.top = scrollTop;
    this.showUnread();
    if (scrollTop < 300) this.fetchOlder();
  },
};

// --- The people

const people = new Map();    // name -> { held, marks }, in the order of entering
let toldWhoAt = 0;
let whoTimer = 0;

/** Asks who is here, after a random while that grows with the room: others have the same reason to ask. */
function askWho() {
  const rest = people.size > PEOPLE_MOST ? Math.max(0, toldWhoAt + WHO_REST - Date.now()) : 0;
  whoTimer ||= setTimeout(() => {
    const done = () => { whoTimer = 0; };
    if (connection?.seated) connection.send("WHO", done);
    else done();
  }, rest + Math.random() * people.size * WHO_SPREAD);
}

function showWho(lines) {
  clearTimeout(whoTimer);
  whoTimer = 0;
  toldWhoAt = Date.now();
  people.clear();
  for (const line of lines) {
    const [, name, presence, ...marks] = line.split(" ");
    people.set(name, { held: presence === "held", marks });
  }
  showPeople();
}

/** A new name at the same place. If it is known already, an answer to WHO was quicker. */
function rename(before, after) {
  if (people.has(after)) return;
  const all = [...people.set(before, people.get(before) ?? { marks: [] })];
  people.clear();
  for (const [name, about] of all) people.set(name === before ? after : name, about);
  showPeople();
}

const showPeople = soon(() => {
  const items = [...people].slice(0, PEOPLE_MOST).map(personItem);
  if (people.size > PEOPLE_MOST) items.push(make("li", {}, `and ${people.size - PEOPLE_MOST} more`));
  $("people-list").replaceChildren(...items);
  $("people-count").textContent = people.size;
});

function personItem([name, { held, marks }]) {
  const me = name === seat?.name;
  const about = [me && "you", ...marks, held && "away"].filter(Boolean).join(", ");
  const label = make("bdi", { className: colourOf(name) }, name);
  const onclick = () => address(name);
  const person = me ? label : make("button", { className: "plain", title: "Write in private", onclick }, label);
  return make("li", { className: held ? "held" : "" }, person, make("small", {}, about));
}

/** Begins a private message, if nothing else is being written. */
function address(name) {
  if (!input.value || /^\/tell \S* ?$/.test(input.value)) write(`/tell ${name} `);
  showPeoplePanel(false);
  input.focus();
}

function showPeoplePanel(open) {
  $("people-toggle").ariaExpanded = $("room").classList.toggle("with-people", open);
}

// --- The input

const input = $("input");
const COMMANDS = "/tell /nick /who /help /leave /quit /lock /unlock /kick /mute /unmute /close".split(" ");

function showProblem(words) {
  $("problem").textContent = words;
}

function write(text) {
  input.value = text;
  onInput();
}

function onInput() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;   // it grows with its text, up to the stylesheet's limit
  $("question").hidden = true;
  showProblem(tooLong(linesOf(input.value)));
  save();
}

/** A line alone that begins with "/" is a command; "//" says a "/". */
const isCommand = (lines) => lines.length === 1 && /^\/(?!\/)/.test(lines[0]);

/** Says which line is too long, before it is sent. */
function tooLong(lines) {
  const most = isCommand(lines) ? limits.line : limits.text;
  const at = lines.findIndex((line) => bytes(line) > most);
  if (at < 0) return "";
  const size = bytes(lines[at]);
  return `${lines.length > 1 ? `Line ${at + 1}` : "This"} has ${size} bytes, ${size - most} too many.`;
}

function submit() {
  const lines = linesOf(input.value);
  const problem = tooLong(lines);
  showProblem(problem);
  if (problem || !lines.length || !seat) return;
  if (isCommand(lines)) return runCommand(lines[0]);
  // Several lines are messages to all. If they begin like a command, somebody may have meant something else.
  if (lines.length > ASK_ABOVE || (lines.length > 1 && /^\/[a-z]/i.test(lines[0]))) ask(lines);
  else sayAll(lines);
}

function ask(lines) {
  $("question-text").textContent = `Send ${lines.length} lines as ${lines.length} messages to everybody here?`;
  $("question").hidden = false;
  $("question-yes").onclick = () => sayAll(lines);
  $("question-yes").focus();
}

function sayAll(lines) {
  recent.add(input.value);
  write("");
  input.focus();
  if (lines.length === 1) say(lines[0].replace(/^\/\//, "/"));
  else for (const line of lines) say(line);
}

/** "/lock" is the line "LOCK": the words are the protocol's. The text stays in the input until it is done. */
function runCommand(typed) {
  const line = typed.slice(1).trimStart();
  if (!line) return showProblem("Which command? Try /help.");
  if (!connection?.seated) return showProblem("Not connected: a command cannot wait.");
  const text = textIn(line);
  if (text) return sayAll([text]);
  connection.send(line, (reply) => {
    if (!reply?.ok) return showProblem(reply?.words ?? "The connection broke before the answer: perhaps it was done.");
    recent.add(typed);
    if (input.value === typed) write("");
    if (reply.verb === "WHO") showPeoplePanel(true);
    else if (reply.verb === "HELP") log.note(reply.data.map((help) => help.slice(5)).join("\n"), "help");
    else if (seat && !onOk[reply.verb]) {
      log.note(`${typed}: done.`);
      connection.send("WHO");    // at once, as nobody else asks
    }
  });
}

/** What a raw line says in the room, if it is a MSG. */
const textIn = (line) => /^[ \t]*msg[ \t](.*[^ \t].*)$/i.exec(line)?.[1];

/** Returns a text to the input, after what is being written there. */
function giveBack(text) {
  write(input.value ? `${input.value}\n${text}` : text.replace(/^\//, "//"));
}

/** What was sent, for the arrow keys. At the end of the list stands what is being written. */
const recent = {
  texts: [],
  at: 0,
  draft: "",

  add(text) {
    this.texts = [...this.texts, text].slice(-100);
    this.at = this.texts.length;
  },

  go(step) {
    const at = this.at + step;
    if (at < 0 || at > this.texts.length) return;
    if (this.at === this.texts.length) this.draft = input.value;
    this.at = at;
    write(this.texts[at] ?? this.draft);
  },
};

/** Completes the name or command before the cursor. False if there is none: then Tab moves on. */
function complete() {
  const { value, selectionStart: caret } = input;
  const [begun] = /\S*$/.exec(value.slice(0, caret).toLowerCase());
  const start = caret - begun.length;
  const command = !start && begun.startsWith("/");
  const word = [...command ? COMMANDS : people.keys()].find((one) => begun && one.toLowerCase().startsWith(begun));
  if (!word) return false;
  input.setRangeText(word + (command || start ? " " : ": "), start, caret, "end");
  onInput();
  return true;
}

function onKey(event) {
  const { value, selectionStart, selectionEnd } = input;
  if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (event.key === "Enter") submit();
  else if (event.key === "ArrowUp" && !value.slice(0, selectionStart).includes("\n")) recent.go(-1);
  else if (event.key === "ArrowDown" && !value.slice(selectionEnd).includes("\n")) recent.go(1);
  else if (event.key !== "Tab" || !complete()) return;
  event.preventDefault();
}

// --- The landing page

/** The room that the address names: http://host/#BKTW */
const codeInAddress = () => /^#(\w{1,16})$/.exec(location.hash)?.[1].toUpperCase() ?? "";

function showView(inRoom, code) {
  // The address shows the room without a step in the history: "back" leaves the page, not the room.
  history.replaceState(null, "", code ? `#${code}` : location.pathname + location.search);
  log.clear();
  showWho([]);
  document.body.classList.toggle("in-room", inRoom);
  $("landing").hidden = inRoom;
  $("room").hidden = !inRoom;
  $("place").textContent = inRoom ? code : "parlor";
  $("invitation").close();
}

function showLanding(code = "") {
  showView(false, code);
  showEntryProblem();
  $("farewell").textContent = "";
  $("name").value = recall("localStorage", "name") ?? "";
  $("code").value = code;
  $("welcome").textContent = code ? `Come into ${code}` : "Talk in a room";
  // With a name and a code nothing is left to type: one key comes in.
  $($("name").value ? (code ? "join" : "code") : "name").focus();
}

function showRoom() {
  showView(true, seat.code);
  $("ended").hidden = true;
  $("send").hidden = input.readOnly = false;
  onInput();
  input.focus();
}

/** Shows an error beside the field that it is about, in the server's own words; without one, clears them all. */
function showEntryProblem(field, { code, words } = {}) {
  const place = ["bad-name", "name-taken", "bad-args", "control-char"].includes(code) ? "name" : field;
  for (const other of ["name", "code", "entry"]) {
    $(`${other}-problem`).textContent = other === place ? words : "";
    $(other).ariaInvalid = other === place;
  }
  $(place)?.focus();
}

/** Asks for a room under the name in the form. `field` is where errors about the room are shown. */
function enterAs(field, lineFor) {
  showEntryProblem();
  const name = $("name").value.trim();
  if (!name) return showEntryProblem("name", { words: "Type a name first." });
  remember("localStorage", "name", name);
  // A blank would end the name. As a no-break space it reaches the server, which says what a name may have.
  enter({ field, line: lineFor(name.replace(/\s/g, "\u00A0")) });
}

function joinByCode() {
  const code = $("code").value.replace(/^.*#|\s/g, "");     // a whole link will do as well
  if (!code) return showEntryProblem("code", { words: "Type the room's code, or create a room." });
  enterAs("code", (name) => `JOIN ${code} ${name} ${PAGE}`);
}

// --- The invitation

function invite() {
  const address = `${location.origin}${location.pathname}#${seat.code}`;
  $("link").value = address;
  $("room-code").value = seat.code;
  $("qr").src = `qr.svg?${encodeURIComponent(address)}`;
  $("copied").textContent = "";
  $("invitation").showModal();
}

/** The old way to copy: on plain http there is no navigator.clipboard. */
function copy(field) {
  field.select();
  $("copied").textContent = document.execCommand("copy") ? "Copied." : "It is selected: copy it by hand.";
}

// --- The wire panel

/** Each line both ways, as netcat would show it. Tokens too: this is for learning. */
const wire = {
  add(direction, text) {
    const list = $("wire-lines");
    const follows = !$("wire").hidden && isAtEnd(list);
    const time = new Date().toISOString().slice(11, 23);
    list.append(make("li", { className: direction + (text.startsWith("ERR ") ? " error" : "") },
      make("code", { dir: "ltr" }, text), make("small", {}, `${time}  ${bytes(text)} B`)));
    if (list.childElementCount > WIRE_MOST) list.firstElementChild.remove();
    if (follows) list.scrollTop = list.scrollHeight;
  },

  toggle() {
    const open = document.body.classList.toggle("with-wire");
    $("wire").hidden = !open;
    $("wire-toggle").ariaExpanded = open;
    $(open ? "wire-input" : seat ? "input" : "wire-toggle").focus();
    $("wire-lines").scrollTop = $("wire-lines").scrollHeight;
  },

  /** Sends any line but a blank one, which gets no answer. A message goes by the outbox, to be counted and shown. */
  sendTyped() {
    const line = $("wire-input").value;
    $("wire-problem").textContent = connection?.greeted ? "" : "Not connected.";
    if (!connection?.greeted || !/[^ \t]/.test(line)) return;
    const text = connection.seated && textIn(line);
    if (text) say(text, line);
    else connection.send(line);
    $("wire-input").value = "";
  },
};

// --- The start

const clicks = {
  create: () => enterAs("entry", (name) => `CREATE ${name}`),
  lobby: () => enterAs("entry", (name) => `JOIN ${limits.lobby} ${name} ${PAGE}`),
  connect: () => link.open(),
  invite: () => seat && invite(),
  leave: () => leave(),
  done: () => $("invitation").close(),
  "copy-link": () => copy($("link")),
  "copy-code": () => copy($("room-code")),
  "people-toggle": () => showPeoplePanel(),
  "wire-toggle": () => wire.toggle(),
  "ended-back": () => { showLanding(); link.open(); },
  "question-no": () => { $("question").hidden = true; input.focus(); },
  pill: () => log.toEnd(),
};

const submits = { entry: joinByCode, composer: submit, "wire-form": () => wire.sendTyped() };

function listen() {
  for (const id in clicks) $(id).onclick = clicks[id];
  for (const id in submits) $(id).onsubmit = (event) => { event.preventDefault(); submits[id](); };
  input.oninput = onInput;
  input.onkeydown = onKey;
  $("log").onscroll = () => log.scrolled();
  new ResizeObserver(log.scroll).observe($("log"));
  window.onkeydown = ({ key }) => { if (key === "F2") wire.toggle(); };
  window.onhashchange = () => { if (codeInAddress() !== seat?.code) leave(codeInAddress()); };
  window.onfocus = () => log.showUnread();
  window.ononline = () => link.probe();
  window.onpagehide = saveNow;
  document.onvisibilitychange = () => {
    saveNow();
    log.showUnread();
    if (!document.hidden) link.probe();
  };
  setInterval(() => link.beat(), 2000);
}

/** After a reload the tab still knows its seat; an address with another room is stronger. */
function start() {
  const saved = recall("sessionStorage", "seat");
  input.value = recall("sessionStorage", "draft") ?? "";
  if (saved && [saved.code, ""].includes(codeInAddress())) {
    const { outbox: unanswered, ...kept } = saved;
    seat = kept;
    showRoom();
    outbox = unanswered.map((message) => ({ ...message, item: log.addPending(message.text) }));
  } else {
    showLanding(codeInAddress());
  }
  link.open();
}

listen();
start();
