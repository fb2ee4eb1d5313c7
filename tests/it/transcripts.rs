//! Runs `tests/transcripts/*.txt` over an in-memory pipe and over TCP, with the bytes cut in
//! every way that a network may cut them.
//!
//! The notation is explained in section 2 of PROTOCOL.md; besides that, `who+` connects without
//! swallowing the `HELLO`, `options:` sets the server's configuration for a case, and `clauses:`
//! names what a case shows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlor::protocol::RoomCode;
use parlor::{Config, Origin, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::web_socket;

/// A case of a transcript file.
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) clauses: Vec<String>,
    options: Vec<(String, String)>,
    steps: Vec<Step>,
    /// The lines of the steps, as PROTOCOL.md may quote them.
    pub(crate) lines: Vec<String>,
}

#[derive(Debug, Clone)]
struct Step {
    who: String,
    action: Action,
    line: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Connect,
    /// Sends text, which may hold `{captures}` and escapes.
    Send(String),
    Expect(String),
    ExpectEof,
    Eof,
    Close,
    Advance(u64),
}

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// All cases of all files, in a fixed order.
pub(crate) fn cases() -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(directory())
        .expect("tests/transcripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| parse(file)).collect()
}

fn parse(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).expect("a transcript");
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                file: file.clone(),
                title: title.to_owned(),
                clauses: Vec::new(),
                options: Vec::new(),
                steps: Vec::new(),
                lines: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{place}: no case begins here"));
        if let Some(clauses) = line.strip_prefix("clauses:") {
            case.clauses = clauses.split(',').map(|clause| clause.trim().to_owned()).collect();
        } else if let Some(options) = line.strip_prefix("options:") {
            let pairs = options.split_whitespace();
            case.options = pairs
                .map(|pair| pair.split_once('=').unwrap_or_else(|| panic!("{place}: {pair}")))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        } else {
            let step = parse_step(line).unwrap_or_else(|| panic!("{place}: not a step: {line}"));
            case.steps.push(Step { line: format!("{place}: {line}"), ..step });
            case.lines.push(line.to_owned());
        }
    }
    cases
}

fn parse_step(line: &str) -> Option<Step> {
    let step = |who: &str, action| Some(Step { who: who.to_owned(), action, line: String::new() });
    if let Some(time) = line.strip_prefix("~ ") {
        return step("", Action::Advance(time.strip_suffix('s')?.parse().ok()?));
    }
    let end = line.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    let (who, rest) = line.split_at(end);
    match rest {
        "+" => return step(who, Action::Connect),
        "< EOF" => return step(who, Action::ExpectEof),
        "| eof" => return step(who, Action::Eof),
        "| close" => return step(who, Action::Close),
        ">" | ">|" | "> " => return step(who, Action::Send("\\n".to_owned())),
        _ => {}
    }
    if let Some(text) = rest.strip_prefix(">| ") {
        step(who, Action::Send(text.to_owned()))
    } else if let Some(text) = rest.strip_prefix("> ") {
        step(who, Action::Send(format!("{text}\\n")))
    } else {
        let pattern = unescape(rest.strip_prefix("< ")?);
        step(who, Action::Expect(escape(&pattern)))
    }
}

/// How the bytes of a client are cut into writes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// One write a step.
    Whole,
    /// One write a byte.
    Bytes,
    /// Inside every UTF-8 sequence, and between CR and LF.
    Inside,
    /// Consecutive steps of one client in one write.
    Glued,
    /// At places that the seed says, of consecutive steps glued.
    Seeded(u64),
}

