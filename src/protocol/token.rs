use std::fmt;

use sha2::{Digest, Sha256};

/// The right to come back to a seat: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(u128);

/// What the server keeps of a token, so that its memory gives no seat away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl Token {
    /// A new token from `random`, which fills a slice with random bytes.
    pub fn random(random: impl Fn(&mut [u8])) -> Token {
        let mut bytes = [0; 16];
        random(&mut bytes);
        Token(u128::from_be_bytes(bytes))
    }

    /// Reads a token as the server writes it.
    pub fn parse(field: &str) -> Option<Token> {
        let token = Token(u128::from_str_radix(field, 16).ok()?);
        (token.to_string() == field).then_some(token)
    }

    /// Its hash. A seat is looked up by it, so the time a look-up takes tells nothing of a token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.to_be_bytes()).into())
    }
}

impl TokenHash {
    /// The hash as it is stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The reverse.
    pub fn from_bytes(bytes: [u8; 32]) -> TokenHash {
        TokenHash(bytes)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A token is a secret: it doesn't show in logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_does_not_show_in_logs() {
        let token = Token::random(|bytes| bytes.fill(0x5a));
        assert_eq!(token.to_string(), "5a".repeat(16));
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        for other in ["", "5A", &"5A".repeat(16), &format!("+{}", "5a".repeat(16)), "bad"] {
            assert_eq!(Token::parse(other), None, "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_eq!(TokenHash::from_bytes(*token.hash().as_bytes()), token.hash());
    }
}
