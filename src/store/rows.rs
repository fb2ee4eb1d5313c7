//! The rows of a store. Each has a sum over all that is in it, its table and keys too: a flipped
//! bit and a row in the wrong place show. A room's row says how many seats it has and which
//! messages, and another how many rooms there are: a missing row shows as well.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use crate::protocol::{Line, Name, RoomCode, Time, TokenHash};
use crate::room::{Head, KeptRoom, KeptSeat};

/// What the tables are like. `sum` is the checksum of the row.
pub(super) const TABLES: &str = "
    CREATE TABLE rooms (
        room INTEGER PRIMARY KEY, code TEXT, lobby INTEGER, locked INTEGER, host INTEGER,
        seats INTEGER, first INTEGER, last INTEGER, time INTEGER, sum INTEGER
    ) STRICT;
    CREATE TABLE messages (
        room INTEGER, id INTEGER, line BLOB, sum INTEGER, PRIMARY KEY (room, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seats (
        room INTEGER, seat INTEGER, name TEXT, token BLOB, seconds INTEGER, muted INTEGER,
        said INTEGER, sum INTEGER, PRIMARY KEY (room, seat)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE total (one INTEGER PRIMARY KEY, rooms INTEGER, next INTEGER, sum INTEGER) STRICT;
";

/// All that a store has.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) rooms: Vec<KeptRoom>,
    /// Rooms of the store, those included that are damaged.
    pub(super) all_rooms: u64,
    /// No room has had this number or a greater one.
    pub(super) next_room: u64,
    pub(super) damage: Damage,
}

/// What is lost in a store.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) rooms: u64,
    pub(super) messages: u64,
    pub(super) seats: u64,
    /// What else was found.
    pub(super) other: Option<String>,
}

/// Reads and checks everything.
pub(super) fn load(connection: &Connection) -> Loaded {
    let mut scan = Scan { connection, unsound: 0, broken: None };
    let rooms = scan.table("rooms", ["room", "room"], room);
    let mut messages = by_room(scan.table("messages", ["room", "id"], message));
    let mut seats = by_room(scan.table("seats", ["room", "seat"], seat));
    let total = scan.table("total", ["one", "one"], total).pop();
    let mut damage = Damage::default();
    let mut loaded = Loaded::default();
    for (number, _, head) in rooms {
        let messages = damage.fill(head, messages.remove(&number).unwrap_or_default());
        let seats = seats.remove(&number).unwrap_or_default();
        let seats: Vec<_> = seats.into_iter().map(|(_, seat)| seat).collect();
        damage.seats += head.seats.abs_diff(seats.len() as u64);
        loaded.rooms.push(KeptRoom { number, head, messages, seats });
    }
    // What is left belongs to rooms that are lost.
    damage.messages += messages.values().map(|lines| lines.len() as u64).sum::<u64>();
    damage.seats += seats.values().map(|seats| seats.len() as u64).sum::<u64>();
    let known = loaded.rooms.len() as u64;
    (_, _, (loaded.all_rooms, loaded.next_room)) = total.unwrap_or((0, 0, (known, 0)));
    damage.rooms = loaded.all_rooms.abs_diff(known);
    damage.other = scan.broken;
    if total.is_none() {
        damage.other.get_or_insert("the number of rooms is lost".to_owned());
    }
    if damage.is_nothing() && scan.unsound > 0 {
        damage.other = Some(format!("{} rows belong to nothing", scan.unsound));
    }
    loaded.damage = damage;
    loaded
}

/// Rows of a room, in the order of their keys.
type ByRoom<T> = HashMap<u64, Vec<(u64, T)>>;

fn by_room<T>(rows: Vec<(u64, u64, T)>) -> ByRoom<T> {
    let mut rooms = ByRoom::new();
    for (room, key, row) in rows {
        rooms.entry(room).or_default().push((key, row));
    }
    rooms
}

/// Reading, and what goes wrong with it.
struct Scan<'a> {
    connection: &'a Connection,
    /// Rows whose sum is wrong.
    unsound: u64,
    /// Why a table can't be read as a whole.
    broken: Option<String>,
}

