//! The real binary, started as a person starts it; other programs beside it; and a plain TCP client
//! to look on with.
//!
//! Nothing here sleeps: the daemon is ready when it says so, and every wait ends with a line, an
//! end of file, or a panic that tells what didn't come.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// How long anything may take. Past it a test fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits what must happen.
pub(crate) async fn soon<F: Future>(what: &str, happens: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(result) => result,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// The program with these arguments, and with nothing that this machine is set to.
pub(crate) fn parlor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.args(args);
    unset(command)
}

/// A command without what this machine is set to, for a program that others start.
pub(crate) fn unset(mut command: Command) -> Command {
    let ours = |name: &str| name.starts_with("PARLOR_") || ["RUST_LOG", "NO_COLOR"].contains(&name);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| ours(name)) {
        command.env_remove(name);
    }
    // Tests run side by side, and the bridge has a port of its own.
    command.env("PARLOR_NO_WEB", "1");
    command.kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program as another one runs it, whose arguments end with it.
pub(crate) fn run_by(mut other: Command, program: &Command) -> Command {
    let program = program.as_std();
    other.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    other
}

/// Runs a program that ends by itself.
pub(crate) async fn output(mut command: Command) -> Output {
    soon("the program's end", command.output()).await.expect("the program starts")
}

/// Sends a signal, such as `TERM`. Without unsafe code only the shell can.
pub(crate) fn signal(name: &str, process: u32) {
    let kill = format!("kill -s {name} {process}");
    let status = std::process::Command::new("sh").args(["-c", &kill]).status();
    assert!(status.is_ok_and(|status| status.success()), "{kill}");
}

/// Whether a line has a form: fields between single blanks, where `_` is any field and a last
/// `...` any text.
pub(crate) fn fits(form: &str, line: &str) -> bool {
    let (mut wanted, mut got) = (form.split(' '), line.split(' '));
    loop {
        match (wanted.next(), got.next()) {
            (None, None) | (Some("..."), Some(_)) => return true,
            (Some("_"), Some(_)) => {}
            (wanted, got) if wanted == got => {}
            _ => return false,
        }
    }
}

/// Checks that these are the lines, one form a line.
pub(crate) fn assert_lines(context: &str, lines: &str, forms: &[&str]) {
    let got: Vec<&str> = lines.lines().collect();
    let fit = got.len() == forms.len() && forms.iter().zip(&got).all(|(form, got)| fits(form, got));
    assert!(fit, "{context}\nwanted: {forms:#?}\ngot: {got:#?}");
}

/// A running daemon. It ends with the value.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    stderr: watch::Receiver<String>,
    addresses: Vec<SocketAddr>,
    web: Vec<SocketAddr>,
    /// Holds `ports.json`.
    folder: TempDir,
}

impl Daemon {
    /// A daemon on a free port of this machine, with more arguments.
    pub(crate) async fn start(args: &[&str]) -> Daemon {
        Daemon::spawn(parlor(&[&["--listen", "127.0.0.1:0"], args].concat())).await
    }

    /// A daemon by its whole command line, but for the ports file.
    pub(crate) async fn spawn(mut command: Command) -> Daemon {
        let folder = TempDir::new().expect("a temporary folder");
        let ports_file = folder.path().join("ports.json");
        command.arg("--ports-file").arg(&ports_file).stdout(Stdio::null());
        let mut child = command.spawn().expect("the daemon starts");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let stderr = gather(stderr);
        let (addresses, web) = (Vec::new(), Vec::new());
        let mut daemon = Daemon { child, stderr, addresses, web, folder };
        daemon.stderr_shows("listening").await;
        daemon.addresses = read_ports(&ports_file, "line");
        daemon.web = read_ports(&ports_file, "web");
        daemon
    }

    /// Where it listens, first of all.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it listens.
    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its bridge listens.
    pub(crate) fn web_addr(&self) -> SocketAddr {
        self.web[0]
    }

    /// The folder of `ports.json`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until stderr holds a text, and returns all of it.
    pub(crate) async fn stderr_shows(&self, text: &str) -> String {
        let mut stderr = self.stderr.clone();
        let shown = soon(text, stderr.wait_for(|all| all.contains(text))).await;
        let shown = shown.map(|all| all.clone());
        shown.unwrap_or_else(|_| panic!("no {text:?} in: {}", *self.stderr.borrow()))
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id().expect("the daemon runs")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.process());
    }

    /// Files that the process has open, sockets among them.
    pub(crate) fn files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process()));
        files.expect("the files of the process").count()
    }

    /// Memory of the process that is in use now.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most that it has used since it began, or since [`Daemon::forget_peak`].
    pub(crate) fn peak_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.process());
        std::fs::write(file, "5").expect("the peak is forgotten");
    }

    fn memory(&self, what: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process()));
        let status = status.expect("the state of the process");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect(what);
        let kib = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<usize>().ok());
        kib.expect("a number") << 10
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for its end; returns how it ended and all that it wrote to stderr.
    pub(crate) async fn wait(mut self) -> (ExitStatus, String) {
        let status = soon("the daemon's end", self.child.wait()).await.expect("its status");
        let all = async { while self.stderr.changed().await.is_ok() {} };
        soon("the end of stderr", all).await;
        let stderr = self.stderr.borrow().clone();
        (status, stderr)
    }
}

/// Reads stderr line by line, so that the daemon never waits for a reader.
pub(crate) fn gather(stderr: ChildStderr) -> watch::Receiver<String> {
    let (all, reader) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
            all.send_modify(|all| all.push_str(&String::from_utf8_lossy(&line)));
            line.clear();
        }
    });
    reader
}

