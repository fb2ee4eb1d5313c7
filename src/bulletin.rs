//! What is said to every connection, in a room or not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::protocol::Line;
use crate::protocol::limits::ANNOUNCEMENTS;

/// The board on which it stands. Every connection has a [`Subscription`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Bulletin(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    /// How often something was posted. Readers look here first, without the lock.
    edition: AtomicU64,
    posts: Mutex<Posts>,
}

#[derive(Debug, Default)]
struct Posts {
    subscribers: Slab<Option<Waker>>,
    announcements: VecDeque<Announcement>,
    stopping: bool,
}

#[derive(Debug)]
struct Announcement {
    edition: u64,
    author: usize,
    line: Line,
}

/// One connection's place at the board.
#[derive(Debug)]
pub(crate) struct Subscription {
    board: Arc<Board>,
    slot: usize,
    seen: u64,
    waker: Option<Waker>,
    knows_of_stop: bool,
}

/// Something new on the board.
#[derive(Debug)]
pub(crate) enum News {
    Announcement(Line),
    Stopping,
}

impl Bulletin {
    pub(crate) fn subscribe(&self) -> Subscription {
        let mut posts = self.0.posts();
        let slot = posts.subscribers.insert(None);
        let seen = if posts.stopping { 0 } else { self.0.edition.load(Ordering::Acquire) };
        Subscription { board: self.0.clone(), slot, seen, waker: None, knows_of_stop: false }
    }

    /// Tells all that the server is stopping.
    pub(crate) fn stop(&self) {
        self.0.post(|posts, _| posts.stopping = true);
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.0.posts().subscribers.len()
    }
}

impl Board {
    fn posts(&self) -> MutexGuard<'_, Posts> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts something and wakes everybody, after the lock is given back.
    fn post(&self, post: impl FnOnce(&mut Posts, u64)) {
        let wakers: Vec<Waker> = {
            let mut posts = self.posts();
            let edition = self.edition.load(Ordering::Acquire) + 1;
            post(&mut posts, edition);
            self.edition.store(edition, Ordering::Release);
            posts.subscribers.iter().filter_map(|(_, waker)| waker.clone()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Subscription {
    /// Announces something to all other connections; returns how many they are.
    pub(crate) fn announce(&self, line: Line) -> usize {
        let mut others = 0;
        self.board.post(|posts, edition| {
            others = posts.subscribers.len() - 1;
            posts.announcements.push_back(Announcement { edition, author: self.slot, line });
            if posts.announcements.len() > ANNOUNCEMENTS {
                posts.announcements.pop_front();
            }
        });
        others
    }

    /// The next news. Nothing new costs one look at a number.
    pub(crate) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        self.register(cx);
        if self.board.edition.load(Ordering::Acquire) == self.seen {
            return Poll::Pending;
        }
        let posts = self.board.posts();
        if posts.stopping && !self.knows_of_stop {
            self.knows_of_stop = true;
            return Poll::Ready(News::Stopping);
        }
        let next = posts.announcements.iter().find(|announcement| {
            announcement.edition > self.seen && announcement.author != self.slot
        });
        match next {
            Some(next) => {
                self.seen = next.edition;
                Poll::Ready(News::Announcement(next.line.clone()))
            }
            None => {
                self.seen = self.board.edition.load(Ordering::Acquire);
                Poll::Pending
            }
        }
    }

    /// Whether the server is stopping; announcements wait.
    pub(crate) fn poll_stopping(&mut self, cx: &mut Context<'_>) -> bool {
        self.register(cx);
        self.board.edition.load(Ordering::Acquire) != self.seen && self.board.posts().stopping
    }

    fn register(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.board.posts().subscribers[self.slot].clone_from(&self.waker);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.board.posts().subscribers.remove(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// However fast an operator is, what waits for those who are slow has a bound.
    // clause: OPER-4
    #[tokio::test]
    async fn who_is_slow_gets_the_latest_announcements() {
        let bulletin = Bulletin::default();
        let (operator, mut slow) = (bulletin.subscribe(), bulletin.subscribe());
        let announced: Vec<_> = (0..3 * ANNOUNCEMENTS).map(|number| number.to_string()).collect();
        for text in &announced {
            assert_eq!(operator.announce(Line::of(text)), 1);
        }
        let mut heard = Vec::new();
        poll_fn(|cx| {
            while let Poll::Ready(News::Announcement(line)) = slow.poll_news(cx) {
                heard.push(line.as_str().to_owned());
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(heard, announced[2 * ANNOUNCEMENTS..]);
    }
}
