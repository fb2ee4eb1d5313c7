//! A small store for the fuzz targets.

use rusqlite::Connection;

use super::rows;
use crate::protocol::{Line, Name, RoomCode, Time, TokenHash};
use crate::room::{Head, KeptSeat};

/// Makes the tables, and two rooms in them with messages and held seats.
pub fn make(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(rows::TABLES)?;
    for (room, code) in [(1, "LOBBY"), (7, "BKTW")] {
        let head = Head {
            code: RoomCode::lobby(code).expect("a code"),
            is_lobby: room == 1,
            locked: room == 7,
            host: room,
            seats: 2,
            first_id: 40 + room,
            last_id: 42 + room,
            last_time: Some(Time::from_millis(1_795_000_000_000 + room)),
        };
        rows::write_room(connection, room, &head)?;
        for id in head.first_id..=head.last_id {
            let line = format!("MSG {id} 2026-11-21T19:06:00.123Z ann message {id} of {code}");
            rows::write_message(connection, room, id, &Line::of(&line))?;
        }
        for (number, name) in [(room, "ann"), (room + 1, "Jürgen")] {
            let seat = KeptSeat {
                number,
                name: Name::parse(name).expect("a name"),
                token: TokenHash::from_bytes([(room + number) as u8; 32]),
                seconds: 30 * number,
                muted: number > room,
                said: number,
            };
            rows::write_seat(connection, room, &seat)?;
        }
    }
    rows::write_total(connection, 2, 8)
}

/// What a server would serve of a store: each thing with its place, and whether it would say that
/// the store is damaged. A lost message is no thing.
pub fn load(connection: &Connection) -> (Vec<String>, bool) {
    let loaded = rows::load(connection);
    let mut things = vec![format!("{} rooms, next {}", loaded.all_rooms, loaded.next_room)];
    for room in &loaded.rooms {
        let number = room.number;
        things.push(format!("room {number}: {:?} {:?}", room.head.code.as_str(), room.head));
        for (id, line) in (room.head.first_id..).zip(&room.messages) {
            if !line.is_lost() {
                things.push(format!("room {number}, message {id}: {:?}", line.as_str()));
            }
        }
        for seat in &room.seats {
            let token = seat.token.as_bytes();
            things.push(format!("room {number}: {:?} {token:?} {seat:?}", seat.name.as_str()));
        }
    }
    (things, !loaded.damage.is_nothing())
}
