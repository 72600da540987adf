//! Load without compressing: dispatches that were compressed once and are sent again and again, each time with
//! other sequence numbers.
//!
//! A zlib stream cannot be patched, except where it stores bytes as they are. So each message is made as
//!
//! ```text
//! deflate {"t":"NAME","s":   | sync flush, its empty stored block made to hold | deflate ,"op":0,"d":..} |
//!                            | ten digits: 00 | 0A 00 | F5 FF | digits         | sync flush              |
//! ```
//!
//! and the digits' bytes are only ever in the receiver's window as placeholders that no text contains, so that no
//! match refers to them. Number and padding make ten bytes, always: distances stay what they were. (Spaces before
//! a number are legal JSON.)
//!
//! A cycle of messages is recorded twice in one stream; the second time its first messages refer to the end of the
//! first, so that it may follow itself for ever: that is `steady`. Whatever else a connection is sent (an ack, a
//! chunk) breaks the distances, so there are entries: every [`ENTRY_SPACING`] messages a run recorded with an empty
//! window, long enough to fill the window with what `steady` expects there. Up to the next entry messages are
//! compressed one by one, referring to nothing.

use std::io;
use std::sync::Arc;

use crate::base::deflate::Deflate;

/// The level of zlib's compression, as far as one can tell from what Discord sends.
pub(super) const LEVEL: i32 = 6;
/// Messages between two entries.
const ENTRY_SPACING: usize = 64;
/// The window of deflate and the longest match that might start before it.
const WINDOW_BYTES: usize = 32_768 + 512;
/// Width of `s`: a session ends before ten digits do.
const DIGITS: usize = 10;
/// Bytes that no UTF-8 text contains, in place of the digits.
const PLACEHOLDER: [u8; DIGITS] = [0xf8, 0xfb, 0xf9, 0xfe, 0xfa, 0xff, 0xc0, 0xfd, 0xc1, 0xfc];
const SYNC: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// What stands in the place of [`SYNC`]: a stored block of ten bytes.
const STORED: [u8; 4] = [DIGITS as u8, 0x00, !(DIGITS as u8), 0xff];

/// How payloads travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Text frames.
    None,
    /// `compress=zlib-stream`.
    Zlib,
    /// `compress=zstd-stream`.
    Zstd,
}

/// The head of a WebSocket frame from a server: RFC 6455 5.2, unmasked, final.
pub(super) fn frame_head(opcode: u8, len: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// One frame within `Recording::bytes`.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    digits: usize,
    end: usize,
}

/// A cycle of dispatches, framed and compressed.
#[derive(Debug)]
pub(super) struct Recording {
    compression: Compression,
    /// Each message's text before and after the digits.
    texts: Vec<(String, String)>,
    bytes: Vec<u8>,
    steady: Vec<Piece>,
    /// One run per entry.
    cold: Vec<Vec<Piece>>,
}