impl Cut {
    fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        let mut random = match self {
            Cut::Seeded(seed) => seed,
            _ => 0,
        };
        let mut cut_after = |at: usize| match self {
            Cut::Whole | Cut::Glued => false,
            Cut::Bytes => true,
            Cut::Inside => {
                let continues = bytes[at + 1] & 0xc0 == 0x80;
                continues || (bytes[at] == b'\r' && bytes[at + 1] == b'\n')
            }
            Cut::Seeded(_) => {
                // Knuth's MMIX generator: any will do, if it is the same every time.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(at as u64 + 1);
                (random >> 33).is_multiple_of(4)
            }
        };
        let mut pieces = Vec::new();
        let mut start = 0;
        for at in 0..bytes.len().saturating_sub(1) {
            if cut_after(at) {
                pieces.push(&bytes[start..=at]);
                start = at + 1;
            }
        }
        pieces.push(&bytes[start..]);
        pieces
    }

    fn glues(self) -> bool {
        matches!(self, Cut::Glued | Cut::Seeded(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Pipe,
    Tcp,
    WebSocket,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

struct Client {
    stream: Option<Box<dyn Stream>>,
    received: Vec<u8>,
    talks: bool,
    /// Whether the server will still answer a PING.
    answers: bool,
}

/// How long a line may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    async fn line(&mut self) -> Option<String> {
        let stream = self.stream.as_mut()?;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(escape(&line[..end]));
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await;
            match read.unwrap_or_else(|_| panic!("no line came")).unwrap_or(0) {
                0 if self.received.is_empty() => return None,
                0 => {
                    return Some(format!(
                        "{} (cut off)",
                        escape(&std::mem::take(&mut self.received))
                    ));
                }
                n => self.received.extend_from_slice(&bytes[..n]),
            }
        }
    }
}

/// Lets the server do all that it can do now: a paused clock goes on, by its smallest step, when
/// nothing else can run.
async fn settle() {
    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.ok();
}

/// Shows bytes as transcripts write them.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\0' => text.push_str("\\0"),
                c if c.is_ascii_control() => write!(text, "\\x{:02x}", c as u32).expect("a String"),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a String");
        }
    }
    text
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (escaped, length) = match &rest.as_bytes()[at + 1] {
            b'r' => (b'\r', 2),
            b'n' => (b'\n', 2),
            b't' => (b'\t', 2),
            b'0' => (0, 2),
            b'\\' => (b'\\', 2),
            b'x' => (u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("\\xHH"), 4),
            other => panic!("unknown escape \\{}", *other as char),
        };
        bytes.push(escaped);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A run of one case.
struct Run {
    server: Server,
    way: Way,
    cut: Cut,
    clients: HashMap<String, Client>,
    captured: HashMap<String, String>,
}

impl Run {
    async fn connect(&mut self, who: &str) {
        let stream: Box<dyn Stream> = match self.way {
            Way::Pipe => {
                let (here, there) = tokio::io::duplex(1 << 16);
                let mut origin = Origin::default();
                origin.telnet = true;
                self.server.attach_from(there, origin);
                Box::new(here)
            }
            Way::Tcp => {
                let address = self.server.local_addr().expect("an address");
                let stream = TcpStream::connect(address).await.expect("a connection");
                stream.set_nodelay(true).expect("no delay");
                Box::new(stream)
            }
            Way::WebSocket => {
                let address = self.server.web_addrs().first().expect("an address");
                Box::new(web_socket(*address).await)
            }
        };
        let client =
            Client { stream: Some(stream), received: Vec::new(), talks: false, answers: true };
        assert!(self.clients.insert(who.to_owned(), client).is_none(), "{who} is connected");
    }

    async fn client(&mut self, who: &str) -> &mut Client {
        if !self.clients.contains_key(who) {
            self.connect(who).await;
            let client = self.clients.get_mut(who).expect("just connected");
            let hello = client.line().await.unwrap_or_default();
            assert!(hello.starts_with("HELLO parlor/1 "), "{hello}");
        }
        self.clients.get_mut(who).expect("a client")
    }

    async fn run(&mut self, steps: &[Step]) {
        let mut at = 0;
        while at < steps.len() {
            let group = if self.cut.glues() { self.glued(&steps[at..]) } else { 1 };
            let (who, group) = (&steps[at].who, &steps[at..at + group]);
            let sends = group.iter().filter_map(|step| match &step.action {
                Action::Send(text) => Some(unescape(&self.replace(text))),
                _ => None,
            });
            let bytes = sends.collect::<Vec<_>>().concat();
            if !bytes.is_empty() {
                self.send(who, &bytes).await;
            }
            for step in group {
                self.step(step).await;
            }
            at += group.len();
        }
    }

    /// How many steps from here on can be sent as one: those until another client acts, time
    /// passes, or something must be sent that is not known yet.
    fn glued(&self, steps: &[Step]) -> usize {
        let goes_with = |step: &Step| match &step.action {
            Action::Expect(_) | Action::ExpectEof => true,
            Action::Send(text) => step.who == steps[0].who && self.is_known(text),
            _ => false,
        };
        match steps[0].action {
            Action::Send(_) => 1 + steps[1..].iter().take_while(|step| goes_with(step)).count(),
            _ => 1,
        }
    }

