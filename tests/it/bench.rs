//! `parlor bench`, against real servers, and against one that makes mistakes.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::binary::{Daemon, output, parlor, signal, soon};

async fn bench(args: &[&str]) -> Output {
    output(parlor(&[&["bench"], args].concat())).await
}

async fn bench_json(args: &[&str]) -> (Option<i32>, Value) {
    let output = bench(&[args, &["--json"]].concat()).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap_or_else(|error| panic!("{error}: {stderr}")))
}

async fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = bench(args).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// What the faulty server does with the fifth message to member 2.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Drops,
    /// And all that follow.
    DropsTheRest,
    Doubles,
    /// With the sixth.
    Swaps,
    Alters,
    Renumbers,
    Closes,
}

/// A server of one room, with no more of the protocol than the bench needs.
struct Faulty {
    fault: Fault,
    said: watch::Sender<u64>,
    members: Vec<(String, UnboundedSender<String>)>,
}

/// Starts it; the other value is how many messages it was sent.
async fn faulty(fault: Fault) -> (SocketAddr, watch::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (said, heard) = watch::channel(0);
    let room = Arc::new(Mutex::new(Faulty { fault, said, members: Vec::new() }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, room.clone()));
        }
    });
    (address, heard)
}

async fn converse(stream: TcpStream, room: Arc<Mutex<Faulty>>) {
    let (reader, mut writer) = stream.into_split();
    let (out, mut lines) = unbounded_channel::<String>();
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await.filter(|line| !line.is_empty()) {
            writer.write_all(line.as_bytes()).await.ok();
        }
    });
    out.send("HELLO parlor/1\n".to_owned()).ok();
    let mut reader = BufReader::new(reader).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        let mut room = room.lock().expect("the room");
        let reply = match line.split_once(' ') {
            Some(("CREATE", name)) => format!("OK CREATE BCDF {name}\n"),
            Some(("JOIN", rest)) => {
                let name = rest.split(' ').nth(1).expect("a name");
                room.members.push((name.to_owned(), out.clone()));
                format!("OK JOIN BCDF {name} 0 2 0\n")
            }
            Some(("MSG", text)) => format!("OK MSG {} now\n", room.tell(text)),
            _ => format!("OK {line}\n"),
        };
        out.send(reply).ok();
    }
}

impl Faulty {
    fn tell(&self, text: &str) -> u64 {
        self.said.send_modify(|said| *said += 1);
        let id = *self.said.borrow();
        let right = format!("MSG {id} now bench {text}\n");
        for (name, member) in &self.members {
            let lines = match self.fault {
                Fault::None => right.clone(),
                _ if name != "m2" || id < 5 => right.clone(),
                Fault::DropsTheRest => continue,
                // The late fifth has a text of its own; it is too late to be looked at.
                Fault::Swaps if id == 6 => format!("{right}MSG 5 now bench late\n"),
                _ if id > 5 => right.clone(),
                Fault::Drops | Fault::Swaps => continue,
                Fault::Doubles => right.repeat(2),
                Fault::Alters => right.to_uppercase(),
                Fault::Renumbers => format!("MSG 500000000 now bench {text}\n{right}"),
                Fault::Closes => String::new(),
            };
            member.send(lines).ok();
        }
        id
    }
}

/// Runs a bench of a faulty server until that was sent so many messages.
async fn bench_of(fault: Fault, messages: u64, more: &[&str]) -> Output {
    let (address, mut said) = faulty(fault).await;
    let address = address.to_string();
    let args = ["bench", &address, "--members", "3", "--window", "4", "--duration", "1h"];
    let bench = parlor(&[&args, more].concat()).spawn().expect("it starts");
    let process = bench.id().expect("it runs");
    let ended = bench.wait_with_output();
    tokio::pin!(ended);
    soon("messages, or its end", async {
        tokio::select! {
            // What it returns would keep the server from counting.
            () = async { drop(said.wait_for(|said| *said >= messages).await) } => {
                signal("INT", process);
                ended.await
            }
            // A closed connection ends it before.
            ended = &mut ended => ended,
        }
    })
    .await
    .expect("an end")
}

