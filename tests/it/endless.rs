//! Half a gibibyte where 2 KiB are a line: it costs the real program no memory, and others nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::binary::{Daemon, Plain, parlor, soon};
use crate::bridge::Ws;
use crate::client::Client;

const MIB: usize = 1 << 20;
/// MiB that are sent.
const SENT: usize = 500;
/// Bytes that the process may grow by meanwhile.
const GROWTH: usize = MIB;
/// How long a round of the chat beside it may take: long, for machines that are busy.
const ROUND: Duration = Duration::from_secs(2);

/// A masked frame of text, whose length eight bytes give.
const FRAME: [u8; 2] = [0x81, 0xff];
/// A frame without text, whose message goes on; its mask changes nothing.
const BEGINS: [u8; 6] = [0x01, 0x80, 0, 0, 0, 0];
/// The same with 4096 bytes, which goes on a message.
const CONTINUES: [u8; 8] = [0x00, 0xfe, 0x10, 0x00, 0, 0, 0, 0];
/// A close frame with the status 1009.
const TOO_BIG: [u8; 4] = [0x88, 2, 0x03, 0xf1];

/// Two people who talk, one on each port.
struct Chat {
    line: Client,
    web: Ws,
    /// Messages so far.
    said: u32,
    slowest: Duration,
}

impl Chat {
    async fn begin(daemon: &Daemon) -> Chat {
        let mut line = Client::join(daemon.addr(), "LOBBY", "line").await;
        let web = Ws::join(daemon.web_addr(), "web").await;
        line.expect("JOINED web").await;
        Chat { line, web, said: 0, slowest: Duration::ZERO }
    }

    /// Talks until a task has ended; returns what came of it.
    async fn during<T>(&mut self, mut task: JoinHandle<T>) -> T {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                outcome = &mut task => return outcome.expect("no panic"),
                _ = every.tick() => {}
            }
            let asked = Instant::now();
            self.said += 1;
            self.web.send("MSG from the page").await;
            self.web.expect(&format!("OK MSG {} ", self.said)).await;
            self.line.expect(&format!("MSG {} ", self.said)).await;
            self.slowest = self.slowest.max(asked.elapsed());
        }
    }
}

/// Sends a line of so many MiB, and one behind it.
async fn line(address: SocketAddr, mebibytes: usize) -> usize {
    let mut long = Plain::connect(address).await;
    let part = vec![b'x'; MIB];
    for _ in 0..mebibytes {
        long.send(&part).await;
    }
    long.send("\nPING still there\n").await;
    long.expect("ERR * line-too-long ...").await;
    long.expect("OK PING still there").await;
    mebibytes
}

/// Sends a WebSocket's message, of so many parts of one MiB each, behind these bytes. All that is
/// said to it is that it is too big; a client who goes on all the same is closed in a while. Returns
/// how many parts were taken.
async fn message(address: SocketAddr, begin: Vec<u8>, part: Vec<u8>, mebibytes: usize) -> usize {
    let (mut reader, mut writer) = Ws::open(address).await.into_stream().into_split();
    let writing = async {
        let mut taken = 0;
        let mut written = writer.write_all(&begin).await;
        while written.is_ok() && taken < mebibytes {
            written = writer.write_all(&part).await;
            taken += usize::from(written.is_ok());
        }
        taken
    };
    let reading = async {
        let mut all = Vec::new();
        // A reset is an end as well: what came before it has been read.
        while reader.read_buf(&mut all).await.is_ok_and(|bytes| bytes > 0) {}
        all
    };
    let both = async { tokio::join!(writing, reading) };
    let (taken, all) = soon("the end of a WebSocket", both).await;
    assert_eq!(all, TOO_BIG, "{}", all.escape_ascii());
    taken
}

/// Tries an attack: once a little, for what it makes the process load, then as much as is meant.
async fn costs_nothing<A: Future<Output = usize> + Send + 'static>(
    daemon: &Daemon,
    chat: &mut Chat,
    what: &str,
    attack: impl Fn(usize) -> A,
) {
    chat.during(tokio::spawn(attack(8))).await;
    let before = daemon.resident_bytes();
    daemon.forget_peak();
    let start = Instant::now();
    let taken = chat.during(tokio::spawn(attack(SENT))).await;
    let grown = daemon.peak_bytes().saturating_sub(before);
    println!("{what}: {taken} MiB in {:?}, {grown} bytes more", start.elapsed());
    assert!(grown <= GROWTH, "{what}: {grown} bytes more");
}

// clause: LINE-6, LINE-10, WS-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_gibibyte_without_an_end_costs_no_memory_and_disturbs_nobody() {
    let mut command = parlor(&["--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    command.env_remove("PARLOR_NO_WEB");
    let daemon = Daemon::spawn(command).await;
    let (address, web) = (daemon.addr(), daemon.web_addr());
    let mut chat = Chat::begin(&daemon).await;
    costs_nothing(&daemon, &mut chat, "a line", |mebibytes| line(address, mebibytes)).await;
    costs_nothing(&daemon, &mut chat, "one frame", |mebibytes| {
        let length = ((mebibytes * MIB) as u64).to_be_bytes();
        let begin = [&FRAME[..], &length, &[0; 4]].concat();
        message(web, begin, vec![b'x'; MIB], mebibytes)
    })
    .await;
    costs_nothing(&daemon, &mut chat, "frames of 4 KiB", |mebibytes| {
        let frame = [&CONTINUES[..], &[b'x'; 4096]].concat();
        message(web, BEGINS.to_vec(), frame.repeat(MIB / 4096), mebibytes)
    })
    .await;
    let (rounds, slowest) = (chat.said, chat.slowest);
    println!("{rounds} rounds beside it, the slowest {slowest:?}");
    assert!(slowest < ROUND, "{slowest:?}");
    chat.line.expect_nothing().await;
}