pub(crate) fn read_ports(file: &Path, kind: &str) -> Vec<SocketAddr> {
    let json = std::fs::read(file).expect("the ports file");
    let ports: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let lines = ports[kind].as_array().expect("a list of addresses");
    let address = |line: &serde_json::Value| line.as_str().and_then(|line| line.parse().ok());
    lines.iter().map(|line| address(line).expect("an address")).collect()
}

/// A program that runs, with the ends of its pipes that a person has. It ends with the value.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    /// `None` when its input has ended.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Shown and not looked at.
    unseen: Vec<u8>,
}

impl Program {
    /// Starts a program; `package` is Debian's that has it.
    pub(crate) fn spawn(package: &str, name: &str, mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| {
            panic!("{name} doesn't start ({error}); is it there? apt-get install {package}")
        });
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("a pipe");
        Program { name: name.to_owned(), child, stdin, stdout, unseen: Vec::new() }
    }

    /// Starts a shell command on a terminal of its own, as people have it.
    pub(crate) fn on_terminal(package: &str, command: &str) -> Program {
        // What is typed into script goes to the terminal; what the terminal shows comes out.
        let mut script = Command::new("script");
        script.args(["-qfec", &format!("exec {command}"), "/dev/null"]);
        let mut program = Program::spawn("bsdutils", "script", script);
        program.name = format!("{command} (of Debian's {package})");
        program
    }

    /// Types, or pipes, bytes into the program.
    pub(crate) async fn types(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        let taken = soon("the program to read", stdin.write_all(bytes.as_ref())).await;
        taken.unwrap_or_else(|error| panic!("{} takes no input: {error}", self.name));
    }

    /// Its input, which ends with the value.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.stdin.take().expect("its input is open")
    }

    /// Waits until the program shows a text; returns everything up to it, and forgets that.
    pub(crate) async fn shows(&mut self, text: &str) -> String {
        self.shows_within(PATIENCE, text).await
    }

    /// The same for what takes its time.
    pub(crate) async fn shows_within(&mut self, patience: Duration, text: &str) -> String {
        let name = self.name.clone();
        let shown = async {
            loop {
                let found = self.unseen.windows(text.len()).position(|at| at == text.as_bytes());
                if let Some(at) = found {
                    let seen: Vec<u8> = self.unseen.drain(..at + text.len()).collect();
                    return String::from_utf8_lossy(&seen).into_owned();
                }
                let bytes = self.stdout.read_buf(&mut self.unseen).await;
                let unseen = String::from_utf8_lossy(&self.unseen);
                assert!(bytes.is_ok_and(|n| n > 0), "{name} ends without {text:?}: {unseen:?}");
            }
        };
        let shown = tokio::time::timeout(patience, shown).await;
        shown.unwrap_or_else(|_| panic!("waited {patience:?} for {text:?} from {name}"))
    }

    /// The next line must have this form.
    pub(crate) async fn expect(&mut self, form: &str) {
        let line = self.shows("\n").await;
        assert!(fits(form, line.trim_end()), "{}: wanted {form:?}, got {line:?}", self.name);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id().expect("it runs"));
    }

    /// Everything that it still shows, until it ends by itself.
    pub(crate) async fn rest(self) -> String {
        self.wait().await.1
    }

    /// Waits until it ends by itself; returns how, and everything that it still shows.
    pub(crate) async fn wait(mut self) -> (ExitStatus, String) {
        let what = format!("the end of {}", self.name);
        let shown = self.stdout.read_to_end(&mut self.unseen);
        soon(&what, shown).await.expect("its output");
        let status = soon(&what, self.child.wait()).await.expect("its status");
        (status, String::from_utf8_lossy(&self.unseen).into_owned())
    }
}

/// A plain TCP client, to look on and to lend a hand.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: BufReader<TcpStream>,
}

impl Plain {
    /// Connects, and has read nothing.
    pub(crate) async fn reach(address: SocketAddr) -> Plain {
        let stream = soon("a connection", TcpStream::connect(address)).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Plain { stream: BufReader::new(stream) }
    }

    /// Connects, and has read the greeting.
    pub(crate) async fn connect(address: SocketAddr) -> Plain {
        let mut plain = Plain::reach(address).await;
        plain.expect("HELLO parlor/1 ...").await;
        plain
    }

    /// Connects and sits down in the lobby.
    pub(crate) async fn in_lobby(address: SocketAddr, name: &str) -> Plain {
        let mut plain = Plain::connect(address).await;
        plain.send(format!("JOIN LOBBY {name} 0\n")).await;
        plain.expect(&format!("OK JOIN LOBBY {name} ...")).await;
        plain
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.stream.write_all(bytes.as_ref())).await.expect("written");
    }

    /// Ends the sending side.
    pub(crate) async fn end_input(&mut self) {
        self.stream.shutdown().await.expect("shut down");
    }

    /// The connection, without what has come and was not asked for.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// The address that the daemon sees.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("an address")
    }

    /// The next line with its ending; empty at the end of file.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        soon("a line", self.stream.read_line(&mut line)).await.expect("read");
        line
    }

    /// The next line must have this form; returns it without its ending.
    pub(crate) async fn expect(&mut self, form: &str) -> String {
        let line = self.line().await;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        assert!(fits(form, line), "wanted {form:?}, got {line:?}");
        line.to_owned()
    }

    /// Everything up to the end of file.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        soon("the end of file", self.stream.read_to_string(&mut rest)).await.expect("read");
        rest
    }
}
