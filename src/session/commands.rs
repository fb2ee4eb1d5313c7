//! What each command does.

use std::future::poll_fn;
use std::task::Poll;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{End, Session};
use crate::metrics::Limit;
use crate::protocol::limits::{GUESS_DELAY, JOIN_MESSAGES, PACE_DATA_LINES};
use crate::protocol::{Command, ErrorCode, Event, Line, Name, NoticeKind, Reject, Reply, Verb};
use crate::room::{Entered, Ordered, Refusal};
use crate::transport::Transport;

impl<T: Transport> Session<T> {
    /// The ways into a room.
    pub(super) async fn enter(&mut self, command: Command<'_>) -> Result<(), End> {
        match command {
            Command::Create { name } => {
                self.settle().await?;
                match self.create(name).await {
                    Ok(reply) => self.say(&reply),
                    Err(refusal) => self.refuse(Verb::Create, refusal).await?,
                }
            }
            Command::Join { code, name, messages } => {
                if !self.wait_for_look_up(Verb::Join).await? {
                    return Ok(());
                }
                let latest = messages.unwrap_or(JOIN_MESSAGES as u64);
                let latest = usize::try_from(latest).unwrap_or(usize::MAX);
                let visit = self.visit.clone();
                match self.hub.enter(code, name, latest, self.operator, visit).await {
                    Ok(entered) => self.sit_down(Verb::Join, entered),
                    Err(refusal) => {
                        self.count_guess(&refusal, false);
                        self.refuse(Verb::Join, refusal).await?;
                    }
                }
            }
            Command::Resume { code, token, last_id } => {
                if !self.wait_for_look_up(Verb::Resume).await? {
                    return Ok(());
                }
                let is_first = !std::mem::replace(&mut self.has_resumed, true);
                match self.hub.resume(code, token, last_id, self.visit.clone()).await {
                    Ok(entered) => self.sit_down(Verb::Resume, entered),
                    Err(refusal) => {
                        self.count_guess(&refusal, is_first);
                        self.refuse(Verb::Resume, refusal).await?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn create(&mut self, name: Option<Name>) -> Result<String, Refusal> {
        let (room, promise) = self.hub.make_room(&self.visit)?;
        let code = room.code;
        self.hub.founded(&room, promise).await?;
        if let Some(name) = &name {
            let visit = self.visit.clone();
            self.take_seat(self.hub.enter_made(room, name.clone(), visit)?);
        }
        Ok(Reply::Created { code, name: name.as_ref() }.to_string())
    }

    /// Takes a seat: first what was said before, then the reply, then what follows.
    fn sit_down(&mut self, verb: Verb, entered: Entered) {
        let Entered { seat, last_id, members, lines: data, said } = entered;
        let lines = data.len();
        self.data(data);
        let (code, name) = (seat.code(), seat.name());
        self.say(&match verb {
            Verb::Resume => Reply::Resumed { code, name, last_id, members, lines, said },
            _ => Reply::Joined { code, name, last_id, members, lines },
        });
        self.take_seat(seat);
    }

    /// What members do.
    pub(super) async fn take_part(&mut self, command: Command<'_>) -> Result<(), End> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        match command {
            Command::Tell { name, text } => {
                let told = seat.tell_member(&name, text);
                if let Some(name) = self.ordered(Verb::Tell, told).await? {
                    self.say(&Reply::Told { name: &name });
                }
            }
            Command::Who => {
                let mut users = seat.who();
                // What was taken back meanwhile has not happened.
                while let Ok((_, promise)) = &users {
                    let promise = promise.clone();
                    self.catch_up(promise.place).await?;
                    match &self.seat {
                        Some(seat) if promise.is_broken() => users = seat.who(),
                        _ => break,
                    }
                }
                if let Some(users) = self.ordered(Verb::Who, users).await? {
                    users.iter().for_each(|user| self.say(user));
                    self.lines(Verb::Who, users.len());
                }
            }
            Command::History(range) => {
                let kept = seat.history(range);
                if let Some(data) = self.ordered(Verb::History, kept).await? {
                    let lines = data.len();
                    self.data(data);
                    self.say(&Reply::Lines { verb: Verb::History, lines });
                }
            }
            Command::Nick(name) => {
                let renamed = seat.rename(name);
                if let Some(name) = self.ordered(Verb::Nick, renamed).await? {
                    self.say(&Reply::Named { name: &name });
                }
            }
            Command::Hold { seconds } => {
                let seconds = seconds.unwrap_or(self.hub.config().hold);
                let held = seat.hold(seconds);
                if let Some(token) = self.ordered(Verb::Hold, held).await? {
                    self.say(&Reply::Holding { token, seconds });
                }
            }
            Command::Leave => {
                self.settle().await?;
                if let Some(seat) = self.seat.take() {
                    let code = seat.code();
                    seat.leave().await;
                    self.say(&Reply::Left { code });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What the host does, or an operator in his place.
    pub(super) async fn rule(&mut self, command: Command<'_>) -> Result<(), End> {
        if command == Command::Close {
            // Nothing can be read from a closed room: what comes before the reply comes first.
            self.settle().await?;
        }
        let Some(seat) = &mut self.seat else { return Ok(()) };
        let operator = self.operator;
        let (verb, done) = match command {
            Command::Close => match seat.close(operator) {
                Ok(((), promise)) => {
                    seat.kept(promise.place).await;
                    match promise.is_broken() {
                        true => self.reject(&not_stored_yet(Verb::Close)),
                        false => self.say(&Reply::Done(Verb::Close)),
                    }
                    return Ok(());
                }
                Err(refusal) => return self.refuse(Verb::Close, refusal).await,
            },
            Command::Lock => (Verb::Lock, seat.lock(operator, true)),
            Command::Unlock => (Verb::Unlock, seat.lock(operator, false)),
            Command::Kick { name, reason } => {
                let kicked = seat.kick(operator, &name, reason);
                return self.did(Verb::Kick, kicked).await;
            }
            Command::Mute(name) => {
                let muted = seat.mute(operator, &name, true);
                return self.did(Verb::Mute, muted).await;
            }
            Command::Unmute(name) => {
                let unmuted = seat.mute(operator, &name, false);
                return self.did(Verb::Unmute, unmuted).await;
            }
            _ => return Ok(()),
        };
        if self.ordered(verb, done).await?.is_some() {
            self.say(&Reply::Done(verb));
        }
        Ok(())
    }

    async fn did(&mut self, verb: Verb, done: Ordered<Name>) -> Result<(), End> {
        if let Some(name) = self.ordered(verb, done).await? {
            self.say(&Reply::Did { verb, name: &name });
        }
        Ok(())
    }

    /// What operators do.
    pub(super) async fn operate(&mut self, command: Command<'_>) -> Result<(), End> {
        match command {
            Command::Oper { secret } => {
                if !self.wait_for_look_up(Verb::Oper).await? {
                    return Ok(());
                }
                self.settle().await?;
                if self.is_secret(secret) {
                    self.operator = true;
                    self.say(&Reply::Done(Verb::Oper));
                } else {
                    self.visit.guessed_wrong(Instant::now());
                    let text = "That is not the operators' secret.";
                    self.reject(&Reject::new(Verb::Oper, ErrorCode::BadSecret, text));
                }
            }
            Command::Announce(_) if !self.operator => {
                self.settle().await?;
                let text = "Only operators announce: OPER secret first.";
                self.reject(&Reject::new(Verb::Announce, ErrorCode::NotHost, text));
            }
            Command::Announce(text) => {
                self.settle().await?;
                let (kind, text) = (NoticeKind::Announce, text.as_str().into());
                let connections = self.news.announce(Line::of(&Event::Notice { kind, text }));
                self.say(&Reply::Announced { connections });
            }
            _ => {}
        }
        Ok(())
    }

    /// What anybody does anywhere.
    pub(super) async fn attend(&mut self, command: Command<'_>) -> Result<(), End> {
        self.settle().await?;
        match command {
            Command::Talk { on } => {
                self.talk = on.unwrap_or(!self.talk);
                self.say(&Reply::Talking { on: self.talk });
            }
            Command::Stay => {
                self.stay = true;
                self.say(&Reply::Done(Verb::Stay));
            }
            Command::Ping { text } => self.say(&Reply::Pong { text }),
            Command::Help(None) => {
                Verb::OVERVIEW.iter().for_each(|line| self.say(&format_args!("HELP {line}")));
                self.lines(Verb::Help, Verb::OVERVIEW.len());
            }
            Command::Help(Some(verb)) => {
                self.say(&format_args!("HELP {}: {}", verb.usage(), verb.help()));
                self.lines(Verb::Help, 1);
            }
            Command::Quit => {
                self.say(&Reply::Done(Verb::Quit));
                return Err(End::Quit);
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets everything come first that was ordered before a command took effect, or its refusal.
    async fn ordered<V>(&mut self, verb: Verb, result: Ordered<V>) -> Result<Option<V>, End> {
        match result {
            Ok((value, promise)) => {
                match self.catch_up(promise.place).await {
                    // It would tell of messages ahead of those that are still to be sent.
                    Err(End::Shutdown) if verb == Verb::History => return Err(End::Shutdown),
                    // It is done, and is answered before the end.
                    Err(end @ (End::Shutdown | End::Gone(_))) => {
                        if !self.answer_messages(&end).await {
                            return Err(end);
                        }
                        if let Some(seat) = &self.seat {
                            seat.kept(promise.place).await;
                        }
                    }
                    caught_up => caught_up?,
                }
                match (promise.is_broken(), verb) {
                    (false, _) => return Ok(Some(value)),
                    (true, Verb::Kick) => self.reject(&not_stored_yet(verb)),
                    (true, _) => self.refuse(verb, Refusal::Storage).await?,
                }
                Ok(None)
            }
            Err(refusal) => self.refuse(verb, refusal).await.map(|()| None),
        }
    }

    pub(super) async fn refuse(&mut self, verb: Verb, refusal: Refusal) -> Result<(), End> {
        if let Refusal::Gone(bye) = refusal {
            return Err(End::Gone(bye));
        }
        self.settle().await?;
        self.reject(&Reject::new(verb, refusal.code(), refusal.to_string()));
        Ok(())
    }

    /// Lets everything come first that the room has until now, the replies to messages among it.
    /// What a seat was to do that is gone is not done.
    pub(super) async fn settle(&mut self) -> Result<(), End> {
        let Some(seat) = &self.seat else { return Ok(()) };
        let ((), place) = seat.end()?;
        self.catch_up(place).await
    }

    /// The data lines of a reply that others get as well.
    fn data(&mut self, lines: Vec<Line>) {
        self.pace.spend(lines.len() / PACE_DATA_LINES);
        lines.into_iter().for_each(|line| self.share(line));
    }

    /// The end of a reply whose data lines were this connection's own.
    fn lines(&mut self, verb: Verb, lines: usize) {
        self.pace.spend(lines / PACE_DATA_LINES);
        self.say(&Reply::Lines { verb, lines });
    }

    /// An address that has guessed wrong too often waits before each look-up, right or wrong.
    /// False if it may not look up any more, and has been told so.
    async fn wait_for_look_up(&mut self, verb: Verb) -> Result<bool, End> {
        if !self.visit.must_wait(Instant::now()) {
            return Ok(true);
        }
        self.hub.metrics().reached(Limit::Guesses);
        self.flush().await?;
        let mut delay = Box::pin(tokio::time::sleep(GUESS_DELAY));
        let waited = poll_fn(|cx| match self.stop.is_some() || self.news.poll_stopping(cx) {
            true => Poll::Ready(false),
            false => delay.as_mut().poll(cx).map(|()| true),
        });
        if !waited.await {
            self.begin_to_stop();
            self.settle().await?;
            self.reject(&Reject::shutting_down(verb));
            return Ok(false);
        }
        Ok(true)
    }

    fn count_guess(&self, refusal: &Refusal, is_first_resume: bool) {
        if !matches!(refusal, Refusal::NoSuchRoom | Refusal::BadToken) {
            return;
        }
        match is_first_resume {
            // After a restart everybody comes with a token that may be gone.
            true => self.visit.resumed_wrong(Instant::now()),
            false => self.visit.guessed_wrong(Instant::now()),
        }
    }

    /// Compares hashes in constant time: neither the secret nor its length shows.
    fn is_secret(&self, given: &str) -> bool {
        self.hub.config().oper_secret.as_ref().is_some_and(|secret| {
            Sha256::digest(given).as_slice().ct_eq(Sha256::digest(secret).as_slice()).into()
        })
    }
}

/// Who was put out is out, and a closed room is closed, whether that is stored or not.
fn not_stored_yet(verb: Verb) -> Reject {
    let text = "Done, but the server can't store it at the moment; it will by itself, without you.";
    Reject::new(verb, ErrorCode::Storage, text)
}
