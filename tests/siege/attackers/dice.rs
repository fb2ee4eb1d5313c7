//! Numbers that look random: xorshift64*.

use std::ops::Range;

#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + (self.roll() >> 8) % (range.end - range.start)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.roll() >> 32) as u8).collect()
    }

    /// A code as the server makes them.
    pub(super) fn code(&mut self) -> String {
        const LETTERS: &[u8] = b"BCDFGHJKMNPQRSTVWXYZ23456789";
        let letter = |_| LETTERS[self.within(0..LETTERS.len() as u64) as usize] as char;
        (0..4).map(letter).collect()
    }
}
