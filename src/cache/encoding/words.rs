//! Strings that Discord sends again and again. Their order is part of the layout: new ones go to the end.

macro_rules! words {
    ($($word:literal,)*) => {
        /// Sorted by nothing; found by length and comparison.
        pub(super) const WORDS: &[&str] = &[$($word),*];
        /// The same as JSON.
        pub(super) const QUOTED: &[&str] = &[$(concat!("\"", $word, "\"")),*];
    };
}

words! {
    "online",
    "idle",
    "dnd",
    "offline",
    "custom",
    "Custom Status",
    "en-US",
    "en-GB",
    "de",
    "fr",
    "es-ES",
    "pt-BR",
    "ru",
    "ja",
    "ko",
    "pl",
    "tr",
    "zh-CN",
    "zh-TW",
    "deprecated",
    "automatic",
    "rotterdam",
    "us-east",
    "us-west",
    "us-central",
    "singapore",
    "sydney",
    "japan",
    "brazil",
    "india",
    "general",
    "@everyone",
    "COMMUNITY",
    "NEWS",
    "INVITE_SPLASH",
    "ANIMATED_ICON",
    "ANIMATED_BANNER",
    "BANNER",
    "VANITY_URL",
    "PARTNERED",
    "VERIFIED",
    "DISCOVERABLE",
    "ROLE_ICONS",
    "SOUNDBOARD",
    "WELCOME_SCREEN_ENABLED",
    "MEMBER_VERIFICATION_GATE_ENABLED",
    "PREVIEW_ENABLED",
    "AUTO_MODERATION",
    "spotify:1",
    "Spotify",
    "desktop",
    "mobile",
    "web",
}

/// Longest of [`WORDS`].
const LONGEST: usize = 32;

/// For each length, the words of that length, as a bit per word.
static BY_LENGTH: [u64; LONGEST + 1] = {
    let mut out = [0; LONGEST + 1];
    let mut at = 0;
    while at < WORDS.len() {
        out[WORDS[at].len()] |= 1 << at;
        at += 1;
    }
    out
};

/// The index of `text` in [`WORDS`].
#[inline]
pub(super) fn find(text: &[u8]) -> Option<u8> {
    let mut candidates = *BY_LENGTH.get(text.len())?;
    while candidates != 0 {
        let at = candidates.trailing_zeros();
        // Most candidates differ in their first byte, which is cheaper to see than the whole.
        let word = WORDS[at as usize].as_bytes();
        if word.first() == text.first() && word == text {
            return Some(at as u8);
        }
        candidates &= candidates - 1;
    }
    None
}
