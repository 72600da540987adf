//! An answer to the question for a permit, from anybody. The first byte chooses how the bytes are cut.

use rateway::queue::{Answer, Ask, Endpoint, Whom};

/// What comes of `pieces`, and of the connection's end where they do not suffice.
fn answer<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Answer {
    let endpoint = Endpoint::parse("http://queue/").expect("a URL");
    let whom = Whom { shard_id: 0, shard_count: 1, max_concurrency: None, token_hash: None, limit: None };
    let mut ask = Ask::new(&endpoint, &whom).expect("no placeholders");
    let mut settled = Answer::Waiting;
    for piece in pieces {
        let answer = ask.receive(piece);
        assert!(settled == Answer::Waiting || settled == answer, "an answer was taken back");
        settled = answer;
    }
    let answer = ask.ended();
    assert!(settled == Answer::Waiting || settled == answer, "an answer was taken back by the end");
    assert!(answer != Answer::Waiting, "nothing can follow the end");
    answer
}

/// Whether `bytes` hold `text`, or hold it with other bytes in between, as between two chunks.
fn scattered(bytes: &[u8], text: &[u8]) -> bool {
    let mut rest = text.iter().peekable();
    for byte in bytes {
        rest.next_if(|&wanted| wanted == byte);
    }
    rest.peek().is_none()
}

/// One run.
pub fn run(bytes: &[u8]) {
    let [first, bytes @ ..] = bytes else { return };
    let whole = answer(std::iter::once(bytes));
    assert_eq!(answer(bytes.chunks(1)), whole, "byte by byte it is another answer");
    assert_eq!(answer(bytes.chunks(usize::from(*first).max(1))), whole, "in pieces it is another answer");
    if whole == Answer::Permit {
        assert!(scattered(bytes, b"free to connect now! :)"), "a permit out of nothing");
    }
}
