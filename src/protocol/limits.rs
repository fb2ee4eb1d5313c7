//! Every bound of parlor, by name and unit, in one place.
//!
//! The first group is part of the protocol. The others are this server's own; those that an
//! operator may want to change have a field in [`Config`](crate::Config) and a flag.

use std::time::Duration;

// The wire: parlor/1 promises these to every client.

/// Bytes of a line from a client, without its ending.
pub const LINE_BYTES: usize = 2048;
/// Bytes of a line from the server, without its ending.
pub const SERVER_LINE_BYTES: usize = 4096;
/// Bytes of a message's text.
pub const TEXT_BYTES: usize = 1800;
/// Characters (code points in NFC) of a name.
pub const NAME_CHARS: usize = 20;
/// Combining marks that may follow one letter of a name.
pub const NAME_MARKS: usize = 2;
/// Characters of the shortest room code.
pub const CODE_MIN_CHARS: usize = 4;
/// Characters of the longest room code.
pub const CODE_MAX_CHARS: usize = 16;
/// Messages that `JOIN` replays when it doesn't say how many.
pub const JOIN_MESSAGES: usize = 100;
/// The longest time a seat can be held, in seconds.
pub const HOLD_MAX_SECS: u64 = 600;
/// Bytes of a client's own line that the hint for an unknown command may repeat.
pub const HINT_BYTES: usize = 60;

// Rooms.

/// Members that a room writes to or wakes in one go.
pub const SLEEPERS_AT_ONCE: usize = 64;
/// Tasks that deliver what is new in one room, where it has many members.
pub const DELIVERERS: usize = 4;
/// Bytes that a room puts together for one write, and one line more at most.
pub const BATCH_BYTES: usize = 64 << 10;

/// Messages of history a room keeps, unless [`Config::history`](crate::Config::history) says otherwise.
pub const HISTORY_MESSAGES: usize = 1000;
/// Bytes of history a room keeps, counted in encoded `MSG` lines.
pub const HISTORY_BYTES: usize = 1 << 20;
/// The same over all rooms, unless [`Config::max_history`](crate::Config::max_history) says
/// otherwise.
pub const TOTAL_HISTORY_BYTES: usize = 128 << 20;
/// What a line that is kept for readers takes beside its bytes: its place in the log, with as much
/// in reserve, and what the allocator needs.
pub const ENTRY_BYTES: usize = 96;
/// Bytes beyond its history that a room keeps for members who are still reading, with
/// [`ENTRY_BYTES`] for each line.
pub const ROOM_BACKLOG_BYTES: usize = 16 << 20;
/// The same over all rooms.
pub const TOTAL_BACKLOG_BYTES: usize = 64 << 20;
/// `TELL`s that wait for one held or slow member.
pub const TELLS_WAITING: usize = 100;
/// Bytes of `TELL`s that wait, over all members.
pub const TELL_BYTES: usize = 16 << 20;
/// How long a room lives that nobody enters, and how long its code rests after that.
pub const UNENTERED: Duration = Duration::from_secs(600);
/// How long the code of a room that somebody entered is not given out again.
pub const CODE_REST: Duration = Duration::from_secs(24 * 3600);
/// Resting codes remembered; past it the one that has rested longest is forgotten.
pub const CODES_RESTING: usize = 1_000_000;
/// Rooms that nobody has entered, for each creator's address.
pub const UNENTERED_ROOMS: u32 = 64;

// Where rooms are stored.

/// How long armed seats are held from a restart on, and how long rooms without one wait for their
/// people.
pub const RESTART_HOLD: Duration = Duration::from_secs(600);
/// Runs of messages, of one read each, that may wait to be stored; past it senders wait.
pub const STORE_QUEUE: usize = 1024;
/// Bytes of what is ordered and not stored yet, over all rooms, with [`UNKEPT_ENTRY_BYTES`] for each
/// line; past it no more is ordered. It is more than [`STORE_QUEUE`] of the longest runs take.
pub const TOTAL_UNKEPT_BYTES: usize = 64 << 20;
/// What a line that is to be stored takes beside its bytes: its places in the room and in the queue.
pub const UNKEPT_ENTRY_BYTES: usize = 256;
/// Records that are stored by one commit.
pub const STORE_BATCH: usize = 4096;
/// How long the store waits before it tries again what it could not write.
pub const STORE_RETRY: Duration = Duration::from_millis(500);
/// How long a stopping server waits until all is stored.
pub const STORE_CLOSE: Duration = Duration::from_millis(1500);

