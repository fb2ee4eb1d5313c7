use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::presence::Taken;
use super::{
    Bed, Cursor, Followed, Hub, Ordered, Outlet, Reading, Refusal, Room, SeatKey, Unmet, Visit,
};
use crate::protocol::{
    Event, Framing, HistoryRange, LeftReason, Line, Name, Reply, RoomCode, Text, Time, Token,
    TokenHash, User,
};

/// The right to speak and listen in a room, under a name. Dropping it leaves the room.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use parlor::{Event, Hub};
///
/// let hub = Hub::new(parlor::Config::default());
/// let code = hub.create()?;
/// let mut sam = hub.join(code.as_str(), "sam")?;
/// let kim = hub.join(code.as_str(), "kim")?;
/// let said = kim.say("Hello, Sam.").await?;
/// assert_eq!(said.id, 1);
///
/// assert_eq!(sam.next().await, Some(Event::Joined { name: "kim".into() }));
/// let heard = sam.next().await;
/// assert!(matches!(heard, Some(Event::Msg { text, .. }) if text == "Hello, Sam."));
/// # Ok::<(), parlor::Refusal>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Seat {
    hub: Hub,
    room: Arc<Room>,
    key: SeatKey,
    name: Name,
    reading: Reading,
    /// What was taken from the log and not given out by [`next`](Seat::next) yet.
    taken: VecDeque<Event<'static>>,
    token: Option<Token>,
    visit: Visit,
    ends: Ended,
    /// [`next`](Seat::next) has told why the seat is gone.
    told_bye: bool,
}

/// A message was accepted: its place in the room's order, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// 1, 2, 3, ... in each room, without holes.
    pub id: u64,
    /// It never goes back in a room.
    pub time: Time,
}

impl From<Said> for Reply<'_> {
    fn from(said: Said) -> Self {
        Reply::Said { id: said.id, time: said.time }
    }
}

/// How a connection gives up its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Others see it.
    Left(LeftReason),
    /// Nobody is told: the server is stopping.
    Silently,
}

/// What a connection is told when it takes a seat.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) seat: Seat,
    pub(crate) last_id: u64,
    pub(crate) members: usize,
    pub(crate) lines: Vec<Line>,
    pub(crate) said: u64,
}

impl Seat {
    /// Takes a new seat, and tells nothing of what was said before.
    pub(super) fn take(
        hub: &Hub,
        room: Arc<Room>,
        name: Name,
        visit: Visit,
    ) -> Result<Seat, Refusal> {
        let taken = room.join(name, 0, false)?;
        Ok(Seat::sit_down(hub, room, &taken, None, visit))
    }

    /// Takes a new seat. With a keeper this waits until all is kept that was ordered before.
    pub(super) async fn enter(
        hub: &Hub,
        room: Arc<Room>,
        name: Name,
        latest: usize,
        pass_lock: bool,
        visit: Visit,
    ) -> Result<Entered, Refusal> {
        let taken = room.join(name, latest, pass_lock)?;
        Seat::sit_down(hub, room, &taken, None, visit).arrive(taken).await
    }

    /// Takes a seat again, and waits as [`enter`](Seat::enter) does.
    pub(super) async fn retake(
        hub: &Hub,
        room: Arc<Room>,
        token: &str,
        last_id: u64,
        visit: Visit,
    ) -> Result<Entered, Refusal> {
        let token = Token::parse(token).ok_or(Refusal::BadToken)?;
        let taken = room.resume(&token.hash(), last_id)?;
        Seat::sit_down(hub, room, &taken, Some(token), visit).arrive(taken).await
    }

    async fn arrive(self, mut taken: Taken) -> Result<Entered, Refusal> {
        // Who breaks off while this waits is lost as any other.
        let mut seat = self.ends(Ended::Left(LeftReason::Lost));
        if let Some(place) = taken.unkept {
            seat.room.kept(place).await;
            seat.room.arrive(&mut taken)?;
            seat.reading.next = taken.cursor;
            seat.name = taken.name;
        }
        let Taken { cursor, members, lines, said, .. } = taken;
        Ok(Entered { seat, last_id: cursor.id, members, lines, said })
    }

    fn sit_down(
        hub: &Hub,
        room: Arc<Room>,
        taken: &Taken,
        token: Option<Token>,
        visit: Visit,
    ) -> Seat {
        Seat {
            hub: hub.clone(),
            room,
            key: taken.key,
            name: taken.name.clone(),
            reading: Reading { next: taken.cursor, unmet: VecDeque::new() },
            taken: VecDeque::new(),
            token,
            visit,
            ends: Ended::Left(LeftReason::Quit),
            told_bye: false,
        }
    }

