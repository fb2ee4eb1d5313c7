//! What it logs, and what it doesn't.

use super::*;

#[tokio::test]
async fn json_logs_are_one_object_a_line_with_the_counts_of_each_connection() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--log-format", "json"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_LOG_FORMAT", "json");
    for command in [by_flag, by_variable] {
        let daemon = Daemon::spawn(command).await;
        let mut connections = Vec::new();
        for (script, reason, lines, messages) in [
            ("JOIN LOBBY ann\nMSG one\nMSG two\nBOGUS\n", "eof", 4, 2),
            ("MSG nowhere\nPING\nQUIT\n", "quit", 3, 0),
        ] {
            let mut plain = Plain::reach(daemon.addr()).await;
            let peer = plain.local_addr().to_string();
            plain.send(script).await;
            plain.end_input().await;
            let bytes = plain.rest().await.len();
            connections.push((peer, reason, lines, messages, script.len(), bytes));
        }
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        let parse = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
        let events: Vec<Value> = stderr.lines().map(parse).collect();
        assert!(events.iter().all(|event| event.is_object() && event["level"].is_string()));
        for (n, (peer, reason, lines, messages, bytes_in, bytes_out)) in (1..).zip(&connections) {
            let of_it = |event: &&Value| event["fields"]["connection"] == n;
            let own: Vec<&Value> = events.iter().filter(of_it).collect();
            let [connected, ended] = own[..] else { panic!("{own:#?}") };
            assert_eq!(connected["fields"]["message"], "connected");
            assert_eq!(connected["fields"]["peer"], *peer);
            let expected = serde_json::json!({
                "message": "ended", "connection": n, "reason": reason,
                "lines": lines, "messages": messages, "bytes_in": bytes_in, "bytes_out": bytes_out,
            });
            assert_eq!(ended["fields"], expected);
        }
        let listening = &events[0]["fields"];
        assert_eq!(listening["message"], "listening");
        assert!(listening["address"].as_str().is_some_and(|text| text.starts_with("127.0.0.1:")));
    }
}

#[tokio::test]
async fn no_text_no_token_and_no_code_is_ever_logged() {
    for format in ["text", "json"] {
        let mut command = parlor(&["--listen", ANY_PORT, "--log-format", format]);
        // Long codes, so that none is in a time or a port by chance.
        command.args(["--code-length", "16", "--lobby", "NARWHAL"]);
        command.env("RUST_LOG", "trace").env("PARLOR_OPER_SECRET", "capybara");
        let daemon = Daemon::spawn(command).await;

        let mut ann = Plain::connect(daemon.addr()).await;
        ann.send("CREATE ann\nHOLD\n").await;
        let created = ann.expect("OK CREATE _ ann").await;
        let held = ann.expect("OK HOLD _ 30").await;
        let word = |line: &str| line.split(' ').nth(2).expect("a field").to_owned();
        let (code, token) = (word(&created), word(&held));

        let mut bob = Plain::connect(daemon.addr()).await;
        bob.send(format!("JOIN {code} bob\nTALK on\nzebra\n/HOLD\n/PING okapi\n")).await;
        bob.expect("OK JOIN ...").await;
        bob.expect("OK TALK on").await;
        bob.expect("OK MSG ...").await;
        let second_token = word(&bob.expect("OK HOLD _ 30").await);
        bob.expect("OK PING okapi").await;
        ann.send("MSG wombat\nTELL bob quokka\nBOGUS lemur\nMSG ibex \x1b\nMSG tapir \u{202e}\n")
            .await;
        ann.send(format!("MSG {}\nHISTORY\n", "dingo".repeat(500))).await;
        ann.send(b"MSG \xfe vicuna\nOPER gibbon\nOPER capybara\nANNOUNCE ocelot\n").await;
        ann.send("LOCK\nMUTE bob\nKICK bob axolotl\nPING end\n").await;
        while ann.line().await != "OK PING end\n" {}
        bob.rest().await;

        let mut cat = Plain::connect(daemon.addr()).await;
        cat.send("JOIN NARWHAL cat\nLEAVE\nJOIN BCDFGHJKMNPQRSTV cat\n").await;
        cat.send(format!("RESUME {code} iguana-iguana-iguana-iguana 0\nJOIN {code} cat\n")).await;
        cat.send(format!("RESUME {code} {token} 0\nCLOSE\n")).await;
        let seen = cat.rest().await;
        for form in ["OK RESUME _ ann ...", "OK CLOSE", "BYE closed ..."] {
            assert!(seen.lines().any(|line| fits(form, line)), "{form}: {seen}");
        }
        ann.rest().await;
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        assert_eq!(stderr.matches("connected").count(), 3, "it does log: {stderr}");
        let log = stderr.to_lowercase();
        let texts = "zebra okapi wombat quokka lemur ibex tapir dingo vicuna gibbon ocelot axolotl";
        let secrets = [&code, &token, &second_token, "bcdfghjkmnpqrstv"];
        let words = texts.split(' ').chain(["narwhal", "capybara", "iguana"]);
        for secret in words.chain(secrets.map(|secret| secret as &str)) {
            assert!(!log.contains(&secret.to_lowercase()), "{secret} is in the log: {stderr}");
        }
    }
}

