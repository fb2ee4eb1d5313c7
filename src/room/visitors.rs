//! What each address has and did, for the limits that are per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::protocol::limits::{
    FREE_RESUMES, GUESS_WINDOW, GUESSERS, GUESSERS_SWEEP, GUESSES, UNENTERED_ROOMS,
};

/// The ledger of addresses. Its lock is the innermost: nothing else is locked under it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    tallies: HashMap<IpAddr, Tally>,
    /// When it was last looked for those that are not worth keeping.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Tally {
    /// Connections and held seats.
    visits: usize,
    /// Rooms made that nobody has entered.
    rooms: u32,
    /// Wrong guesses since `window`.
    wrong: u32,
    /// First `RESUME`s since then that were wrong and don't count as guesses.
    free: u32,
    window: Instant,
}

/// One connection or held seat of an address; it counts until the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Visit(Option<Arc<Counted>>);

/// A room that counts for its creator's address until somebody enters it. It is no visit: the
/// creator may be gone.
#[derive(Debug)]
pub(crate) struct Unentered(Option<(Visitors, IpAddr)>);

#[derive(Debug)]
struct Counted {
    address: IpAddr,
    visitors: Visitors,
}

/// The address has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Visitors {
    /// Counts a connection. No address, or loopback, is exempt from every limit.
    pub(crate) fn enter(&self, address: Option<IpAddr>, most: usize) -> Result<Visit, TooMany> {
        let Some(address) = address.and_then(counted_as) else { return Ok(Visit(None)) };
        let mut ledger = self.lock();
        let tally = ledger.tallies.entry(address).or_insert_with(Tally::new);
        if tally.visits >= most {
            return Err(TooMany);
        }
        tally.visits += 1;
        Ok(Visit(Some(Arc::new(Counted { address, visitors: self.clone() }))))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// A visit that no limit counts.
    pub(crate) fn exempt() -> Visit {
        Visit(None)
    }

    pub(crate) fn is_exempt(&self) -> bool {
        self.0.is_none()
    }

    /// Counts a room that this visitor makes.
    pub(crate) fn make_room(&self) -> Result<Unentered, TooMany> {
        let Some(counted) = &self.0 else { return Ok(Unentered::exempt()) };
        let mut ledger = counted.visitors.lock();
        let tally = ledger.tallies.entry(counted.address).or_insert_with(Tally::new);
        if tally.rooms >= UNENTERED_ROOMS {
            return Err(TooMany);
        }
        tally.rooms += 1;
        Ok(Unentered(Some((counted.visitors.clone(), counted.address))))
    }

    /// Counts a wrong code, token or secret.
    pub(crate) fn guessed_wrong(&self, now: Instant) {
        self.count_wrong(now, |tally| tally.wrong = tally.wrong.saturating_add(1));
    }

    /// Counts that a connection's first `RESUME` was wrong: as a guess past so many.
    pub(crate) fn resumed_wrong(&self, now: Instant) {
        self.count_wrong(now, |tally| match tally.free < FREE_RESUMES {
            true => tally.free += 1,
            false => tally.wrong = tally.wrong.saturating_add(1),
        });
    }

    fn count_wrong(&self, now: Instant, count: impl FnOnce(&mut Tally)) {
        let Some(counted) = &self.0 else { return };
        let mut ledger = counted.visitors.lock();
        ledger.sweep(now);
        if let Some(tally) = ledger.tallies.get_mut(&counted.address) {
            if !tally.is_guessing(now) {
                (tally.window, tally.wrong, tally.free) = (now, 0, 0);
            }
            count(tally);
        }
    }

    /// Whether this address has guessed wrong too often lately.
    pub(crate) fn must_wait(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|counted| {
            let ledger = counted.visitors.lock();
            ledger.tallies.get(&counted.address).is_some_and(|tally| {
                tally.wrong > GUESSES && now.duration_since(tally.window) < GUESS_WINDOW
            })
        })
    }
}

/// What an address counts as: itself, or its /64 in IPv6, where one host has that many
/// (RFC 6177). Loopback isn't counted.
fn counted_as(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Some(IpAddr::V6(network.into()))
        }
    }
}

impl Ledger {
    /// Forgets what is not worth keeping when there is much. All are looked at for that, so it is
    /// not done for each guess of a crowd.
    fn sweep(&mut self, now: Instant) {
        let is_early = self.swept.is_some_and(|swept| now.duration_since(swept) < GUESSERS_SWEEP);
        if self.tallies.len() >= GUESSERS && !is_early {
            self.tallies.retain(|_, tally| tally.is_worth_keeping(now));
            self.swept = Some(now);
        }
    }

    /// Takes something from an address's tally, which is forgotten when there is nothing in it.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Tally)) {
        let full = self.tallies.len() > GUESSERS;
        if let Some(tally) = self.tallies.get_mut(&address) {
            change(tally);
            let in_use = tally.visits > 0 || tally.rooms > 0;
            if !in_use && (full || !tally.is_worth_keeping(Instant::now())) {
                self.tallies.remove(&address);
            }
        }
    }
}

impl Tally {
    fn new() -> Tally {
        Tally { visits: 0, rooms: 0, wrong: 0, free: 0, window: Instant::now() }
    }