    /// The code of the room.
    pub fn code(&self) -> RoomCode {
        self.room.code
    }

    /// The name under which it was taken; others see it.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Says something to everybody else in the room.
    ///
    /// Returns once the message is kept, with its id and time, or why it was not accepted:
    /// it is no [`Text`], the member is muted, the seat is gone, or it could not be stored.
    ///
    /// A member who only speaks should call [`next`](Seat::next) now and then all the same: the
    /// room keeps for him what he has not heard, up to 16 MiB.
    pub async fn say(&self, text: &str) -> Result<Said, Refusal> {
        let text = Text::new(text)?;
        let place = self.room.place_in_queue().await;
        let said = self.room.publish(self.key, &[text], place)?;
        // Exactly one text was published.
        let Unmet { said, promise } = said.into_iter().next().ok_or(Refusal::BadId)?;
        self.room.kept(promise.place).await;
        if promise.is_broken() { Err(Refusal::Storage) } else { Ok(said) }
    }

    /// Says something to one member only.
    ///
    /// Returns once it is accepted: that is no promise that it is read. Fails if there is no such
    /// member, too much waits for him, or for the reasons of [`say`](Seat::say).
    pub async fn tell(&self, name: &str, text: &str) -> Result<(), Refusal> {
        self.room.tell(self.key, &Name::parse(name)?, Text::new(text)?).map(drop)
    }

