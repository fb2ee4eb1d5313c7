//! Flags and variables, and what is wrong with them.

use super::*;

#[tokio::test]
async fn a_port_in_use_is_exit_code_3_and_a_way_out() {
    let taken = TcpListener::bind(ANY_PORT).expect("a port");
    let address = taken.local_addr().expect("an address");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ports.json").display().to_string();
    let listen = ["--listen", ANY_PORT, "--listen", &address.to_string()];
    for format in ["text", "json"] {
        let more = ["--ports-file", &file, "--log-format", format];
        let (code, stderr) = failure(parlor(&[&listen[..], &more].concat())).await;
        assert_eq!(code, Some(3), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&format!("port {} is in use", address.port())), "{stderr}");
        assert!(stderr.contains("--listen 127.0.0.1:0"), "{stderr}");
        assert!(!Path::new(&file).exists(), "not all listen, so no port is told");
    }
}

#[tokio::test]
async fn bad_usage_is_exit_code_2_and_says_what_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    let (empty, blank) =
        (secret_file(&folder, "empty", ""), secret_file(&folder, "blank", " \r\n"));
    let several = secret_file(&folder, "several", "let me in\nplease\n");
    let escape = secret_file(&folder, "escape", "\x1b[A\n");
    let long = secret_file(&folder, "long", &"x".repeat(1801));
    let cases: [(&[&str], &str); 22] = [
        (&["--frobnicate"], "--frobnicate"),
        (&["frobnicate"], "frobnicate"),
        (&["--listen", "nonsense"], "ADDR:PORT"),
        (&["--listen", "127.0.0.1"], "ADDR:PORT"),
        (&["--listen", "127.0.0.1:70000"], "ADDR:PORT"),
        (&["--listen"], "--listen"),
        (&["--listen", ANY_PORT, "--public"], "--public"),
        (&["--rate", "fast"], "--rate"),
        (&["--burst", "0"], "--burst"),
        (&["--hold", "0"], "--hold"),
        (&["--hold", "601"], "--hold"),
        (&["--code-length", "3"], "--code-length"),
        (&["--code-length", "17"], "--code-length"),
        (&["--lobby", "no spaces"], "--lobby"),
        (&["--max-members", "-1"], "-1"),
        (&["--log-format", "xml"], "json"),
        (&["--oper-secret-file", &empty], "secret is empty"),
        (&["--oper-secret-file", &blank], "secret is empty"),
        (&["--oper-secret-file", &several], "secret is one line"),
        (&["--oper-secret-file", &escape], "secret can't be sent"),
        (&["--oper-secret-file", &long], "secret can't be sent"),
        (&["--oper-secret-file", "/no/such/file"], "/no/such/file"),
    ];
    for (args, text) in cases {
        let (code, stderr) = failure(parlor(args)).await;
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_bad_environment_is_exit_code_2_and_says_what_is_wrong() {
    let cases = [
        ("RUST_LOG", "parlor=loud", "RUST_LOG"),
        ("RUST_LOG", "==", "RUST_LOG"),
        ("PARLOR_LISTEN", "nonsense", "ADDR:PORT"),
        ("PARLOR_LISTEN", "127.0.0.1:0,nonsense", "ADDR:PORT"),
        ("PARLOR_HOLD", "long", "invalid digit"),
        ("PARLOR_HOLD", "601", "1..=600"),
        ("PARLOR_MAX_ROOMS", "-1", "invalid digit"),
        ("PARLOR_LOBBY", " ", "1 to 16"),
        ("PARLOR_LOG_FORMAT", "xml", "json"),
        ("PARLOR_ALLOW_ORIGIN", "example.org", "https://example.org"),
        ("PARLOR_OPER_SECRET", " ", "secret is empty"),
        ("PARLOR_OPER_SECRET", "let me in\nplease", "secret is one line"),
    ];
    for (variable, value, text) in cases {
        for first in [&[][..], &["serve"]] {
            let mut command = parlor(first);
            command.env(variable, value);
            let (code, stderr) = failure(command).await;
            assert_eq!(code, Some(2), "{variable}={value}: {stderr}");
            assert!(stderr.contains(text), "{variable}={value}: {stderr}");
            assert!(stderr.contains(variable), "{variable}={value}: {stderr}");
        }
    }
    let mut command = parlor(&[]);
    command.env("PARLOR_OPER_SECRET_FILE", "/no/such/file");
    assert!(failure(command).await.1.contains("/no/such/file"));
    // What the flag says is the flag's mistake.
    for args in [["--hold", "long"], ["--hold=long", "--no-web"]] {
        let mut command = parlor(&args);
        command.env("PARLOR_HOLD", "longer");
        let (code, stderr) = failure(command).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--hold") && !stderr.contains("PARLOR_HOLD"), "{stderr}");
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let help = printed(&["--help"]).await;
    let variables: Vec<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| Some(rest.split_once('=')?.0)).collect();
    assert!(variables.len() >= 17, "{variables:?}");
    let empty = |args: &[&str]| {
        let mut command = parlor(args);
        for variable in variables.iter().chain(&["PARLOR_OPER_SECRET"]) {
            command.env(variable, "");
        }
        command
    };
    for first in [&[][..], &["serve"]] {
        // Any ports: those of its own are another test's.
        let args = [first, &["--listen", ANY_PORT, "--web", ANY_PORT]].concat();
        let daemon = Daemon::spawn(empty(&args)).await;
        let mut plain = Plain::in_lobby(daemon.addr(), "ann").await;
        plain.send("OPER \nOPER x\nHOLD\n").await;
        plain.expect("ERR OPER bad-args ...").await;
        plain.expect("ERR OPER bad-secret ...").await;
        plain.expect("OK HOLD _ 30").await;
        // Nothing is wrong with them before the secret is looked for.
        let args = [first, &["--public", "--oper-secret-file", "/no/such/file"]].concat();
        let (code, stderr) = failure(empty(&args)).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("/no/such/file"), "{stderr}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_bad_usage_and_not_passed_over() {
    let not_utf8 = OsStr::from_bytes(b"caf\xe9");
    for variable in ["RUST_LOG", "PARLOR_OPER_SECRET", "PARLOR_LOBBY"] {
        let mut command = parlor(&["--listen", ANY_PORT]);
        command.env(variable, not_utf8);
        let (code, stderr) = failure(command).await;
        assert_eq!(code, Some(2), "{variable}: {stderr}");
        assert!(stderr.contains(&format!("{variable} is not UTF-8")), "{stderr}");
    }
}

#[tokio::test]
async fn what_the_system_refuses_is_exit_code_1_in_one_line() {
    let cases: [(&[&str], &str); 2] = [
        (&["--listen", ANY_PORT, "--ports-file", "/no/such/folder/ports.json"], "/no/such/folder"),
        // An address for documentation, which no machine has.
        (&["--listen", "203.0.113.1:0"], "203.0.113.1:0"),
    ];
    for (args, text) in cases {
        let (code, stderr) = failure(parlor(args)).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
    }
}

// What can be set.

/// What somebody sees who connects while somebody else stays: everything up to the end.
async fn second_conversation(daemon: &Daemon, first: &str, second: &str) -> String {
    let mut staying = Plain::connect(daemon.addr()).await;
    staying.send(format!("{first}PING\n")).await;
    while staying.line().await != "OK PING\n" {}
    let mut plain = Plain::reach(daemon.addr()).await;
    plain.send(second).await;
    plain.end_input().await;
    plain.rest().await
}

#[tokio::test]
async fn every_flag_works_and_so_does_its_variable() {
    let folder = TempDir::new().expect("a folder");
    let file = secret_file(&folder, "secret", "let me in\r\n");
    // The flag and its value, what the first says, what the second says, and what he then sees.
    let cases = [
        ("--lobby", "Class", "", "JOIN cLASS ann 0\n", "OK JOIN CLASS ann 0 1 0"),
        ("--no-lobby", "", "", "JOIN LOBBY ann 0\n", "ERR JOIN bad-code ..."),
        ("--hold", "77", "", "", "HELLO parlor/1 line=2048,text=1800,hold=77 ..."),
        ("--history", "2", "", "CREATE a\nMSG 1\nMSG 2\nMSG 3\nHISTORY\n", "OK HISTORY 2"),
        ("--max-members", "1", "JOIN LOBBY ann\n", "JOIN LOBBY bob\n", "ERR JOIN room-full ..."),
        ("--max-rooms", "1", "CREATE ann\n", "CREATE bob\n", "ERR CREATE busy ..."),
        ("--max-connections", "1", "", "", "BYE busy ..."),
        ("--oper-secret-file", &file, "", "OPER let me in\n", "OK OPER"),
    ];
    for (flag, value, first, second, form) in cases {
        let args = if value.is_empty() { vec![flag] } else { vec![flag, value] };
        let by_flag = Daemon::start(&args).await;
        let mut variable = parlor(&["--listen", ANY_PORT]);
        let name = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
        variable.env(format!("PARLOR_{name}"), if value.is_empty() { "1" } else { value });
        let by_variable = Daemon::spawn(variable).await;
        for daemon in [by_flag, by_variable] {
            let shown = second_conversation(&daemon, first, second).await;
            assert!(shown.lines().any(|line| fits(form, line)), "{flag}: {form:?} in {shown}");
        }
    }
}

#[tokio::test]
async fn room_codes_are_as_long_as_wanted() {
    let daemon = Daemon::start(&["--code-length", "9"]).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    plain.send("CREATE\n").await;
    assert_eq!(plain.expect("OK CREATE _").await.len(), "OK CREATE ".len() + 9);
}

#[tokio::test]
async fn the_operators_secret_can_be_a_variable() {
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("PARLOR_OPER_SECRET", "let me in");
    let daemon = Daemon::spawn(command).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    plain.send("OPER let me\nOPER let me in\n").await;
    plain.expect("ERR OPER bad-secret ...").await;
    plain.expect("OK OPER").await;
}

#[tokio::test]
async fn a_flag_beats_its_variable() {
    let mut command = parlor(&["--listen", ANY_PORT, "--hold", "9"]);
    command.env("PARLOR_HOLD", "8").env("PARLOR_LISTEN", "192.0.2.1:1");
    let daemon = Daemon::spawn(command).await;
    let shown = second_conversation(&daemon, "", "JOIN LOBBY ann\nHOLD\n").await;
    let last = shown.lines().nth_back(1).expect("lines");
    assert!(fits("OK HOLD _ 9", last), "{shown}");
}

#[tokio::test]
async fn a_variable_that_says_no_is_as_if_it_were_not_there() {
    for no in ["0", "false", "no", "off", ""] {
        let mut command = parlor(&["--listen", ANY_PORT]);
        for variable in ["PARLOR_PUBLIC", "PARLOR_NO_LOBBY", "PARLOR_TRACE_WIRE"] {
            command.env(variable, no);
        }
        let daemon = Daemon::spawn(command).await;
        Plain::in_lobby(daemon.addr(), "ann").await;
        daemon.terminate();
        let stderr = daemon.wait().await.1;
        assert!(!stderr.contains("HELLO"), "{no:?}: {stderr}");
    }
}

#[tokio::test]
async fn who_is_faster_than_the_rate_is_slowed_and_nothing_is_lost() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--rate", "20", "--burst", "5"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_RATE", "20").env("PARLOR_BURST", "5");
    for command in [by_flag, by_variable] {
        let daemon = Daemon::spawn(command).await;
        let mut plain = Plain::connect(daemon.addr()).await;
        let lines: String = (1..=30).map(|n| format!("PING {n}\n")).collect();
        let start = Instant::now();
        plain.send(lines).await;
        for n in 1..=30 {
            plain.expect(&format!("OK PING {n}")).await;
        }
        // 5 at once, and 25 of 20 a second.
        let took = start.elapsed();
        assert!((1.0..10.0).contains(&took.as_secs_f64()), "{took:?}");
    }
}

#[tokio::test]
async fn one_address_of_the_network_is_limited_and_this_machine_is_not() {
    for ip in network_addresses() {
        let listen = SocketAddr::from((ip, 0)).to_string();
        let daemon =
            Daemon::start(&["--listen", &listen, "--max-per-address", "1", "--burst", "9"]).await;
        let mut here = Plain::connect(daemon.addr()).await;
        Plain::connect(daemon.addr()).await;
        let elsewhere = daemon.addrs()[1];
        let mut first = Plain::connect(elsewhere).await;
        let mut second = Plain::reach(elsewhere).await;
        second.expect("BYE busy ...").await;
        assert_eq!(second.rest().await, "");

        let lines = "PING\n".repeat(20);
        let start = Instant::now();
        first.send(&lines).await;
        here.send(&lines).await;
        for _ in 0..20 {
            first.expect("OK PING").await;
            here.expect("OK PING").await;
        }
        let took = start.elapsed();
        assert!(took > Duration::from_secs(1), "9 at once, and 11 of 10 a second: {took:?}");
    }
}