impl Recording {
    /// Records `events` (name, `d`), which must not be empty; few are repeated until they outgrow the window.
    pub fn new(compression: Compression, events: &[(&'static str, String)]) -> io::Result<Recording> {
        let mut texts = Vec::new();
        let mut total = 0;
        while total < 2 * WINDOW_BYTES {
            for (name, d) in events {
                let (head, tail) = (format!("{{\"t\":\"{name}\",\"s\":"), format!(",\"op\":0,\"d\":{d}}}"));
                total += head.len() + DIGITS + tail.len();
                texts.push((head, tail));
            }
            if events.is_empty() {
                return Err(io::Error::other("nothing to record"));
            }
        }
        let mut recording =
            Recording { compression, texts, bytes: Vec::new(), steady: Vec::new(), cold: Vec::new() };
        match compression {
            Compression::None => recording.plain(),
            Compression::Zlib => recording.deflate()?,
            Compression::Zstd => {} // Compressed as it goes.
        }
        Ok(recording)
    }

    fn plain(&mut self) {
        for (head, tail) in &self.texts {
            let start = self.bytes.len();
            frame_head(1, head.len() + DIGITS + tail.len(), &mut self.bytes);
            self.bytes.extend_from_slice(head.as_bytes());
            let digits = self.bytes.len();
            self.bytes.extend_from_slice(&PLACEHOLDER);
            self.bytes.extend_from_slice(tail.as_bytes());
            self.steady.push(Piece { start, digits, end: self.bytes.len() });
        }
    }

    fn deflate(&mut self) -> io::Result<()> {
        let count = self.texts.len();
        let mut deflate = Deflate::raw(LEVEL)?;
        for n in 0..2 * count {
            let piece = self.record(&mut deflate, n % count);
            if n < count {
                self.bytes.truncate(piece.start);
            } else {
                self.steady.push(piece);
            }
        }
        for entry in (0..count).step_by(ENTRY_SPACING) {
            deflate.reset();
            let (mut run, mut raw) = (Vec::new(), 0);
            while raw < WINDOW_BYTES {
                let n = (entry + run.len()) % count;
                raw += self.texts[n].0.len() + DIGITS + self.texts[n].1.len();
                run.push(self.record(&mut deflate, n));
            }
            self.cold.push(run);
        }
        Ok(())
    }

    /// Compresses message `n` behind what `deflate` had before.
    fn record(&mut self, deflate: &mut Deflate, n: usize) -> Piece {
        let (head, tail) = &self.texts[n];
        let mut body = Vec::with_capacity(1024);
        let digits = pour(deflate, head, &PLACEHOLDER, tail, &mut body);
        let start = self.bytes.len();
        frame_head(2, body.len(), &mut self.bytes);
        let digits = self.bytes.len() + digits;
        self.bytes.extend_from_slice(&body);
        Piece { start, digits, end: self.bytes.len() }
    }

    fn index(&self, seq: u64) -> usize {
        (seq % self.texts.len() as u64) as usize
    }

    /// The text of the dispatch `seq`.
    pub fn text(&self, seq: u64) -> String {
        let (head, tail) = &self.texts[self.index(seq)];
        format!("{head}{seq:>10}{tail}")
    }

    /// Frame bytes of an average message.
    pub fn frame_bytes(&self) -> usize {
        match self.steady.as_slice() {
            [] => 300,
            list => list.iter().map(|p| p.end - p.start).sum::<usize>() / list.len(),
        }
    }

    fn copy(&self, piece: Piece, seq: u64, out: &mut Vec<u8>) {
        let at = out.len() + (piece.digits - piece.start);
        out.extend_from_slice(&self.bytes[piece.start..piece.end]);
        if let Some(digits) = out.get_mut(at..at + DIGITS) {
            digits.copy_from_slice(&digits_of(seq));
        }
    }
}

/// Deflates `head`, stores `middle`, deflates `tail`; says where `middle` is in `out`.
fn pour(deflate: &mut Deflate, head: &str, middle: &[u8; DIGITS], tail: &str, out: &mut Vec<u8>) -> usize {
    deflate.compress(head.as_bytes(), out);
    let suffix = out.len() - SYNC.len();
    debug_assert_eq!(out[suffix..], SYNC);
    out.truncate(suffix);
    out.extend_from_slice(&STORED);
    out.extend_from_slice(middle);
    deflate.pass_over(middle);
    deflate.compress(tail.as_bytes(), out);
    suffix + STORED.len()
}

fn digits_of(mut seq: u64) -> [u8; DIGITS] {
    let mut out = [b' '; DIGITS];
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (seq % 10) as u8;
        seq /= 10;
        if seq == 0 {
            break;
        }
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The receiver's window holds something else.
    Lost,
    Cold {
        entry: usize,
        n: usize,
    },
    Steady,
}

/// Where one connection is in a recording.
#[derive(Debug)]
pub(super) struct Player {
    recording: Arc<Recording>,
    next: u64,
    mode: Mode,
}

/// What a player did with a dispatch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Played {
    /// Its frame is written.
    Framed,
    /// The caller has to compress [`Recording::text`] by itself, referring to nothing before.
    Alone,
}

impl Player {
    pub fn new(recording: Arc<Recording>) -> Player {
        Player { recording, next: 0, mode: Mode::Lost }
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Something else was sent on the connection.
    pub fn interrupt(&mut self) {
        self.mode = Mode::Lost;
    }

    /// Appends the frame of dispatch `seq` to `out`.
    pub fn play(&mut self, seq: u64, out: &mut Vec<u8>) -> Played {
        let recording = &*self.recording;
        if recording.compression == Compression::Zstd {
            return Played::Alone;
        }
        let index = recording.index(seq);
        if recording.compression == Compression::None {
            recording.copy(recording.steady[index], seq, out);
            return Played::Framed;
        }
        if self.next != seq {
            self.mode = Mode::Lost;
        }
        self.next = seq + 1;
        if self.mode == Mode::Lost {
            if !index.is_multiple_of(ENTRY_SPACING) {
                return Played::Alone;
            }
            self.mode = Mode::Cold { entry: index / ENTRY_SPACING, n: 0 };
        }
        let piece = match self.mode {
            Mode::Cold { entry, n } => {
                let run = &recording.cold[entry];
                self.mode = if n + 1 < run.len() { Mode::Cold { entry, n: n + 1 } } else { Mode::Steady };
                run[n]
            }
            Mode::Steady | Mode::Lost => recording.steady[index],
        };
        recording.copy(piece, seq, out);
        Played::Framed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::base::deflate::Inflate;
    use crate::sim::{Discord, Options};

    #[allow(clippy::disallowed_methods)] // Nothing depends on the value.
    fn recording(compression: Compression) -> Arc<Recording> {
        let discord = Discord::new(
            Options { guilds: 20, members: 200, ..Options::default() },
            std::time::Instant::now(),
        );
        let events = discord.recorded_events((0, 1, crate::sim::INTENTS_ALL), 500);
        Arc::new(Recording::new(compression, &events).unwrap())
    }

    /// The payload of one frame.
    fn body(frame: &[u8]) -> &[u8] {
        match frame[1] {
            126 => &frame[4..],
            127 => &frame[10..],
            _ => &frame[2..],
        }
    }

    fn check(player: &mut Player, inflate: &mut Inflate, alone: &mut Deflate, seq: u64) -> usize {
        let mut out = Vec::new();
        let text = player.recording().text(seq);
        let compressed = match player.play(seq, &mut out) {
            Played::Framed => body(&out).to_vec(),
            Played::Alone => {
                alone.reset();
                alone.compress(text.as_bytes(), &mut out);
                out
            }
        };
        assert!(compressed.ends_with(&SYNC));
        let got = inflate.inflate(&compressed).unwrap_or_else(|code| panic!("s {seq}: inflate says {code}"));
        assert_eq!(String::from_utf8_lossy(&got), text);
        compressed.len()
    }

    #[test]
    fn cycles_inflate_right_from_any_start_over_several_loops() {
        let recording = recording(Compression::Zlib);
        let count = recording.texts.len() as u64;
        for start in [0, 1, 63, 64, 65, count - 1, count / 2, 3 * count + 77, 4_294_967_290] {
            let (mut inflate, mut alone) = (Inflate::new(), Deflate::raw(LEVEL).unwrap());
            inflate.inflate(&[0x78, 0x9c]).unwrap();
            let mut player = Player::new(recording.clone());
            for seq in start..start + 3 * count {
                check(&mut player, &mut inflate, &mut alone, seq);
            }
            assert_eq!(player.mode, Mode::Steady);
        }
    }

    #[test]
    fn interruptions_and_jumps_do_not_break_the_stream() {
        let seed = std::env::var("RATEWAY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(42);
        println!("RATEWAY_SEED={seed}");
        let mut rng = Rng::new(seed);
        let recording = recording(Compression::Zlib);
        let (mut inflate, mut alone) = (Inflate::new(), Deflate::raw(LEVEL).unwrap());
        inflate.inflate(&[0x78, 0x9c]).unwrap();
        let mut player = Player::new(recording);
        let mut seq = 1;
        for _ in 0..5000 {
            check(&mut player, &mut inflate, &mut alone, seq);
            seq += 1;
            if rng.chance(1, 150) {
                let ack = b"{\"t\":null,\"s\":null,\"op\":11,\"d\":null}";
                let mut out = Vec::new();
                alone.reset();
                alone.compress(ack, &mut out);
                assert_eq!(inflate.inflate(&out).unwrap(), ack);
                player.interrupt();
            } else if rng.chance(1, 300) {
                seq += rng.below(1000);
            }
        }
    }

    #[test]
    fn messages_refer_to_earlier_ones() {
        let recording = recording(Compression::Zlib);
        let count = recording.texts.len() as u64;
        let mut player = Player::new(recording.clone());
        let (mut inflate, mut alone) = (Inflate::new(), Deflate::raw(LEVEL).unwrap());
        inflate.inflate(&[0x78, 0x9c]).unwrap();
        let sizes: usize = (0..count).map(|seq| check(&mut player, &mut inflate, &mut alone, seq)).sum();
        let mut single = 0;
        for seq in 0..count {
            let mut out = Vec::new();
            alone.reset();
            alone.compress(recording.text(seq).as_bytes(), &mut out);
            single += out.len();
        }
        assert!(sizes * 10 < single * 7, "{sizes} bytes with one window, {single} without");
    }

    #[test]
    fn plain_frames_carry_their_number() {
        let recording = recording(Compression::None);
        let mut player = Player::new(recording.clone());
        for seq in [1, 99, 12_345, 9_999_999_999] {
            let mut out = Vec::new();
            assert_eq!(player.play(seq, &mut out), Played::Framed);
            assert_eq!(body(&out), recording.text(seq).as_bytes());
            let value: serde_json::Value = serde_json::from_slice(body(&out)).unwrap();
            assert_eq!(value["s"], seq);
        }
    }
}