/// The crates below log each frame, if they are let.
#[tokio::test]
async fn no_text_token_or_code_of_a_web_socket_is_in_the_log() {
    for wanted in ["trace", "info,tungstenite::protocol=trace,tokio_tungstenite=debug"] {
        let mut command = parlor(&["--listen", ANY_PORT, "--web", ANY_PORT]);
        command.args(["--code-length", "16"]).env_remove("PARLOR_NO_WEB").env("RUST_LOG", wanted);
        let daemon = Daemon::spawn(command).await;
        let mut ann = Client::over(web_socket(daemon.web_addr()).await).greeted().await;
        let code = ann.create("ann").await;
        let token = ann.hold(30).await;
        let mut bob = Client::over(web_socket(daemon.web_addr()).await).greeted().await;
        bob = bob.join(&code, "bob").await;
        ann.ask("MSG wombat").await;
        bob.expect("MSG 1 ").await;
        bob.ask("PING okapi").await;
        bob.ask(&"dingo".repeat(1000)).await;
        bob.ask(&format!("RESUME {code} {token} 0")).await;
        for mut client in [ann, bob] {
            client.send("QUIT").await;
            client.rest().await;
        }
        daemon.terminate();
        let (_, log) = daemon.wait().await;
        assert_eq!(log.matches("connected").count(), 2, "it does log: {log}");
        for secret in [&*code, &token, "wombat", "okapi", "dingo"] {
            assert!(!log.contains(secret), "{secret} is in the log: {log}");
        }
    }
}

