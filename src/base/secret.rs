//! A string that must not be seen: tokens, passwords, session ids.

use std::fmt;

/// A secret string. Prints as `***` however it is formatted; only [`Secret::expose`] gives it out.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The secret itself, for the one place that puts it on the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is `text`, in a time that does not tell where the two differ.
    pub fn matches(&self, text: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), text.as_bytes());
        // Every byte of what was sent is looked at; of the secret, at most its length shows.
        let mut difference = own.len() ^ other.len();
        for (at, &byte) in other.iter().enumerate() {
            let expected = own.get(at % own.len().max(1)).copied().unwrap_or(0);
            difference |= usize::from(std::hint::black_box(expected ^ byte));
        }
        std::hint::black_box(difference) == 0
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn is_compared_as_a_whole() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        for wrong in ["", "hunter", "hunter22", "hunter3", "Hunter2", "hunter2hunter2"] {
            assert!(!secret.matches(wrong), "{wrong}");
        }
        assert!(Secret::default().matches("") && !Secret::default().matches("x"));
    }
}