    /// Waits for what happens next. One's own doings don't come. When the seat is gone, the last
    /// event is [`Event::Bye`], which says why, and then there is `None`.
    ///
    /// Who doesn't call it falls behind, up to what the room keeps; then [`Event::Gap`] tells
    /// how many messages were skipped. A wait that is dropped loses nothing.
    pub async fn next(&mut self) -> Option<Event<'static>> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                return Some(event);
            }
            let mut taken = std::mem::take(&mut self.taken);
            let mut keep = |followed: Followed<'_>| match followed {
                Followed::Entry(line, _) | Followed::Line(line) => {
                    let event = Event::parse(line.as_str()).ok();
                    taken.extend(event.map(Event::into_owned));
                }
                Followed::Gap(messages) => taken.push_back(Event::Gap { messages }),
                Followed::Own(_) | Followed::Unkept => {}
            };
            let followed = std::future::poll_fn(|cx| self.poll_follow(cx, None, &mut keep)).await;
            self.taken = taken;
            if let Err(refusal) = followed {
                let is_first = !std::mem::replace(&mut self.told_bye, true);
                return match refusal {
                    Refusal::Gone(bye) if is_first => Some(Event::Bye(bye)),
                    _ => None,
                };
            }
        }
    }

    /// Takes what follows in the log; waits if there is nothing. Meanwhile the room may write to
    /// the outlet.
    pub(crate) fn poll_follow(
        &mut self,
        cx: &mut Context<'_>,
        outlet: Option<(&Arc<Outlet>, Framing)>,
        out: impl FnMut(Followed<'_>),
    ) -> Poll<Result<(), Refusal>> {
        let bed = Bed { waker: cx.waker(), outlet };
        match self.room.follow(self.key, &mut self.reading, u64::MAX, Some(bed), out) {
            Ok(false) => Poll::Pending,
            result => Poll::Ready(result.map(drop)),
        }
    }

    /// Takes what follows in the log up to a place, if there is anything.
    pub(crate) fn follow(
        &mut self,
        end: u64,
        out: impl FnMut(Followed<'_>),
    ) -> Result<(), Refusal> {
        self.room.follow(self.key, &mut self.reading, end, None, out).map(drop)
    }

    /// Whether the log has been taken up to a place.
    pub(crate) fn has_reached(&self, place: u64) -> bool {
        self.reading.next.place >= place
    }

    /// Goes back to a line that was taken and could not be given on, or forward to where the room
    /// has written.
    pub(crate) fn go_to(&mut self, to: Cursor) {
        self.reading.next = to;
    }

    /// Publishes messages together. They come back as [`Followed::Own`] at their places.
    pub(crate) async fn publish(&mut self, texts: &[Text<'_>]) -> Result<(), Refusal> {
        let place = self.room.place_in_queue().await;
        let said = self.room.publish(self.key, texts, place)?;
        self.reading.unmet.extend(said);
        Ok(())
    }

    /// Messages of one's own that were ordered and not met in the log yet: what became of each.
    /// In order: of none ahead of somebody else's that he hasn't got.
    pub(crate) async fn take_unmet(&mut self, in_order: bool) -> Vec<Result<Said, Refusal>> {
        if let Some(last) = self.reading.unmet.back() {
            self.room.kept(last.promise.place).await;
        }
        let mut last = self.reading.next.id;
        let mut outcomes = Vec::new();
        while let Some(Unmet { said, promise }) = self.reading.unmet.pop_front_if(|unmet| {
            !in_order || unmet.said.id == last + 1 || unmet.promise.is_broken()
        }) {
            outcomes.push(match promise.is_broken() {
                true => Err(Refusal::Storage),
                false => {
                    last = said.id;
                    Ok(said)
                }
            });
        }
        outcomes
    }

    /// Whether messages of one's own are not told of yet.
    pub(crate) fn has_unmet(&self) -> bool {
        !self.reading.unmet.is_empty()
    }

    /// Whether the seat will be there for a `RESUME` when its connection has ended, or the server.
    pub(crate) fn can_resume(&self, stops: bool) -> bool {
        self.room.can_resume(self.key, stops)
    }

    /// Whether something that was ordered is still to be kept.
    pub(crate) fn has_unkept(&self) -> bool {
        self.room.is_kept() && self.room.has_unkept()
    }

    /// Whether a place of the log can't be reached yet, because it is not kept.
    pub(crate) fn must_wait_for(&self, place: u64) -> bool {
        !self.room.has_kept(place)
    }

    /// Waits until all is kept that has a place before this one.
    pub(crate) async fn kept(&self, place: u64) {
        self.room.kept(place).await;
    }

    /// Gives the seat up for good, and waits until that is kept.
    pub(crate) async fn leave(self) {
        let room = self.room.clone();
        drop(self.ends(Ended::Left(LeftReason::Quit)));
        room.all_kept().await;
    }

    pub(crate) fn tell_member(&self, to: &Name, text: Text<'_>) -> Ordered<Name> {
        self.room.tell(self.key, to, text)
    }

    pub(crate) fn who(&self) -> Ordered<Vec<User>> {
        self.room.who(self.key)
    }

    pub(crate) fn history(&self, range: HistoryRange) -> Ordered<Vec<Line>> {
        self.room.history(self.key, range)
    }

    pub(crate) fn rename(&self, name: Name) -> Ordered<Name> {
        self.room.rename(self.key, name)
    }

    /// Arms the seat; once more gives the same token.
    pub(crate) fn hold(&mut self, seconds: u64) -> Ordered<Token> {
        let random = &self.hub.config().random;
        let token = self.token.unwrap_or_else(|| Token::random(|bytes| random.fill(bytes)));
        let hash: TokenHash = token.hash();
        let ((), place) = self.room.arm(self.key, hash, seconds)?;
        self.token = Some(token);
        Ok((token, place))
    }

    pub(crate) fn lock(&self, operator: bool, locked: bool) -> Ordered<()> {
        self.room.lock(self.key, operator, locked)
    }

    pub(crate) fn kick(&self, operator: bool, name: &Name, reason: &str) -> Ordered<Name> {
        self.room.kick(self.key, operator, name, reason)
    }

    pub(crate) fn mute(&self, operator: bool, name: &Name, muted: bool) -> Ordered<Name> {
        self.room.mute(self.key, operator, name, muted)
    }

    pub(crate) fn close(&self, operator: bool) -> Ordered<()> {
        let closed = self.room.close(self.key, operator)?;
        self.hub.remove(&self.room);
        Ok(closed)
    }

    /// The end of what is ordered now.
    pub(crate) fn end(&self) -> Result<((), u64), Refusal> {
        self.room.end(self.key)
    }

    /// Why the seat is gone, if it is.
    pub(crate) fn gone(&self) -> Option<Refusal> {
        self.end().err()
    }

    /// The same seat, with what others are told when it is dropped.
    pub(crate) fn ends(mut self, how: Ended) -> Seat {
        self.ends = how;
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let visit = std::mem::replace(&mut self.visit, Visit::exempt());
        if self.room.leave(self.key, &self.ends, visit) {
            self.hub.remove(&self.room);
        }
    }
}