// One connection.

/// Bytes that one read takes from a connection.
pub const READ_BYTES: usize = 8 << 10;
/// Lines, and answers to telnet, that are taken from a read before they are executed. The rest of
/// it waits as it came: a line of nothing is one byte there, and would else be forty.
pub const LINES_A_READ: usize = 128;
/// Bytes of output that are gathered before they are written.
pub const FLUSH_BYTES: usize = 64 << 10;
/// Bytes of replies beyond [`FLUSH_BYTES`] each that may wait for connections that don't read, over
/// all. A line that several have counts for each of them in part.
pub const TOTAL_REPLY_BYTES: usize = 64 << 20;
/// How long a connection for which so long a reply waits may accept no byte while all are past
/// [`TOTAL_REPLY_BYTES`]; then it ends.
pub const REPLY_STALL: Duration = Duration::from_secs(1);
/// Lines of a room's log that one step of a reader takes.
pub const FOLLOW_LINES: usize = 256;
/// Bytes the kernel may hold for a reader who doesn't read (Linux doubles it), unless
/// [`Config::send_buffer`](crate::Config::send_buffer) says otherwise.
pub const SEND_BUFFER_BYTES: usize = 64 << 10;
/// The smallest and the largest send buffer that can be set, in KiB. One that holds less than a line
/// would only cost system calls.
pub const SEND_BUFFER_KIB: std::ops::RangeInclusive<u32> = 4..=4096;
/// Bytes the kernel may hold of what a client has sent and that is not read yet (Linux doubles it). It
/// would else hold megabytes for one who sends faster than his lines are run.
pub const RECEIVE_BUFFER_BYTES: usize = 32 << 10;
/// How long a connection may accept no byte while output waits, in seconds, unless
/// [`Config::stall`](crate::Config::stall) says otherwise.
pub const STALL_SECS: u64 = 30;
/// The longest that a time may be which an operator sets for one connection, in seconds.
pub const LONGEST_WAIT_SECS: u64 = 3600;
/// How long the first line of a connection may take that has begun, in seconds.
pub const FIRST_COMMAND_SECS: u64 = 60;
/// How long a client may take for a TLS handshake, from connecting on, and for the head of a
/// request, in seconds, unless [`Config::handshake`](crate::Config::handshake) says otherwise.
pub const HANDSHAKE_SECS: u64 = 5;
/// Bytes that TLS may hold for a client who doesn't read, beside its send buffer.
pub const TLS_BUFFER_BYTES: usize = 16 << 10;
/// Bytes that may come over TLS for each line, or what costs as much, before they cost one more. It is
/// twice [`PACE_BYTES`]: a record has more bytes than the line in it, and a key that is typed alone
/// has a record of its own.
pub const TLS_PACE_BYTES: usize = 2 * PACE_BYTES;
/// Bytes of TLS that may come before what they hold does: a record's 16 KiB, and as much read ahead.
pub const TLS_AHEAD_BYTES: usize = 32 << 10;
/// How long a closed connection is drained, so that its last line arrives; and how long a stopping
/// server waits for a connection of the bridge that is no WebSocket.
pub const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a telnet subnegotiation after which it counts as ended.
pub const SUBNEGOTIATION_BYTES: usize = 512;
/// Bytes received that cost a client as much as a line.
pub const PACE_BYTES: usize = LINE_BYTES;
/// Data lines of a reply that cost a client as much as a line.
pub const PACE_DATA_LINES: usize = 100;
/// Idle time before the kernel asks whether a peer is still there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered questions after which the peer counts as gone.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged, beyond the time that a stall may take. It also ends
/// a living peer that reads nothing, so it must be longer than that.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

// The bridge.

