//! Every clause of PROTOCOL.md has a case: a transcript that names it, or a test that does, in a
//! comment `clause: JOIN-3`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::transcripts::cases;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn protocol() -> String {
    fs::read_to_string(root().join("PROTOCOL.md")).expect("PROTOCOL.md")
}

/// The clauses in the order of the document: `**JOIN-3** text`.
fn clauses() -> Vec<String> {
    let text = protocol();
    let bold = text.lines().filter_map(|line| line.strip_prefix("**")?.split_once("** "));
    let is_id = |id: &str| {
        id.split_once('-').is_some_and(|(word, number)| {
            word.bytes().all(|b| b.is_ascii_uppercase()) && number.parse::<u32>().is_ok()
        })
    };
    bold.map(|(id, _)| id.to_owned()).filter(|id| is_id(id)).collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The clauses that tests name in comments.
fn named_in_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("tests"), &mut files);
    let texts = files.iter().map(|file| fs::read_to_string(file).expect("a source"));
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .filter_map(|line| Some(line.trim().strip_prefix("// clause: ")?.to_owned()))
        .flat_map(|names| names.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn clause_names_are_unique() {
    let clauses = clauses();
    let unique: BTreeSet<_> = clauses.iter().collect();
    assert_eq!(unique.len(), clauses.len());
    assert!(clauses.len() > 100, "only {} clauses found", clauses.len());
}

#[test]
fn every_clause_has_a_case() {
    let mut shown: BTreeSet<String> = cases().into_iter().flat_map(|case| case.clauses).collect();
    shown.extend(named_in_tests());
    let missing: Vec<_> = clauses().into_iter().filter(|clause| !shown.contains(clause)).collect();
    assert!(missing.is_empty(), "no transcript or test names {missing:?}");
}

#[test]
fn every_case_names_clauses_that_there_are() {
    let clauses: BTreeSet<String> = clauses().into_iter().collect();
    for case in cases() {
        assert!(!case.clauses.is_empty(), "{}: {} names no clause", case.file, case.title);
        for clause in &case.clauses {
            assert!(clauses.contains(clause), "{}: there is no clause {clause}", case.file);
        }
    }
    let named = named_in_tests();
    assert!(named.is_subset(&clauses), "unknown: {:?}", named.difference(&clauses));
}

#[test]
fn transcripts_in_the_specification_are_parts_of_cases() {
    let text = protocol();
    let cases = cases();
    let blocks: Vec<_> = text.split("```transcript\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let lines: Vec<_> = block.lines().take_while(|line| *line != "```").collect();
        let found =
            cases.iter().any(|case| case.lines.windows(lines.len()).any(|part| part == lines));
        assert!(found, "no case holds this:\n{}", lines.join("\n"));
    }
}

#[test]
fn every_error_code_is_in_a_transcript() {
    // Told only by a server that stops, and by one that keeps rooms on disk.
    let not_in_transcripts = ["shutting-down", "storage"];
    let text = protocol();
    let table = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let codes: BTreeSet<_> = table
        .map(|(code, _)| code)
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'8'))
        .collect();
    let cases = cases();
    let lines: String =
        cases.iter().flat_map(|case| &case.lines).map(|line| format!("{line} ")).collect();
    for code in [
        "unknown-command",
        "bad-args",
        "bad-name",
        "bad-code",
        "no-such-room",
        "name-taken",
        "room-full",
        "room-locked",
        "already-in-room",
        "not-in-room",
        "no-such-user",
        "not-host",
        "muted",
        "empty-text",
        "text-too-long",
        "line-too-long",
        "not-utf8",
        "control-char",
        "bad-token",
        "bad-id",
        "bad-secret",
        "slow-down",
        "busy",
        "storage",
        "shutting-down",
    ] {
        assert!(codes.contains(code), "{code} is not in PROTOCOL.md's table");
        let shown = lines.contains(&format!(" {code} "));
        assert!(shown || not_in_transcripts.contains(&code), "{code} is in no transcript");
    }
}