#[tokio::test]
async fn traced_lines_show_both_ways_with_escapes_visible() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--trace-wire", "--log-format", "json"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_TRACE_WIRE", "1").env("RUST_LOG", "off");
    for (command, is_json) in [(by_flag, true), (by_variable, false)] {
        let daemon = Daemon::spawn(command).await;
        let mut bob = Plain::in_lobby(daemon.addr(), "bob").await;
        let mut ann = Plain::connect(daemon.addr()).await;
        ann.send(b"JOIN LOBBY ann 0\nMSG a\tb\nMSG \x1b[31mred\nMSG \xfe\x1b \xe2\x98\x95\xe2\n")
            .await;
        ann.send(format!("MSG {}\nPING \u{2615}\n", "dingo".repeat(500))).await;
        ann.end_input().await;
        ann.rest().await;
        bob.expect("JOINED ann").await;
        bob.expect("MSG 1 _ ann a\tb").await;
        drop(bob);
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        assert!(!stderr.contains(['\x1b', '\t']), "nothing raw: {stderr:?}");
        let text = |line: &str| match is_json {
            true => serde_json::from_str::<Value>(line)
                .ok()
                .and_then(|event| Some(event["fields"]["message"].as_str()?.to_owned()))
                .unwrap_or_default(),
            false => line.to_owned(),
        };
        let log: Vec<String> = stderr.lines().map(text).collect();
        for traced in [
            "> HELLO parlor/1 line=2048",
            "< JOIN LOBBY ann 0",
            "> OK JOIN LOBBY ann 0 2 0",
            "> JOINED ann",
            r"< MSG a\tb",
            "> OK MSG 1 ",
            r" ann a\tb",
            r"< MSG \u{1b}[31mred",
            "> ERR * control-char ",
            "< MSG \\xfe\\u{1b} \u{2615}\\xe2",
            "> ERR * not-utf8 ",
            "< line-too-long",
            "> ERR * line-too-long ",
            "< PING \u{2615}",
            "> OK PING \u{2615}",
            "> BYE eof ",
        ] {
            assert!(log.iter().any(|line| line.contains(traced)), "{traced:?} in {log:#?}");
        }
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_those_who_want_them() {
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("RUST_LOG", "trace");
    let daemon = Daemon::spawn(command).await;
    Plain::connect(daemon.addr()).await;
    daemon.stderr_shows("ended").await;
    daemon.terminate();
    assert!(!daemon.wait().await.1.contains('\x1b'), "a pipe is no terminal");

    for (no_color, has_colours) in [("", true), ("1", false)] {
        let parlor = env!("CARGO_BIN_EXE_parlor");
        let command =
            format!("env NO_COLOR={no_color} RUST_LOG=info '{parlor}' --listen {ANY_PORT}");
        let mut terminal = Program::on_terminal("coreutils", &command);
        let told = terminal.shows("To stop it").await;
        let (_, told) = told.split_once("nc 127.0.0.1 ").expect("a port");
        let port: u16 = told.lines().next().and_then(|port| port.parse().ok()).expect("a port");
        let mut plain = Plain::connect(([127, 0, 0, 1], port).into()).await;
        // At Ctrl-C a terminal throws away what it has not shown yet.
        let log = terminal.shows("connected").await;
        terminal.types("\x03").await;
        assert_farewell(&plain.rest().await, 0);
        drop(plain);
        let (status, rest) = terminal.wait().await;
        assert_eq!(status.code(), Some(0), "Ctrl-C stops it: {rest}");
        assert_eq!(log.contains("\x1b["), has_colours, "NO_COLOR={no_color:?}: {log:?}");
    }
}

/// As where somebody has typed Ctrl-S, or pages through them: the pipe stays open.
#[tokio::test]
async fn it_serves_on_while_nobody_reads_its_logs() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ports.json");
    let args = ["--listen", ANY_PORT, "--log-format", "json", "--trace-wire", "--ports-file"];
    let mut child = parlor(&args).arg(&file).spawn().expect("started");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut first = [0; 20];
    soon("a line", stderr.read_exact(&mut first)).await.expect("read");
    let address = read_ports(&file, "line")[0];
    // Of each line there are two in the log, and the pipe holds a few hundred.
    let mut plain = Plain::in_lobby(address, "ann").await;
    for _ in 0..100 {
        plain.send(&"PING here\n".repeat(100)).await;
        for _ in 0..100 {
            assert_eq!(plain.line().await, "OK PING here\n");
        }
    }
    // Now somebody reads them again, and what is new comes too.
    let mut shown = gather(stderr);
    while !shown.borrow().contains("\"reason\":\"quit\"") {
        let mut plain = Plain::in_lobby(address, "ben").await;
        plain.send("QUIT\n").await;
        plain.rest().await;
    }
    signal("TERM", child.id().expect("it runs"));
    assert!(soon("the end", child.wait()).await.expect("it ran").success());
    while soon("the end of the logs", shown.changed()).await.is_ok() {}
    assert!(shown.borrow().contains("lines of this log are lost"));
}

#[tokio::test]
async fn it_serves_on_when_nobody_reads_its_logs_any_more() {
    let mut child = parlor(&["--listen", ANY_PORT]).spawn().expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut port = None;
    while port.is_none() {
        let line = soon("a line", stderr.next_line()).await.expect("read").expect("a line");
        port =
            line.split_once("nc 127.0.0.1 ").map(|(_, port)| port.parse::<u16>().expect("a port"));
    }
    drop(stderr);
    let mut plain = Plain::in_lobby(([127, 0, 0, 1], port.unwrap_or_default()).into(), "ann").await;
    plain.send("MSG still here\nQUIT\n").await;
    let forms = ["OK MSG 1 _", "OK QUIT", "BYE quit ..."];
    assert_lines("without a reader of logs", &plain.rest().await, &forms);
    drop(plain);
    signal("TERM", child.id().expect("it runs"));
    let status = soon("the daemon's end", child.wait()).await.expect("its status");
    assert_eq!(status.code(), Some(0));
}
