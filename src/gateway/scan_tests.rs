use super::*;
use crate::base::Rng;

/// Every way to classify that this machine has, by name.
fn walks(bytes: &[u8], start: usize) -> Vec<(&'static str, Option<usize>)> {
    let mut all = vec![("bytewise", walk::<Bytewise>(bytes, start)), ("chosen", masked(bytes, start))];
    #[cfg(target_arch = "x86_64")]
    all.push(("sse2", walk::<x86::Sse2>(bytes, start)));
    all
}

fn agree(bytes: &[u8], start: usize, context: &str) {
    let expected = plain(bytes, start);
    for (name, found) in walks(bytes, start) {
        assert_eq!(
            found,
            expected.ok(),
            "{name} at {start}, {expected:?}, {context}: {:?}",
            bytes.escape_ascii()
        );
    }
}

fn seed() -> u64 {
    let seed = std::env::var("RATEWAY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20261121);
    println!("RATEWAY_SEED={seed}");
    seed
}

#[test]
fn masks_of_all_bytes_at_all_places_are_alike() {
    for byte in 0..=255u8 {
        for place in (0..BLOCK).step_by(if cfg!(miri) { 21 } else { 1 }) {
            let mut block = [b'x'; BLOCK];
            block[place] = byte;
            let expected = Bytewise::masks(&block);
            assert_eq!(expected.quotes, u64::from(byte == b'"') << place);
            #[cfg(target_arch = "x86_64")]
            {
                assert_eq!(x86::Sse2::masks(&block), expected);
                assert_eq!(x86::Sse2::rare_masks(&block), Bytewise::rare_masks(&block));
                if is_x86_feature_detected!("avx2") {
                    assert_eq!(x86::Avx2::masks(&block), expected);
                    assert_eq!(x86::Avx2::rare_masks(&block), Bytewise::rare_masks(&block));
                }
                assert_eq!(x86::special_in_string(&[byte; 16]) != 0, matches!(byte, 0..0x20 | b'"' | b'\\'));
            }
        }
    }
}

#[test]
fn runs_of_backslashes_at_every_place_of_a_block() {
    // Miri takes a thousand times as long.
    let step = if cfg!(miri) { 23 } else { 1 };
    for run in (0..140).step_by(step) {
        for lead in (0..70).step_by(step) {
            let text = format!("{{\"{}{}\"}}]", "x".repeat(lead), "\\".repeat(run));
            agree(text.as_bytes(), 0, "run");
            // An even run leaves the quote alone.
            assert_eq!(container_end(text.as_bytes(), 0).is_ok(), run % 2 == 0, "{lead} {run}");
        }
    }
}

#[test]
fn random_bytes_at_every_alignment_and_length() {
    let mut rng = Rng::new(seed());
    let alphabet = b"{}[]\"\\\\\"x u\"/n0fA:,\t\n\x01\x7f\xc3{}[]{\"";
    for round in 0..if cfg!(miri) { 100 } else { 40_000 } {
        let len = rng.below(200) as usize;
        let text: Vec<u8> = (0..len).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
        let start = rng.below(len as u64 + 1) as usize;
        agree(&text, start, &format!("round {round}"));
    }
    for len in (0..200).step_by(if cfg!(miri) { 67 } else { 1 }) {
        let text: Vec<u8> = (0..len).map(|_| rng.below(256) as u8).collect();
        for start in 0..=len {
            agree(&text, start, "raw bytes");
        }
    }
}

#[test]
fn good_containers_end_where_they_end() {
    let mut rng = Rng::new(seed());
    for _ in 0..if cfg!(miri) { 10 } else { 3000 } {
        let mut text = vec![b' '; rng.below(70) as usize];
        let start = text.len();
        let mut open = vec![];
        loop {
            // Towards the end only closing brackets are drawn.
            match if text.len() > 2000 { 3 } else { rng.below(8) } {
                0..2 => {
                    let (a, b) = if rng.chance(1, 2) { (b'{', b'}') } else { (b'[', b']') };
                    text.push(a);
                    open.push(b);
                }
                2..5 if !open.is_empty() => text.extend(open.pop()),
                5 if !open.is_empty() => text.extend(b"\"}]\\\"{\\\\\""),
                6 if !open.is_empty() => text.extend(b"\"\\u00e9\\n\": 12.5e3,\n"),
                _ if !open.is_empty() => text.extend(b"\"some longer text without anything in it\""),
                _ => continue,
            }
            if open.is_empty() {
                break;
            }
        }
        let end = text.len();
        text.extend(vec![b"}]\"\\\x00x"[rng.below(6) as usize]; rng.below(70) as usize]);
        if plain(&text, start).is_err() {
            // Deeper than allowed.
            agree(&text, start, "deep");
            continue;
        }
        assert_eq!(container_end(&text, start), Ok(end));
        agree(&text, start, "good");
        for cut in [end - 1, start + (end - start) / 2] {
            assert!(container_end(&text[..cut], start).is_err());
            agree(&text[..cut], start, "cut");
        }
    }
}

#[test]
fn faults_are_named_with_their_place() {
    let cases: [(&[u8], usize, Fault); 12] = [
        (b"{\"a\":[1,2}", 9, Fault::Mismatched),
        (b"[{]}", 2, Fault::Mismatched),
        (b"{\"a\"", 4, Fault::Truncated),
        (b"{\"a", 3, Fault::Truncated),
        (b"{\"a\\", 4, Fault::Truncated),
        (b"{\"a\\x\"}", 3, Fault::BadEscape),
        (b"{\"a\\u12g4\"}", 3, Fault::BadEscape),
        (b"{\"a\\u12\"}", 3, Fault::BadEscape),
        (b"{\\\"a\"}", 1, Fault::BadEscape),
        (b"{\"a\nb\"}", 3, Fault::ControlCharacter),
        (b"{\x00}", 1, Fault::ControlCharacter),
        (b"{\x0c}", 1, Fault::ControlCharacter),
    ];
    for (text, at, fault) in cases {
        assert_eq!(container_end(text, 0), Err((at, fault)), "{}", text.escape_ascii());
        agree(text, 0, "fault");
    }
}

#[test]
fn depth_is_limited_without_recursion() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let max = MAX_DEPTH as usize;
    assert_eq!(container_end(&nested(max), 0), Ok(2 * max));
    assert_eq!(container_end(&nested(max + 1), 0), Err((max, Fault::TooDeep)));
    assert_eq!(container_end(&vec![b'{'; 1_000_000], 0), Err((max, Fault::TooDeep)));
    agree(&nested(max), 0, "deep");
    agree(&nested(max + 1), 0, "too deep");
}

#[test]
fn strings_end_at_their_quote() {
    for lead in 0..40 {
        let text = format!("{}\\\\\\\"\\u0041\"rest\"", "é".repeat(lead));
        let quote = text.find("\"rest").unwrap();
        assert_eq!(string_end(text.as_bytes(), 0), Ok(StringEnd { quote, escaped: true }));
        let text = format!("{}\"", "x".repeat(lead));
        assert_eq!(string_end(text.as_bytes(), 0), Ok(StringEnd { quote: lead, escaped: false }));
        let open = "x".repeat(lead);
        assert_eq!(string_end(open.as_bytes(), 0), Err((lead, Fault::Truncated)));
        let control = format!("{open}\u{1f}\"");
        assert_eq!(string_end(control.as_bytes(), 0), Err((lead, Fault::ControlCharacter)));
    }
    assert_eq!(string_end(b"abc", 9), Err((3, Fault::Truncated)));
}
