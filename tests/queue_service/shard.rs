//! A shard as a bare socket: it sends bytes, and looks at the bytes that come back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// What twilight-rs/gateway-queue answers, to the byte.
pub const PERMIT: &str = r#"{"message": "You're free to connect now! :)"}"#;

/// Discord's spacing, and what the service adds of its own as these tests set it.
pub const SPACING: Duration = Duration::from_secs(5);
pub const SPACING_AND_SLACK: Duration = Duration::from_millis(5250);

/// When something was seen: not before the one moment, and there at the other. The distance of two sights is taken from
/// the earlier one's `not_before` to the later one's `at`, which is never shorter than it was at the service, however
/// long this process did not run in between.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub not_before: Instant,
    pub at: Instant,
}

impl Seen {
    /// Fails when this came earlier than `least` after `earlier`.
    pub fn assert_after(self, earlier: Seen, least: Duration) {
        let distance = self.at.duration_since(earlier.not_before);
        assert!(distance >= least, "{distance:?} after the one before, and {least:?} are due");
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status_line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Fails unless it is a permit as all clients know it.
    pub fn assert_permit(&self) {
        assert_eq!((self.status_line.as_str(), self.body.as_str()), ("HTTP/1.1 200 OK", PERMIT), "{self:?}");
    }
}

/// Reads a permit of each, all looked at side by side, as one may come while another is waited for.
pub fn permits<const N: usize>(shards: [&mut Shard; N]) -> [Seen; N] {
    std::thread::scope(|scope| {
        let looks = shards.map(|shard| scope.spawn(|| shard.permit()));
        looks.map(|look| look.join().expect("a permit"))
    })
}

/// A connection.
pub struct Shard {
    stream: BufReader<TcpStream>,
    asked_at: Instant,
    /// The number of its last permit, where the service gave it one.
    pub permit: Option<u64>,
}

impl Shard {
    pub fn connect(address: &str) -> Shard {
        let stream = TcpStream::connect(address).expect("the service listens");
        // A Nagle delay would only make tests slower.
        stream.set_nodelay(true).expect("TCP");
        Shard { stream: BufReader::new(stream), asked_at: Instant::now(), permit: None }
    }

    /// Sends bytes. What the service thinks of them is seen by reading.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.asked_at = Instant::now();
        // It may have closed the connection in the midst of them.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Asks for `target` as the usual client does.
    pub fn ask(&mut self, target: &str) {
        self.say(format!("GET {target} HTTP/1.1\r\nHost: queue\r\n\r\n"));
    }

    /// Posts to `target` without a body.
    pub fn post(&mut self, target: &str) {
        self.say(format!("POST {target} HTTP/1.1\r\nHost: queue\r\nContent-Length: 0\r\n\r\n"));
    }

    /// Reads an answer, with a body of the length that it says.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole body");
        answer.body = String::from_utf8(body).expect("text");
        answer
    }

    /// Reads an answer of which only the head may come.
    pub fn head(&mut self) -> Answer {
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("an answer");
            assert!(line.ends_with("\r\n"), "the connection was closed in an answer: {line:?}");
            line.truncate(line.len() - 2);
            line
        };
        let status_line = line();
        let mut headers = Vec::new();
        loop {
            let line = line();
            if line.is_empty() {
                return Answer { status_line, headers, body: String::new() };
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// Reads a permit; says when it was seen.
    pub fn permit(&mut self) -> Seen {
        let seen = self.see();
        let answer = self.answer();
        answer.assert_permit();
        self.permit = answer.header("rateway-feedback").map(|number| number.parse().expect("a number"));
        seen
    }

    /// Waits until there is something to read, looking every few milliseconds.
    pub fn see(&mut self) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        let mut not_before = self.asked_at;
        assert!(self.stream.buffer().is_empty(), "something was read ahead, its time is not known");
        self.stream.get_ref().set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
        loop {
            let before = Instant::now();
            match self.stream.get_ref().peek(&mut [0]) {
                Ok(0) => panic!("closed instead of answered"),
                Ok(_) => return Seen { not_before, at: Instant::now() },
                Err(error) if is_timeout(&error) => not_before = before,
                Err(error) => panic!("broken instead of answered: {error}"),
            }
            assert!(Instant::now() < deadline, "waited {} s in vain for an answer", PATIENCE.as_secs());
        }
    }

    /// Fails when anything comes, an end too, within this time. There is nothing to wait for but time.
    pub fn assert_unanswered(&mut self, seconds: f64) {
        let timeout = Duration::from_secs_f64(seconds);
        self.stream.get_ref().set_read_timeout(Some(timeout)).expect("a timeout");
        match self.stream.read(&mut [0]) {
            Ok(0) => panic!("closed instead of left waiting"),
            Ok(_) => panic!("answered"),
            Err(error) => assert!(is_timeout(&error), "{error}"),
        }
    }

    /// Fails unless the connection ends without one byte.
    pub fn assert_closed(&mut self) {
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            // How a connection ends of which not all was read.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(bytes.is_empty(), "answered: {}", String::from_utf8_lossy(&bytes));
    }

    /// Ends only its own direction, as a client that will send nothing more.
    pub fn end_writing(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("a connection");
    }

    /// Leaves with a reset, as a process whose machine was taken away.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the descriptor is open as long as `self` is, and the option's value is of the type and length that
        // socket(7) says.
        let result = unsafe {
            libc::setsockopt(
                self.stream.get_ref().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "SO_LINGER");
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