/// Processes that were started with this in their environment, and the words they were started by.
fn marked(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let marked = processes.filter(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).split('\0').any(|variable| variable == mark)
    });
    marked
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .map(|words| words.replace('\0', " "))
        .collect()
}

#[tokio::test]
async fn a_bench_of_its_own_server_is_exact_over_both_transports() {
    for more in [&[][..], &["--ws"]] {
        let args = [&["--rooms", "2", "--members", "3", "--duration", "500ms"], more].concat();
        let output = bench(&args).await;
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{more:?}: {text}{stderr}");
        assert_eq!(stderr, "", "no progress where nobody looks");
        for (name, value) in [
            ("rooms", if more.is_empty() { "2 of 3 members, TCP" } else { "WebSocket" }),
            ("server's CPU", "us a delivery"),
            ("deliveries", "a second"),
            ("p99.9", " us"),
            ("lost", "0"),
            ("doubled", "0"),
            ("out of order", "0"),
            ("altered", "0"),
        ] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name:<16}")));
            assert!(line.is_some_and(|line| line.contains(value)), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn a_rate_is_kept_and_told_as_json() {
    let size = ["--rooms", "2", "--members", "3", "--rate", "50", "--duration", "0.4"];
    let (code, json) = bench_json(&size).await;
    assert_eq!(code, Some(0), "{json}");
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("no {key}: {json}"));
    // 50 a second are 20 in 0.4 s, in each room.
    assert_eq!(number("messages") + number("unsent"), 40.0, "{json}");
    assert_eq!(number("deliveries"), 3.0 * number("messages"), "{json}");
    assert!(number("messages") > 0.0 && number("seconds") >= 0.4, "{json}");
    for key in ["deliveries_per_second", "server_cpu_us_per_delivery", "server_cpu_percent"] {
        assert!(number(key) > 0.0, "{key}: {json}");
    }
    assert!(number("bench_cpu_percent") > 0.0, "{json}");
    for key in ["lost", "doubled", "out_of_order", "altered"] {
        assert_eq!(json[key], 0, "{key}: {json}");
    }
    let latency = |key: &str| json["latency_us"][key].as_f64().expect("a latency");
    let all = ["p50", "p99", "p99.9", "max"].map(latency);
    assert!(all[0] > 0.0 && all.is_sorted(), "{json}");
    assert_eq!((&json["rate"], &json["window"]), (&50.into(), &Value::Null));
    assert_eq!((&json["rooms"], &json["members"]), (&2.into(), &3.into()));
    assert_eq!((&json["transport"], &json["exact"]), (&"tcp".into(), &true.into()));
    assert_eq!(json["faults"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_server_that_runs_already_is_measured_by_its_address() {
    let daemon = Daemon::start(&[]).await;
    let address = daemon.addr().to_string();
    let (code, json) = bench_json(&[&address, "--members", "2", "--duration", "200ms"]).await;
    assert_eq!((code, &json["exact"]), (Some(0), &true.into()), "{json}");
    assert_eq!(json["server_cpu_percent"], Value::Null, "nobody said which process it is");
}

#[tokio::test]
async fn each_fault_of_a_server_is_found_named_and_exit_code_1() {
    for (fault, key, words) in [
        (Fault::None, "", ""),
        (Fault::Drops, "lost", "1 lost, the first is message 5"),
        (Fault::DropsTheRest, "lost", "4 lost, the first is message 5"),
        (Fault::Doubles, "doubled", "message 5 came twice"),
        (Fault::Swaps, "out_of_order", "message 5 came after message 6"),
        (Fault::Alters, "altered", "message 5 came as \"NOW BENCH "),
        (Fault::Renumbers, "altered", "an id that was not sent, 500000000"),
        (Fault::Closes, "", "the server closed the connection"),
    ] {
        // All that fit into the window, where it stays closed.
        let messages = if fault == Fault::DropsTheRest { 8 } else { 50 };
        let output = bench_of(fault, messages, &["--json"]).await;
        let code = output.status.code();
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        if fault == Fault::None {
            assert_eq!((code, &json["exact"]), (Some(0), &true.into()), "{json}");
            continue;
        }
        assert_eq!((code, &json["exact"]), (Some(1), &false.into()), "{fault:?}: {json}");
        let told = json["faults"][0].as_str().expect("a fault");
        assert!(
            told.starts_with("room 1, member 2: ") && told.contains(words),
            "{fault:?}: {json}"
        );
        for count in ["lost", "doubled", "out_of_order", "altered"] {
            let wanted = match fault {
                Fault::Closes => continue,
                Fault::DropsTheRest if count == key => 4,
                _ => u64::from(count == key),
            };
            assert_eq!(json[count], wanted, "{fault:?}: {count}: {json}");
        }
    }
}

#[tokio::test]
async fn faults_are_told_to_people_as_well() {
    let output = bench_of(Fault::Drops, 50, &[]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "parlor: room 1, member 2: 1 lost, the first is message 5\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\nlost            1\n"));
}

#[tokio::test]
async fn a_signal_ends_it_with_what_was_measured_so_far() {
    for name in ["INT", "TERM", "HUP"] {
        let (address, mut said) = faulty(Fault::None).await;
        let args = ["bench", &address.to_string(), "--members", "2", "--duration", "1h", "--json"];
        let bench = parlor(&args).spawn().expect("it starts");
        drop(soon("a hundred messages", said.wait_for(|said| *said >= 100)).await);
        signal(name, bench.id().expect("it runs"));
        let output = soon("its end", bench.wait_with_output()).await.expect("an end");
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(0), "{json}");
        assert!(json["messages"].as_u64() >= Some(100), "{json}");
        assert_eq!(json["deliveries"].as_u64(), json["messages"].as_u64().map(|n| 2 * n));
    }
}

#[tokio::test]
async fn its_own_server_is_another_process_and_ends_with_it() {
    for signals in [1, 2] {
        let mark = format!("BENCH_TEST_MARK={}-{signals}", std::process::id());
        let mut command = parlor(&["bench", "--members", "2", "--duration", "1h"]);
        let (name, value) = mark.split_once('=').expect("a variable");
        let bench = command.env(name, value).spawn().expect("it starts");
        soon("a server", async {
            while !marked(&mark).iter().any(|words| words.contains(" serve ")) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for _ in 0..signals {
            signal("INT", bench.id().expect("it runs"));
        }
        let status = soon("its end", bench.wait_with_output()).await.expect("an end").status;
        assert!(status.code().is_some(), "it ends by itself: {status}");
        soon("no process", async {
            while !marked(&mark).is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn where_nothing_can_be_measured_it_says_why() {
    let free = StdListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (code, stderr) = refused(&[&free.expect("a port").to_string()]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("Connection refused"), "{stderr}");

    let daemon = Daemon::start(&["--max-members", "3"]).await;
    let address = daemon.addr().to_string();
    let (code, stderr) = refused(&[&address, "--members", "5"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("ERR JOIN room-full"), "{stderr}");

    // Lines are spoken there, and no HTTP.
    let (code, stderr) = refused(&[&address, "--ws"]).await;
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("it opens no WebSocket"), "{stderr}");
}

#[tokio::test]
async fn bad_usage_of_the_bench_is_exit_code_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 12] = [
        (&["nonsense"], "HOST:PORT"),
        (&["http://127.0.0.1:7778"], "HOST:PORT"),
        (&["127.0.0.1:70000"], "HOST:PORT"),
        (&["--rooms", "0"], "--rooms"),
        (&["--members", "0"], "--members"),
        (&["--rate", "0"], "--rate"),
        (&["--window", "0"], "--window"),
        (&["--rate", "9", "--window", "9"], "cannot be used with"),
        (&["--duration", "0"], "it is written like"),
        (&["--duration", "2days"], "a day at most"),
        (&["--pid", "1"], "<ADDR>"),
        (&["--rooms", "4294967295", "--members", "4294967295"], "ulimit -n"),
    ];
    for (args, text) in cases {
        let (code, stderr) = refused(args).await;
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
}