impl Scan<'_> {
    /// The sound rows of a table with their keys, in the order of those. Where reading breaks off,
    /// it goes on from the other end.
    fn table<T>(
        &mut self,
        table: &str,
        keys: [&str; 2],
        sound: impl Fn(&Row<'_>) -> Option<(u64, u64, T)>,
    ) -> Vec<(u64, u64, T)> {
        let [first, second] = keys;
        let mut found = Vec::new();
        let forwards = format!("SELECT * FROM {table} ORDER BY {first}, {second}");
        let Err(error) = self.read(&forwards, &sound, &mut found) else { return found };
        self.broken.get_or_insert(format!("{table} can't be read as a whole ({error})"));
        let backwards = format!("SELECT * FROM {table} ORDER BY {first} DESC, {second} DESC");
        let _ = self.read(&backwards, &sound, &mut found);
        found.sort_by_key(|(first, second, _)| (*first, *second));
        found.dedup_by_key(|(first, second, _)| (*first, *second));
        found
    }

    fn read<T>(
        &mut self,
        select: &str,
        sound: &impl Fn(&Row<'_>) -> Option<(u64, u64, T)>,
        found: &mut Vec<(u64, u64, T)>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match sound(row) {
                Some(row) => found.push(row),
                None => self.unsound += 1,
            }
        }
        Ok(())
    }
}

impl Damage {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Damage::default()
    }

    /// The messages of a room without holes: an empty line stands for a lost one.
    fn fill(&mut self, head: Head, messages: Vec<(u64, Line)>) -> VecDeque<Line> {
        let range = head.first_id..=head.last_id;
        let mut messages = messages.into_iter().filter(|(id, _)| range.contains(id)).peekable();
        let mut lines = VecDeque::new();
        for id in range.clone() {
            match messages.next_if(|(found, _)| *found == id) {
                Some((_, line)) => lines.push_back(line),
                None => {
                    self.messages += 1;
                    lines.push_back(lost());
                }
            }
        }
        lines
    }
}

/// Stands for a message that is lost.
fn lost() -> Line {
    Line::of(&"")
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { rooms, messages, seats, other } = self;
        write!(f, "lost are {rooms} rooms, {messages} messages and {seats} held seats")?;
        other.iter().try_for_each(|other| write!(f, "; {other}"))
    }
}

/// The sum of a row while its fields are added.
struct Sum(crc32fast::Hasher);

impl Sum {
    fn of(table: &str) -> Sum {
        Sum(crc32fast::Hasher::new()).bytes(table.as_bytes())
    }