    async fn send(&mut self, who: &str, bytes: &[u8]) {
        let (way, cut) = (self.way, self.cut);
        let client = self.client(who).await;
        let stream = client.stream.as_mut().expect("a stream");
        for piece in cut.pieces(bytes) {
            // The server may have closed: what it said before is still to be read.
            if stream.write_all(piece).await.is_err() {
                return;
            }
            stream.flush().await.ok();
            // On one thread the server has read the piece after this: so cuts are certain.
            if way == Way::Pipe {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        match &step.action {
            Action::Send(_) => {}
            Action::Connect => self.connect(&step.who).await,
            Action::Expect(pattern) => {
                let line = self.client(&step.who).await.line().await;
                let line =
                    line.unwrap_or_else(|| panic!("{}: the connection is closed", step.line));
                if let Err(why) = self.matches(pattern, &line) {
                    panic!("{}\n  came: {line}\n  {why}", step.line);
                }
                let client = self.client(&step.who).await;
                client.talks = match line.trim_end_matches("\\r") {
                    "OK TALK on" => true,
                    "OK TALK off" => false,
                    _ => client.talks,
                };
            }
            Action::ExpectEof => {
                let client = self.client(&step.who).await;
                let line = client.line().await;
                assert_eq!(line, None, "{}", step.line);
                (client.stream, client.answers) = (None, false);
            }
            Action::Eof => {
                let client = self.client(&step.who).await;
                client.stream.as_mut().expect("a stream").shutdown().await.ok();
                client.answers = false;
            }
            Action::Close => {
                let client = self.client(&step.who).await;
                (client.stream, client.answers) = (None, false);
            }
            Action::Advance(seconds) => {
                settle().await;
                tokio::time::advance(Duration::from_secs(*seconds)).await;
                settle().await;
            }
        }
    }

    /// Nothing else comes: the answer to a PING is the next line of everybody.
    async fn fence(&mut self) {
        for (who, client) in &mut self.clients {
            if !client.answers {
                continue;
            }
            let ping: &[u8] = if client.talks { b"/PING fence\n" } else { b"PING fence\n" };
            client.stream.as_mut().expect("a stream").write_all(ping).await.ok();
            let line = client.line().await.unwrap_or_default();
            assert_eq!(line, "OK PING fence", "{who} got more than the transcript says");
        }
    }

    fn is_known(&self, text: &str) -> bool {
        let mut parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
        parts.all(|(name, _)| self.captured.contains_key(name))
    }

    fn replace(&self, text: &str) -> String {
        self.captured.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    fn matches(&mut self, pattern: &str, line: &str) -> Result<(), String> {
        let mut line = line;
        let mut pattern = pattern;
        loop {
            match pattern.find('{') {
                _ if pattern == "..." => {
                    return if line.is_empty() { Err("a text is missing".into()) } else { Ok(()) };
                }
                None => {
                    let (literal, open) = match pattern.strip_suffix("...") {
                        Some(literal) => (literal, true),
                        None => (pattern, false),
                    };
                    let rest = line.strip_prefix(literal).ok_or(format!("not {literal}"))?;
                    return if rest.is_empty() != open { Ok(()) } else { Err(rest.to_owned()) };
                }
                Some(at) => {
                    let literal = &pattern[..at];
                    line = line.strip_prefix(literal).ok_or(format!("not {literal}"))?;
                    let (name, after) = pattern[at + 1..].split_once('}').expect("a }");
                    pattern = after;
                    let end = line.find(' ').unwrap_or(line.len());
                    let field = line[..end].trim_end_matches("\\r");
                    line = &line[field.len()..];
                    self.capture(name, field)?;
                }
            }
        }
    }

    fn capture(&mut self, name: &str, field: &str) -> Result<(), String> {
        if name == "time" {
            let shape: String =
                field.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            let ok = shape == "0000-00-00T00:00:00.000Z";
            return if ok { Ok(()) } else { Err(format!("no time: {field}")) };
        }
        let known = self.captured.entry(name.to_owned()).or_insert_with(|| field.to_owned());
        if known == field { Ok(()) } else { Err(format!("{{{name}}} was {known}")) }
    }
}

fn config(case: &Case) -> Config {
    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.web = config.listen.clone();
    for (key, value) in &case.options {
        let number = || value.parse().unwrap_or_else(|_| panic!("{key}={value}"));
        match key.as_str() {
            "rate" => config.rate = Some(number() as u32),
            "burst" => config.burst = number() as u32,
            "hold" => config.hold = number() as u64,
            "history" => config.history = number(),
            "code-length" => config.code_length = number(),
            "lobby" if value == "none" => config.lobby = None,
            "lobby" => config.lobby = RoomCode::lobby(value).ok(),
            "oper" => config.oper_secret = Some(value.clone()),
            "max-connections" => config.max_connections = number(),
            "max-per-address" => config.max_per_address = number(),
            "max-rooms" => config.max_rooms = number(),
            "max-members" => config.max_members = number(),
            _ => panic!("unknown option {key}"),
        }
    }
    config
}

async fn run(case: &Case, way: Way, cut: Cut) {
    let server = Server::bind(config(case)).expect("a server");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.clone().serve(async {
        stopped.await.ok();
    }));
    let (clients, captured) = (HashMap::new(), HashMap::new());
    let mut run = Run { server, way, cut, clients, captured };
    run.run(&case.steps).await;
    run.fence().await;
    run.clients.clear();
    drop(stop);
    serving.await.expect("the server ends");
}

/// Runs every case; fails at the end with all that failed.
fn run_all(way: Way, cuts: &[Cut]) {
    let mut failures = Vec::new();
    let mut runs = 0;
    for case in cases() {
        let waits = case.steps.iter().any(|step| matches!(step.action, Action::Advance(_)));
        // Time stands still only where nothing but the test moves.
        if waits && way != Way::Pipe || way == Way::WebSocket && !case.is_of_frames() {
            continue;
        }
        for &cut in cuts {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().start_paused(way == Way::Pipe).build();
            let runtime = runtime.expect("a runtime");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                runtime.block_on(run(&case, way, cut));
            }));
            runs += 1;
            if let Err(panic) = result {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let text = text.unwrap_or_default();
                failures.push(format!("{} [{cut:?}] {}\n  {text}", case.file, case.title));
            }
        }
    }
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} of {runs} runs failed:\n{}", failures.join("\n"));
    assert!(runs > 100, "only {runs} runs");
}

