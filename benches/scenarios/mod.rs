//! What is measured, for both kinds of measuring.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use parlor::protocol::{Command, Line};
use parlor::{Config, Event, Hub, LineDecoder, Seat, Server, Time};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// What people say: 64 bytes.
const TEXT: &str = "Is anybody here who knows how long the exam on Friday will take?";
/// Lines that one read brings under load.
pub(crate) const LINES_A_READ: usize = 32;

/// Everything runs on one thread: so its instructions can be counted.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Takes reads of a client apart into commands.
pub(crate) struct Reading {
    decoder: LineDecoder,
    bytes: Vec<u8>,
    out: VecDeque<parlor::Received>,
}

impl Reading {
    pub(crate) fn new() -> Reading {
        let bytes = format!("MSG {TEXT}\n").repeat(LINES_A_READ).into_bytes();
        let mut reading = Reading { decoder: LineDecoder::new(true), bytes, out: VecDeque::new() };
        reading.read();
        reading
    }

    /// [`LINES_A_READ`] lines.
    pub(crate) fn read(&mut self) {
        self.decoder.feed(&self.bytes, &mut self.out);
        for received in self.out.drain(..) {
            let parlor::Received::Line(line, _) = received else { panic!("a line") };
            let command = Command::parse(&line, true, false).expect("a command");
            assert!(command.as_message().is_some());
        }
    }
}

/// One line for everybody.
pub(crate) fn encode(id: u64) -> Line {
    let time = Time::from(std::time::UNIX_EPOCH + std::time::Duration::from_millis(id));
    Line::of(&Event::Msg { id, time, name: "Hildegard".into(), text: TEXT.into() })
}

/// A room of members without connections, who sleep until something is said.
pub(crate) struct Cursors {
    speaker: Seat,
    members: Vec<Seat>,
}

impl Cursors {
    pub(crate) fn new(members: usize) -> Cursors {
        let hub = Hub::new(Config::default());
        let join = |name: &str| hub.join("LOBBY", name).expect("a seat");
        let mut cursors = Cursors {
            members: (0..members).map(|n| join(&format!("m{n}"))).collect(),
            speaker: join("speaker"),
        };
        cursors.follow();
        cursors
    }

    /// One message, heard by all.
    pub(crate) fn say(&mut self) {
        let said = {
            let say = pin!(self.speaker.say(TEXT));
            say.poll(&mut Context::from_waker(Waker::noop()))
        };
        assert!(matches!(said, Poll::Ready(Ok(_))));
        self.follow();
    }

    fn follow(&mut self) {
        for seat in &mut self.members {
            while pin!(seat.next()).poll(&mut Context::from_waker(Waker::noop())).is_ready() {}
        }
    }
}

/// A room with history, and somebody at its door.
pub(crate) struct Door {
    client: BufReader<DuplexStream>,
    line: String,
    _host: Seat,
}

impl Door {
    pub(crate) async fn new(messages: usize) -> Door {
        let mut config = Config::default();
        config.listen.clear();
        let server = Server::bind(config).expect("a server");
        let host = server.hub().join("LOBBY", "host").expect("a seat");
        for _ in 0..messages {
            host.say(TEXT).await.expect("said");
        }
        let (client, stream) = tokio::io::duplex(1 << 20);
        server.attach(stream);
        let mut door = Door { client: BufReader::new(client), line: String::new(), _host: host };
        door.expect("HELLO").await;
        door
    }

    /// Comes in, gets all the history, and goes.
    pub(crate) async fn visit(&mut self) {
        self.client.write_all(b"JOIN LOBBY guest 1000\nLEAVE\n").await.expect("written");
        self.expect("OK LEAVE").await;
    }

    async fn expect(&mut self, start: &str) {
        while !self.line.starts_with(start) {
            self.line.clear();
            self.client.read_line(&mut self.line).await.expect("a line");
        }
        self.line.clear();
    }
}

/// A room of members on real sockets, one of whom speaks. The others sleep, and don't read.
pub(crate) struct Sockets {
    speaker: BufReader<TcpStream>,
    line: String,
    members: Vec<BufReader<TcpStream>>,
}

impl Sockets {
    pub(crate) async fn new(members: usize) -> Sockets {
        let mut config = Config::default();
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let server = Server::bind(config).expect("a server");
        let address = server.local_addr().expect("an address");
        tokio::spawn(server.serve(std::future::pending()));
        let mut all = Vec::new();
        for n in 0..=members {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(format!("JOIN LOBBY m{n}\n").as_bytes()).await.expect("written");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while !line.starts_with("OK JOIN") {
                line.clear();
                stream.read_line(&mut line).await.expect("a line");
            }
            all.push(stream);
        }
        let speaker = all.pop().expect("somebody");
        Sockets { speaker, line: String::new(), members: all }
    }

    /// One message, answered when it was written to all.
    pub(crate) async fn say(&mut self) {
        let message = format!("MSG {TEXT}\n");
        self.speaker.get_mut().write_all(message.as_bytes()).await.expect("written");
        self.line.clear();
        self.speaker.read_line(&mut self.line).await.expect("a line");
        assert!(self.line.starts_with("OK MSG"), "{}", self.line);
    }

    /// Every member has as many messages as were said.
    pub(crate) async fn check(&mut self, said: usize) {
        for member in &mut self.members {
            let mut got = 0;
            while got < said {
                self.line.clear();
                let read = member.read_line(&mut self.line).await.expect("a line");
                assert_ne!(read, 0);
                got += usize::from(self.line.starts_with("MSG "));
            }
        }
    }
}

/// A store with messages in it.
pub(crate) struct Stored {
    _folder: tempfile::TempDir,
    config: Config,
}

impl Stored {
    pub(crate) async fn new(messages: usize) -> Stored {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.store = Some(folder.path().join("rooms.db"));
        let stored = Stored { _folder: folder, config };
        let server = Server::bind(stored.config.clone()).expect("a server");
        let speaker = server.hub().join("LOBBY", "speaker").expect("a seat");
        for _ in 0..messages {
            speaker.say(TEXT).await.expect("a message");
        }
        drop(speaker);
        server.serve(std::future::ready(())).await;
        stored
    }

    /// A server that starts with it and stops.
    pub(crate) async fn start(&self) {
        let server = Server::bind(self.config.clone()).expect("a server");
        server.serve(std::future::ready(())).await;
    }
}
