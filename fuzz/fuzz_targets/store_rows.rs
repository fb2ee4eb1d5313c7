//! Whatever is done to the rows of a store, what is served is as it was written and in its place,
//! and what is missing is told as damage.
//!
//! The input: at most one row of each table, and what is done to it.

#![no_main]

use std::cell::LazyCell;
use std::collections::BTreeSet;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::{Corpus, fuzz_target};
use parlor::fuzzing::store::{load, make};
use rusqlite::Connection;
use rusqlite::types::Value;

/// The tables, each with its columns: the first two tell rows apart, the last is the sum.
const TABLES: [(&str, &[&str]); 4] = [
    (
        "rooms",
        &["room", "code", "lobby", "locked", "host", "seats", "first", "last", "time", "sum"],
    ),
    ("messages", &["room", "id", "line", "sum"]),
    ("seats", &["room", "seat", "name", "token", "seconds", "muted", "said", "sum"]),
    ("total", &["one", "rooms", "next", "sum"]),
];

#[derive(Debug, Arbitrary)]
struct Change {
    table: u8,
    row: u8,
    done: Done,
}

#[derive(Debug, Arbitrary)]
enum Done {
    /// A column holds something else.
    Set(u8, New),
    /// Bits of a column are flipped: the number is added, or the byte changed.
    Flip(u8, u8, u8),
    /// The row is gone.
    Delete,
    /// The row is there again under another key.
    Copy(u8, i64),
}

#[derive(Debug, Arbitrary)]
enum New {
    Null,
    Number(i64),
    Bytes(Vec<u8>),
    Text(String),
    /// What another row has there.
    OfRow(u8),
}

struct Store {
    connection: Connection,
    written: Vec<String>,
}

thread_local! {
    static STORE: LazyCell<Store> = LazyCell::new(|| {
        let connection = Connection::open_in_memory().expect("memory");
        make(&connection).expect("tables");
        let (written, is_damaged) = load(&connection);
        assert!(!is_damaged && written.len() == 1 + 2 * (1 + 3 + 2), "{written:?}");
        Store { connection, written }
    });
}

fuzz_target!(|changes: Vec<Change>| -> Corpus {
    STORE.with(|store| {
        store.connection.execute_batch("BEGIN").expect("a transaction");
        // A second change of a table could put the first one's sum right: that is forging, not
        // damage.
        let mut changed = BTreeSet::new();
        let mut is_changed = false;
        for change in &changes {
            let (table, row) = place(&store.connection, change.table, change.row);
            if changed.insert(table) {
                is_changed |= apply(&store.connection, table, row, &change.done).is_some();
            }
        }
        let (found, is_damaged) = load(&store.connection);
        store.connection.execute_batch("ROLLBACK").expect("a transaction");
        for thing in &found[1..] {
            assert!(store.written.contains(thing), "{thing} was not written: {changes:?}");
        }
        assert!(is_damaged || found == store.written, "{found:?} is no damage: {changes:?}");
        if is_changed { Corpus::Keep } else { Corpus::Reject }
    })
});

/// A table and one of its rows, by the order of the keys.
fn place(connection: &Connection, table: u8, row: u8) -> (usize, u32) {
    let table = usize::from(table) % TABLES.len();
    let (name, _) = TABLES[table];
    let count = format!("SELECT count(*) FROM {name}");
    let rows: u32 = connection.query_row(&count, [], |row| row.get(0)).expect("a number");
    (table, u32::from(row) % rows.max(1))
}

/// Does it; `None` where the table doesn't take it.
fn apply(connection: &Connection, table: usize, row: u32, done: &Done) -> Option<()> {
    let (name, columns) = TABLES[table];
    let chosen = |column: &u8| columns[usize::from(*column) % columns.len()];
    let here = where_is(name, columns, row);
    let changed = match done {
        Done::Delete => connection.execute(&format!("DELETE FROM {name} {here}"), []),
        Done::Set(column, new) => {
            let column = chosen(column);
            let value = match new {
                New::Null => Value::Null,
                New::Number(number) => Value::Integer(*number),
                New::Bytes(bytes) => Value::Blob(bytes.clone()),
                New::Text(text) => Value::Text(text.clone()),
                New::OfRow(other) => {
                    value(connection, name, column, &where_is(name, columns, (*other).into()))?
                }
            };
            set(connection, name, column, &here, value)
        }
        Done::Flip(column, at, bits) => {
            let column = chosen(column);
            let flip = |mut bytes: Vec<u8>| {
                let at = usize::from(*at) % bytes.len().max(1);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bits);
                bytes
            };
            let flipped = match value(connection, name, column, &here)? {
                Value::Integer(number) => Value::Integer(number ^ i64::from(*bits) << (at % 56)),
                Value::Blob(bytes) => Value::Blob(flip(bytes)),
                Value::Text(text) => {
                    let bytes = flip(text.into_bytes());
                    Value::Text(String::from_utf8(bytes).ok()?)
                }
                other => other,
            };
            set(connection, name, column, &here, flipped)
        }
        Done::Copy(key, number) => {
            let key = usize::from(*key) % 2;
            let selected = columns.iter().enumerate();
            let selected: Vec<String> = selected
                .map(|(at, column)| if at == key { number.to_string() } else { (*column).into() })
                .collect();
            let selected = selected.join(", ");
            connection
                .execute(&format!("INSERT INTO {name} SELECT {selected} FROM {name} {here}"), [])
        }
    };
    changed.ok().map(drop)
}

fn where_is(name: &str, columns: &[&str], row: u32) -> String {
    let keys = columns[..2].join(", ");
    format!("WHERE ({keys}) = (SELECT {keys} FROM {name} ORDER BY {keys} LIMIT 1 OFFSET {row})")
}

fn value(connection: &Connection, name: &str, column: &str, here: &str) -> Option<Value> {
    let select = format!("SELECT {column} FROM {name} {here}");
    connection.query_row(&select, [], |row| row.get(0)).ok()
}

fn set(
    connection: &Connection,
    name: &str,
    column: &str,
    here: &str,
    value: Value,
) -> rusqlite::Result<usize> {
    connection.execute(&format!("UPDATE {name} SET {column} = ?1 {here}"), [value])
}
