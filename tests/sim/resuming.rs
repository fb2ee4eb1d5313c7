//! What a client makes of `OK RESUME`, and what that must be.

use std::time::Duration;

use crate::client::{Client, What, now};
use crate::sitting::message_of;

/// One's own messages that were not answered before the connection broke.
struct Unanswered {
    texts: Vec<String>,
    since: Duration,
    /// So many of them have arrived, by the server's count.
    arrived: usize,
    /// Those that the replay has.
    mine: Vec<String>,
    /// The replay doesn't have all.
    has_gap: bool,
}

impl Client {
    /// Everything after the last message seen is here, or is counted by a gap; and the count of
    /// what was accepted tells which messages have arrived. Those that have not are sent again.
    pub(crate) fn resumed(&mut self, name: &str, last: u64, said: u64, data: &[String]) -> bool {
        let Some(sitting) = &mut self.sitting else { return false };
        let room = sitting.room.clone();
        let skipped = last.saturating_sub(self.plan.history).saturating_sub(sitting.last);
        let (gap, rest) = match data.first().and_then(|line| line.strip_prefix("GAP ")) {
            Some(gap) => (gap.parse().unwrap_or(0), &data[1..]),
            None => (0, data),
        };
        let tells = rest.iter().filter(|line| line.starts_with("TELL ")).count();
        let (messages, tells) = rest.split_at(rest.len() - tells);
        let unanswered = std::mem::take(&mut sitting.unanswered);
        let since = unanswered.first().map_or(now(), |(_, at)| *at);
        let texts: Vec<_> = unanswered.into_iter().map(|(text, _)| text).collect();
        let mine = messages.iter().filter_map(|line| Some(message_of(line)?.1.text));
        let mine: Vec<_> = mine.filter(|text| texts.contains(text)).collect();
        let arrived = said.checked_sub(sitting.accepted).unwrap_or(u64::MAX) as usize;
        let outlives = std::mem::replace(&mut sitting.life, self.life) != self.life;
        let from = sitting.last + gap;
        sitting.accepted = said;
        sitting.name = name.to_owned();
        sitting.last = last;
        sitting.is_here = true;
        let seat = sitting.seat;
        let mut witness = self.witness.borrow_mut();
        witness.counts.resumed += 1;
        witness.counts.gaps += u64::from(gap > 0);
        for tell in tells {
            witness.tell_arrived(tell.splitn(4, ' ').last().unwrap_or_default());
        }
        if outlives {
            witness.counts.outlived += 1;
            witness.counts.stored += mine.len() as u64;
            witness.counts.dropped += texts.len().saturating_sub(arrived) as u64;
        }
        let is_name = witness.seat(seat).has_name(name);
        drop(witness);
        let is_replay = last >= from && self.is_history(&room, messages, last - from, last);
        let unanswered = Unanswered { texts, since, arrived, mine, has_gap: gap > 0 };
        gap == skipped && is_replay && is_name && self.say_again(unanswered)
    }

    /// Sends again what has not arrived. False if what has is not what it must be.
    fn say_again(&mut self, unanswered: Unanswered) -> bool {
        let Unanswered { texts, since, arrived, mine, has_gap } = unanswered;
        let Some(sitting) = &self.sitting else { return false };
        let was_muted = self.witness.borrow_mut().seat(sitting.seat).mute_sent;
        let may_be_refused = was_muted || self.plan.may_fail(since, now());
        // Some of them may have been refused; else the oldest have arrived, in their order.
        let is_right = match texts.get(..arrived) {
            Some(_) if may_be_refused => {
                let mut texts = texts.iter();
                (has_gap || mine.len() == arrived)
                    && mine.len() <= arrived
                    && mine.iter().all(|text| texts.any(|other| other == text))
            }
            Some(oldest) if has_gap => oldest.iter().rev().zip(mine.iter().rev()).all(is_same),
            Some(oldest) => oldest == mine,
            None => false,
        };
        let lost: Vec<_> = match may_be_refused {
            // What a gap has swallowed can't be told from what was refused.
            true if was_muted || has_gap => Vec::new(),
            true => texts.into_iter().filter(|text| !mine.contains(text)).collect(),
            false => texts.into_iter().skip(arrived).collect(),
        };
        for text in lost {
            self.send("MSG", &format!(" {text}"), What::Text(text.clone()));
        }
        is_right
    }
}

fn is_same((one, other): (&String, &String)) -> bool {
    one == other
}