impl Case {
    /// Whether the case says nothing of bytes below lines: endings, telnet, ends of file.
    fn is_of_frames(&self) -> bool {
        let below_lines = ["lines.txt", "telnet.txt"].contains(&self.file.as_str());
        let has_bytes = |step: &Step| match &step.action {
            Action::Send(text) => {
                let line = text.strip_suffix("\\n");
                line.is_none_or(|line| unescape(line).iter().any(u8::is_ascii_control))
            }
            Action::Eof => true,
            _ => false,
        };
        // A bridge that is full says so in HTTP.
        let is_of_places = self.options.iter().any(|(key, _)| key == "max-connections");
        !below_lines && !is_of_places && !self.steps.iter().any(has_bytes)
    }
}

#[test]
fn transcripts_run_over_a_web_socket() {
    run_all(Way::WebSocket, &[Cut::Whole, Cut::Glued]);
}

#[test]
fn transcripts_run_over_a_pipe() {
    run_all(Way::Pipe, &[Cut::Whole]);
}

#[test]
fn transcripts_run_over_tcp() {
    run_all(Way::Tcp, &[Cut::Whole]);
}

#[test]
fn transcripts_run_with_every_byte_by_itself() {
    run_all(Way::Pipe, &[Cut::Bytes]);
}

#[test]
fn transcripts_run_cut_inside_characters_and_line_endings() {
    run_all(Way::Pipe, &[Cut::Inside]);
}

#[test]
fn transcripts_run_glued_into_one_write() {
    run_all(Way::Pipe, &[Cut::Glued]);
    run_all(Way::Tcp, &[Cut::Glued]);
}

#[test]
fn transcripts_run_cut_anywhere() {
    let seeds: Vec<Cut> = (1..=12).map(Cut::Seeded).collect();
    run_all(Way::Pipe, &seeds);
}