/// Bytes of a WebSocket frame or message. A longer line than [`LINE_BYTES`] that fits gets its
/// `ERR`, as on TCP; what doesn't fit ends the connection.
pub const FRAME_BYTES: usize = 4 * LINE_BYTES;
/// Frames that are taken from a WebSocket before they are executed.
pub const FRAMES_A_READ: usize = 64;
/// Bytes of a WebSocket's buffers, each way.
pub const WEB_SOCKET_BUFFER_BYTES: usize = 1 << 10;
/// How often a WebSocket's peer is asked whether it is there.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Bytes of a request's head.
pub const HEADER_BYTES: usize = 8 << 10;
/// Requests of a connection that are answered within [`REQUESTS_WINDOW`]; the next waits for its end.
pub const REQUESTS: u32 = 100;
/// The time over which requests are counted.
pub const REQUESTS_WINDOW: Duration = Duration::from_secs(1);
/// Bytes of a text that is made a QR code.
pub const QR_BYTES: usize = 200;
/// How long the bridge rests before each QR code; it makes one at a time for all who ask.
pub const QR_REST: Duration = Duration::from_millis(20);
/// Requests for QR codes that may wait, the one whose code is made among them; further ones are told to come again. They wait on when their client is gone.
pub const QR_WAITING: usize = 32;

// The server.

/// Connections that the kernel may hold for a listener until they are accepted.
pub const ACCEPT_BACKLOG: i32 = 1024;
/// How long accepting rests after the system had no file or memory for a connection.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Reads of [`READ_BYTES`] that are made of a connection that there is no file for, so that the word
/// it gets isn't lost with what it has sent.
pub const TURNED_AWAY_READS: usize = 8;
/// Connections past the limits that are being told so at one time.
pub const TURNED_AWAY: usize = 256;
/// Wrong codes, tokens and operator secrets in a [`GUESS_WINDOW`] after which an address waits.
pub const GUESSES: u32 = 20;
/// Connections of an address in a [`GUESS_WINDOW`] whose first `RESUME` doesn't count when it is
/// wrong: after a restart many come back at once whose seats are gone.
pub const FREE_RESUMES: u32 = 100;
/// The time over which wrong guesses are counted.
pub const GUESS_WINDOW: Duration = Duration::from_secs(60);
/// What each look-up waits after too many wrong guesses.
pub const GUESS_DELAY: Duration = Duration::from_secs(1);
/// Addresses whose wrong guesses are remembered.
pub const GUESSERS: usize = 65_536;
/// When there are so many, how often at most it is looked which of them can be forgotten.
pub const GUESSERS_SWEEP: Duration = Duration::from_secs(1);
/// Lines of the program's log that may wait to be written; past it they are lost, which is told at
/// the end.
pub const LOG_LINES: usize = 8192;
/// Announcements kept for connections that are slow to take them.
pub const ANNOUNCEMENTS: usize = 16;
/// How long nothing must have come from a client for a stopping server to have it all.
pub const STOP_QUIET: Duration = Duration::from_millis(50);
/// How long a stopping server goes on with what it has received.
pub const STOP_READING: Duration = Duration::from_secs(4);
/// How long a stopping server waits for its connections to end.
pub const STOP: Duration = Duration::from_secs(8);

// Measuring: `parlor bench`.

/// The longest time that is measured.
pub const BENCH_TIME: Duration = Duration::from_secs(24 * 3600);
/// Messages a second that may be asked for, in each room.
pub const BENCH_RATE: u64 = 1_000_000;
/// Messages of a room that not everybody has yet. Past it a publisher waits.
pub const BENCH_IN_FLIGHT: usize = 65_536;
/// Bytes of a message's text.
pub const BENCH_TEXT_BYTES: usize = 64;
/// Bytes that one read takes from a connection, into a buffer that all share.
pub const BENCH_READ_BYTES: usize = 64 << 10;
/// Bytes of output that a publisher gathers before they are written.
pub const BENCH_WRITE_BYTES: usize = 64 << 10;
/// Connections that are being made at one time.
pub const BENCH_JOINING: usize = 256;
/// Connections that come from one loopback address, which has some 28,000 ports.
pub const BENCH_PER_ADDRESS: usize = 10_000;
/// Lost messages that are remembered for each member, to tell late ones from doubled ones.
pub const BENCH_MISSING: usize = 1000;
/// Faults that are told in words.
pub const BENCH_FAULTS: usize = 10;
/// How long a publisher may go on with messages that were due in time.
pub const BENCH_CATCH_UP: Duration = Duration::from_secs(1);
/// How long nothing at all may come from the server.
pub const BENCH_PATIENCE: Duration = Duration::from_secs(30);
/// The longest head of an HTTP answer that is read.
pub const BENCH_HEAD_BYTES: usize = 8 << 10;