    fn is_worth_keeping(&self, now: Instant) -> bool {
        self.visits > 0 || self.rooms > 0 || self.is_guessing(now)
    }

    /// Whether something was wrong lately.
    fn is_guessing(&self, now: Instant) -> bool {
        (self.wrong > 0 || self.free > 0) && now.duration_since(self.window) < GUESS_WINDOW
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.visitors.lock().change(self.address, |tally| tally.visits -= 1);
    }
}

impl Unentered {
    /// Of a room that no limit counts.
    pub(crate) fn exempt() -> Unentered {
        Unentered(None)
    }
}

impl Drop for Unentered {
    fn drop(&mut self) {
        if let Some((visitors, address)) = self.0.take() {
            visitors.lock().change(address, |tally| tally.rooms -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::protocol::LeftReason;
    use crate::room::{Ended, Hub, Refusal};

    const SOMEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test]
    async fn an_address_has_so_many_visits_and_loopback_any_number() {
        let visitors = Visitors::default();
        let first = visitors.enter(Some(SOMEWHERE), 1).unwrap();
        let held = first.clone();
        drop(first);
        assert_eq!(visitors.enter(Some(SOMEWHERE), 1).unwrap_err(), TooMany);
        drop(held);
        assert!(visitors.enter(Some(SOMEWHERE), 1).is_ok());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        for address in [None, Some(mapped), Some("127.0.0.9".parse().unwrap())] {
            assert!(visitors.enter(address, 0).unwrap().is_exempt());
        }
        assert!(visitors.lock().tallies.is_empty());
    }

    #[tokio::test]
    async fn an_ipv6_host_counts_as_its_network() {
        let visitors = Visitors::default();
        let enter = |ip: &str| visitors.enter(Some(ip.parse().unwrap()), 1);
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_err());
        assert!(enter("2001:db8:0:1::1").is_ok());
    }

    #[tokio::test]
    async fn unentered_rooms_count_until_they_are_entered() {
        let visit = Visitors::default().enter(Some(SOMEWHERE), 1).unwrap();
        let mut rooms: Vec<_> = (0..UNENTERED_ROOMS).map(|_| visit.make_room().unwrap()).collect();
        assert_eq!(visit.make_room().unwrap_err(), TooMany);
        rooms.pop();
        assert!(visit.make_room().is_ok());
    }

    #[tokio::test]
    async fn an_unentered_room_is_no_connection_of_its_creator() {
        let visitors = Visitors::default();
        let rooms: Vec<_> = (0..3)
            .map(|_| visitors.enter(Some(SOMEWHERE), 1).unwrap().make_room().unwrap())
            .collect();
        assert!(visitors.enter(Some(SOMEWHERE), 1).is_ok());
        drop(rooms);
        assert!(visitors.lock().tallies.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn past_20_wrong_guesses_an_address_waits_for_the_rest_of_the_minute() {
        let visitors = Visitors::default();
        let visit = visitors.enter(Some(SOMEWHERE), 9).unwrap();
        for _ in 0..GUESSES {
            visit.guessed_wrong(Instant::now());
        }
        assert!(!visit.must_wait(Instant::now()));
        visit.guessed_wrong(Instant::now());
        // Coming back on a new connection doesn't help.
        drop(visit);
        let visit = visitors.enter(Some(SOMEWHERE), 9).unwrap();
        assert!(visit.must_wait(Instant::now()));
        tokio::time::advance(GUESS_WINDOW).await;
        assert!(!visit.must_wait(Instant::now()));
    }

    /// A million with `PARLOR_GUESSES=1000000`.
    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_open_no_held_seat_and_their_addresses_are_forgotten() {
        let guesses = std::env::var("PARLOR_GUESSES").map_or(100_000, |n| n.parse().unwrap());
        let hub = Hub::new(Config::default());
        let mut seat = hub.join("LOBBY", "sam").unwrap();
        let token = seat.hold(600).unwrap().0.to_string();
        drop(seat.ends(Ended::Left(LeftReason::Lost)));
        let (visitors, right) = (Visitors::default(), u128::from_str_radix(&token, 16).unwrap());
        for n in 0..guesses {
            // Each from an address of its own, in 240.0.0.0/4.
            let address = std::net::Ipv4Addr::from_bits(0xf000_0000 | n);
            let visit = visitors.enter(Some(address.into()), 1).unwrap();
            // Some anywhere, some near.
            let wrong = match n % 4 {
                0 => right ^ (1 << (n / 4 % 128)),
                1 => right.wrapping_add(u128::from(n)),
                _ => u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            };
            let guess = hub.resume("LOBBY", &format!("{wrong:032x}"), 0, visit.clone()).await;
            assert_eq!(guess.unwrap_err(), Refusal::BadToken, "{wrong:032x} for {token}");
            visit.guessed_wrong(Instant::now());
        }
        assert!(visitors.lock().tallies.len() <= GUESSERS + 1);
        tokio::time::advance(GUESS_WINDOW).await;
        let last = visitors.enter(Some(SOMEWHERE), 1).unwrap();
        last.guessed_wrong(Instant::now());
        assert_eq!(visitors.lock().tallies.len(), 1, "the others' minute is over");
        let resumed = hub.resume("LOBBY", &token, 0, last).await.unwrap();
        assert_eq!(resumed.seat.name().as_str(), "sam");
    }
}
