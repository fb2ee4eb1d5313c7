//! Who may use whom: rooms know no sockets, transports know no rooms.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the house from the ground up, with what each may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("metrics", &[]),
    ("protocol", &[]),
    ("tls", &["protocol"]),
    ("config", &["protocol", "tls"]),
    ("bulletin", &["protocol"]),
    ("room", &["protocol", "config", "metrics"]),
    ("store", &["protocol", "config", "room"]),
    ("transport", &["protocol"]),
    ("session", &["protocol", "config", "bulletin", "metrics", "room", "transport"]),
    ("reception", &["protocol", "bulletin", "metrics", "room", "transport", "session"]),
    ("web", &["protocol", "metrics", "reception", "transport"]),
    ("door", &["protocol", "metrics", "reception", "tls", "transport", "web"]),
    ("accept", &["protocol", "door", "metrics", "reception"]),
    (
        "server",
        &["accept", "protocol", "config", "door", "reception", "room", "store", "transport", "web"],
    ),
    ("fuzzing", &["protocol", "config", "reception", "room", "store", "transport", "web"]),
];

/// Who may know sockets.
const KNOW_SOCKETS: &[&str] = &["accept", "transport", "web", "door", "server"];

/// How sockets are named.
const SOCKETS: &[&str] = &["tokio::net", "socket2", "std::net::Tcp", "std::net::Udp"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

fn sources_of(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let file = src.join(format!("{room}.rs"));
    sources(&if file.exists() { file } else { src.join(room) }, &mut found);
    found
}

/// The words after `crate::` in the code of a file.
fn used(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn rooms_of_the_house_use_only_what_is_below_them() {
    for (room, may_use) in MAY_USE {
        let files = sources_of(room);
        assert!(!files.is_empty(), "no sources of {room}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source");
            for word in used(&text) {
                let fine = word == *room || may_use.contains(&word.as_str());
                assert!(fine, "{} uses {word}", file.display());
            }
            let knows_sockets = SOCKETS.iter().any(|socket| text.contains(socket));
            assert!(
                !knows_sockets || KNOW_SOCKETS.contains(room),
                "{} knows sockets",
                file.display()
            );
        }
    }
}

#[test]
fn every_room_of_the_house_is_listed() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let text = text.expect("src/lib.rs");
    let modules = text.lines().filter_map(|line| {
        line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    for module in modules {
        assert!(MAY_USE.iter().any(|(room, _)| *room == module), "{module} is not listed");
    }
}
