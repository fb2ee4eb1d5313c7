//! Help, and where it listens.

use super::*;

#[tokio::test]
async fn help_names_a_variable_for_every_flag() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = printed(args).await;
        let mut flags: Vec<(String, String)> = Vec::new();
        for line in help.lines().map(str::trim) {
            // Single dashes begin lists of values as well.
            if ["--", "-h,", "-V,"].iter().any(|dash| line.starts_with(dash)) {
                let flag = line.split_whitespace().find(|word| word.starts_with("--"));
                flags.push((flag.expect("a long flag").to_owned(), String::new()));
            } else if let Some((_, text)) = flags.last_mut() {
                text.push_str(line);
            }
        }
        flags.retain(|(flag, _)| !["--help", "--version"].contains(&flag.as_str()));
        assert!(flags.len() >= 17, "{flags:#?}");
        for (flag, text) in &flags {
            let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
            assert!(text.contains(&format!("[env: PARLOR_{variable}=")), "{flag}: {text}");
        }
    }
}

#[tokio::test]
async fn help_has_examples_that_can_be_run() {
    let help = printed(&["--help"]).await;
    let (_, examples) = help.split_once("Examples:\n").expect("examples");
    let (examples, rest) = examples.split_once("\n\n").expect("a paragraph");
    let starts = examples.lines().filter_map(|line| line.find("parlor").map(|at| &line[at..]));
    let commands: Vec<_> = starts.map(|line| line.split("  ").next().unwrap_or(line)).collect();
    assert!(commands.len() >= 5, "{examples}");
    for command in commands {
        // A flag that there isn't would be refused.
        let args: Vec<_> = command.split_whitespace().skip(1).chain(["--version"]).collect();
        assert!(printed(&args).await.starts_with("parlor "), "{command}");
    }
    assert!(help.contains("nc 127.0.0.1 7777"), "{help}");
    assert!(rest.contains("Exit codes: 0 "), "{rest}");
}

#[tokio::test]
async fn version_and_short_help_are_told() {
    let version = concat!("parlor ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(printed(&["--version"]).await, version);
    assert_eq!(printed(&["-V"]).await, version);
    assert!(printed(&["-h"]).await.contains("Usage: parlor"));
    assert!(printed(&["help"]).await.contains("Examples:"));
}

// Where it listens.

#[tokio::test]
async fn it_listens_on_every_address_and_writes_the_ports_down() {
    let args = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", "localhost:0"];
    let mut variable = parlor(&["serve"]);
    variable.env("PARLOR_LISTEN", "127.0.0.1:0,[::1]:0,localhost:0");
    for command in [parlor(&args), variable] {
        let daemon = Daemon::spawn(command).await;
        let [v4, v6, localhost] = daemon.addrs() else { panic!("{:?}", daemon.addrs()) };
        assert!(v4.is_ipv4() && v6.is_ipv6() && localhost.ip().is_loopback());
        let json = std::fs::read_to_string(daemon.folder().join("ports.json")).expect("the file");
        let expected = format!(r#"{{"line":["{v4}","{v6}","{localhost}"],"web":[]}}"#);
        assert_eq!(json.trim_end(), expected);
        let stderr = daemon.stderr_shows("To stop it").await;
        for address in daemon.addrs() {
            assert!(stderr.contains(&format!("nc {} {}\n", address.ip(), address.port())));
            Plain::connect(*address).await;
        }
    }
}

#[tokio::test]
async fn one_address_is_written_down_alone() {
    let daemon = Daemon::start(&[]).await;
    let json = std::fs::read_to_string(daemon.folder().join("ports.json")).expect("the file");
    let expected = format!(r#"{{"line":["127.0.0.1:{}"],"web":[]}}"#, daemon.addr().port());
    assert_eq!(json.trim_end(), expected);
}

#[tokio::test]
async fn the_ports_file_appears_whole_in_place_of_an_old_one() {
    let folder = TempDir::new().expect("a folder");
    let (file, witness) = (folder.path().join("ports.json"), folder.path().join("witness"));
    std::fs::write(&file, "old").expect("written");
    std::fs::hard_link(&file, &witness).expect("a second name for the old file");
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("PARLOR_PORTS_FILE", &file);
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    soon("a line", lines.next_line()).await.expect("read");
    // It was moved there and not written there: nobody has seen the half of it.
    assert_eq!(std::fs::read_to_string(&witness).expect("read"), "old");
    let new = std::fs::read_to_string(&file).expect("read");
    assert!(new.starts_with(r#"{"line":["127.0.0.1:"#), "{new}");
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 2, "nothing is left over");
}

#[tokio::test]
async fn all_interfaces_are_told_with_the_addresses_that_others_need() {
    let daemon = Daemon::start(&["--listen", "0.0.0.0:0", "--listen", "[::]:0"]).await;
    let stderr = daemon.stderr_shows("To stop it").await;
    let [_, v4, v6] = daemon.addrs() else { panic!("{:?}", daemon.addrs()) };
    let told = |ip: IpAddr, port: u16| stderr.contains(&format!(" nc {ip} {port}\n"));
    for port in [v4.port(), v6.port()] {
        assert!(told([127, 0, 0, 1].into(), port), "{stderr}");
    }
    for ip in network_addresses() {
        assert_eq!(told(ip, v4.port()), ip.is_ipv4(), "{ip}: {stderr}");
        assert!(told(ip, v6.port()), "{ip}: {stderr}");
        Plain::connect((ip, v6.port()).into()).await;
    }
    assert!(!stderr.contains("--public"), "it is public: {stderr}");
    Plain::connect(([127, 0, 0, 1], v6.port()).into()).await;
}

/// The only test that uses the port 7777.
#[tokio::test]
async fn without_arguments_it_serves_this_machine_and_with_public_the_network() {
    let free = TcpListener::bind(("0.0.0.0", 7777)).map(drop);
    free.expect("port 7777 is taken on this machine: this test needs it");
    let mut daemon = Daemon::spawn(parlor(&[])).await;
    assert_eq!(daemon.addrs(), [SocketAddr::from(([127, 0, 0, 1], 7777))]);
    let stderr = daemon.stderr_shows("To stop it").await;
    for text in [" nc 127.0.0.1 7777\n", "--public", "CREATE yourname"] {
        assert!(stderr.contains(text), "{text:?}: {stderr}");
    }

    let mut variable = parlor(&[]);
    variable.env("PARLOR_PUBLIC", "1");
    for command in [parlor(&["--public"]), variable] {
        // The connection that is open now doesn't keep the next daemon from its port.
        let mut plain = Plain::connect(([127, 0, 0, 1], 7777).into()).await;
        daemon.terminate();
        plain.rest().await;
        drop(plain);
        assert_eq!(daemon.wait().await.0.code(), Some(0));

        daemon = Daemon::spawn(command).await;
        let stderr = daemon.stderr_shows("To stop it").await;
        for ip in [IpAddr::from([127, 0, 0, 1])].into_iter().chain(network_addresses()) {
            assert!(stderr.contains(&format!(" nc {ip} 7777\n")), "{ip}: {stderr}");
            Plain::connect((ip, 7777).into()).await;
        }
    }
    let (code, stderr) = failure(parlor(&[])).await;
    assert_eq!(code, Some(3), "{stderr}");
}