    fn number(mut self, number: u64) -> Sum {
        self.0.update(&number.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Sum {
        self = self.number(bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    fn end(self) -> u64 {
        self.0.finalize().into()
    }
}

fn room_sum(number: u64, head: &Head) -> u64 {
    let sum = Sum::of("rooms").number(number).bytes(head.code.as_str().as_bytes());
    let sum = sum.number(head.is_lobby.into()).number(head.locked.into());
    let sum = sum.number(head.host).number(head.seats).number(head.first_id);
    sum.number(head.last_id).number(millis(head.last_time)).end()
}

fn message_sum(room: u64, id: u64, line: &[u8]) -> u64 {
    Sum::of("messages").number(room).number(id).bytes(line).end()
}

fn seat_sum(room: u64, seat: &KeptSeat) -> u64 {
    let sum = Sum::of("seats").number(room).number(seat.number);
    let sum = sum.bytes(seat.name.as_str().as_bytes()).bytes(seat.token.as_bytes());
    sum.number(seat.seconds).number(seat.muted.into()).number(seat.said).end()
}

fn total_sum(rooms: u64, next: u64) -> u64 {
    Sum::of("total").number(rooms).number(next).end()
}

/// 0 where there was no message yet.
fn millis(time: Option<Time>) -> u64 {
    time.map_or(0, Time::millis)
}

/// A column that holds a whole number.
fn number(row: &Row<'_>, column: usize) -> Option<u64> {
    match row.get_ref(column).ok()? {
        ValueRef::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a [u8]> {
    match row.get_ref(column).ok()? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes),
        _ => None,
    }
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a str> {
    std::str::from_utf8(bytes(row, column)?).ok()
}

fn room(row: &Row<'_>) -> Option<(u64, u64, Head)> {
    let room = number(row, 0)?;
    let head = Head {
        code: RoomCode::lobby(text(row, 1)?).ok()?,
        is_lobby: number(row, 2)? != 0,
        locked: number(row, 3)? != 0,
        host: number(row, 4)?,
        seats: number(row, 5)?,
        first_id: number(row, 6)?,
        last_id: number(row, 7)?,
        last_time: Some(number(row, 8)?).filter(|millis| *millis > 0).map(Time::from_millis),
    };
    (number(row, 9)? == room_sum(room, &head)).then_some((room, room, head))
}

fn message(row: &Row<'_>) -> Option<(u64, u64, Line)> {
    let (room, id, line) = (number(row, 0)?, number(row, 1)?, text(row, 2)?);
    let is_sound = number(row, 3)? == message_sum(room, id, line.as_bytes());
    is_sound.then(|| (room, id, Line::of(&line)))
}

fn seat(row: &Row<'_>) -> Option<(u64, u64, KeptSeat)> {
    let room = number(row, 0)?;
    let seat = KeptSeat {
        number: number(row, 1)?,
        name: Name::parse(text(row, 2)?).ok()?,
        token: TokenHash::from_bytes(bytes(row, 3)?.try_into().ok()?),
        seconds: number(row, 4)?,
        muted: number(row, 5)? != 0,
        said: number(row, 6)?,
    };
    (number(row, 7)? == seat_sum(room, &seat)).then_some((room, seat.number, seat))
}

fn total(row: &Row<'_>) -> Option<(u64, u64, (u64, u64))> {
    let (one, rooms, next) = (number(row, 0)?, number(row, 1)?, number(row, 2)?);
    (number(row, 3)? == total_sum(rooms, next)).then_some((one, one, (rooms, next)))
}

pub(super) fn write_room(connection: &Connection, room: u64, head: &Head) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO rooms VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(write)?.execute(params![
        room as i64,
        head.code.as_str(),
        head.is_lobby,
        head.locked,
        head.host as i64,
        head.seats as i64,
        head.first_id as i64,
        head.last_id as i64,
        millis(head.last_time) as i64,
        room_sum(room, head) as i64,
    ])?;
    Ok(())
}

pub(super) fn write_message(
    connection: &Connection,
    room: u64,
    id: u64,
    line: &Line,
) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO messages VALUES (?1, ?2, ?3, ?4)";
    let sum = message_sum(room, id, line.content());
    let row = params![room as i64, id as i64, line.content(), sum as i64];
    connection.prepare_cached(write)?.execute(row)?;
    Ok(())
}

pub(super) fn write_seat(
    connection: &Connection,
    room: u64,
    seat: &KeptSeat,
) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO seats VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(write)?.execute(params![
        room as i64,
        seat.number as i64,
        seat.name.as_str(),
        seat.token.as_bytes(),
        seat.seconds as i64,
        seat.muted,
        seat.said as i64,
        seat_sum(room, seat) as i64,
    ])?;
    Ok(())
}

pub(super) fn write_total(connection: &Connection, rooms: u64, next: u64) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO total VALUES (1, ?1, ?2, ?3)";
    let row = params![rooms as i64, next as i64, total_sum(rooms, next) as i64];
    connection.prepare_cached(write)?.execute(row)?;
    Ok(())
}
