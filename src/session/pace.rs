//! How fast a client may send: who is faster is not read for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A token bucket: `burst` lines at once, then `rate` lines a second.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Lines a second; 0 is no limit.
    rate: u32,
    burst: u32,
    /// Lines that may be executed now. It goes below zero for a line that cost more than one.
    allowance: f64,
    counted_at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) fn new(rate: u32, burst: u32) -> Pace {
        let burst = burst.max(1);
        let allowance = f64::from(burst);
        Pace { rate, burst, allowance, counted_at: Instant::now(), sleep: None }
    }

    /// No limit from now on.
    pub(crate) fn lift(&mut self) {
        self.rate = 0;
    }

    /// Counts what a line, or anything that counts like lines, has cost.
    pub(crate) fn spend(&mut self, lines: usize) {
        if self.rate > 0 {
            self.earn();
            self.allowance -= lines as f64;
        }
    }

    /// Whether one more line may be executed now.
    pub(crate) fn allows(&mut self) -> bool {
        if self.rate == 0 || self.allowance >= 1.0 {
            return true;
        }
        self.earn();
        self.allowance >= 1.0
    }

    fn earn(&mut self) {
        let now = Instant::now();
        let earned = (now - self.counted_at).as_secs_f64() * f64::from(self.rate);
        self.counted_at = now;
        self.allowance = (self.allowance + earned).min(f64::from(self.burst));
    }

    /// Waits until one more line may be executed.
    pub(crate) fn poll_allows(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.allows() {
            let seconds = (1.0 - self.allowance) / f64::from(self.rate);
            // At least a timer's tick, so that rounding never makes this spin.
            let wait = Duration::from_secs_f64(seconds).max(Duration::from_millis(1));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        self.sleep = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let mut pace = Pace::new(10, 100);
        let start = Instant::now();
        for _ in 0..500 {
            std::future::poll_fn(|cx| pace.poll_allows(cx)).await;
            pace.spend(1);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((39.9..41.0).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_never_earns_more_than_a_burst() {
        let mut pace = Pace::new(10, 3);
        // Neither before the burst nor after it.
        tokio::time::advance(Duration::from_secs(3600)).await;
        (0..3).for_each(|_| pace.spend(1));
        assert!(!pace.allows());
        tokio::time::advance(Duration::from_secs(3600)).await;
        let mut passed = 0;
        while pace.allows() {
            pace.spend(1);
            passed += 1;
        }
        assert_eq!(passed, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_spends_while_he_waits_waits_longer() {
        let mut pace = Pace::new(10, 1);
        pace.spend(1);
        let start = Instant::now();
        let mut spent = false;
        std::future::poll_fn(|cx| {
            let polled = pace.poll_allows(cx);
            if !std::mem::replace(&mut spent, true) {
                assert!(polled.is_pending());
                pace.spend(5);
            }
            polled
        })
        .await;
        let took = start.elapsed().as_secs_f64();
        assert!((0.6..0.7).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn rate_0_is_no_limit() {
        let mut pace = Pace::new(0, 1);
        (0..1000).for_each(|_| pace.spend(1));
        assert!(pace.allows());
    }
}
