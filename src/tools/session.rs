//! One connection to the broker with a blocking socket: connects, asks, waits for what happens.
//!
//! [`amqp::worker`](crate::amqp::worker) knows the protocol; here are the socket, TLS, the clock and the deadlines.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::amqp::worker::{Event, Message, Queue, Request, Worker};
use crate::amqp::{self, Options, Uri};
use crate::base::{Buf, loopback};
use crate::config::ToolsConfig;
use crate::reactor::clock;
use crate::stream::tls::{self, TlsSession};

/// The channel of queues, consumers and publishes.
pub(super) const CHANNEL: u16 = 1;
/// The channel of questions that may cost it.
const PROBE: u16 = 2;
/// For an address to take the connection, unless the URI says another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the connection to an open AMQP connection, and from a request to its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// For the broker to take what is written, and for the goodbye.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 * 1024;

/// Why there is no connection, or no longer.
#[derive(Debug)]
pub(super) enum Error {
    /// None of the brokers could be reached; each with its reason. Passwords are not in it.
    Unreachable(Vec<(String, String)>),
    /// AMQP_CA_FILE cannot be used.
    Tls(tls::Error),
    /// The connection ended.
    Lost(amqp::Error),
    /// The socket failed.
    Socket(io::Error),
    /// The broker closed a channel.
    Refused { what: String, code: u16, text: String },
    /// The broker did not answer.
    Silent(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(places) => {
                f.write_str("no broker could be reached:")?;
                places.iter().try_for_each(|(place, why)| write!(f, "\n  {place}: {why}"))
            }
            Error::Tls(error) => write!(f, "AMQP_CA_FILE: {error}"),
            Error::Lost(error) => write!(f, "{error}"),
            Error::Socket(error) => write!(f, "the connection to the broker was lost: {error}"),
            Error::Refused { what, code, text } => write!(f, "the broker refused {what}: {code} {text}"),
            Error::Silent(what) => write!(f, "the broker did not answer in time: {what}"),
        }
    }
}

impl From<amqp::Error> for Error {
    fn from(error: amqp::Error) -> Error {
        Error::Lost(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Socket(error)
    }
}

/// What an answer to a question was.
enum Answer {
    Done,
    Queue { name: String, consumers: u32 },
    Closed { code: u16, text: String },
}

/// A connection.
pub(super) struct Session {
    link: Link,
    worker: Worker,
    input: Buf,
    out: Vec<u8>,
    probe_open: bool,
    /// The broker's words when it has stopped taking what is published.
    blocked: Option<String>,
}

impl Session {
    /// Connects to the first broker that lets us, in the order of AMQP_URI, and opens a channel.
    pub(super) fn connect(config: &ToolsConfig, name: &str) -> Result<Session, Error> {
        let pem = config.amqp_ca.as_ref().map(|ca| ca.pem.as_slice());
        let tls = tls::client_config(pem).map_err(Error::Tls)?;
        let mut faults = Vec::new();
        for uri in &config.amqp {
            let session = dial(uri).and_then(|socket| {
                let session = if uri.tls { Some(TlsSession::new(&tls, &uri.host)) } else { None };
                let session = session.transpose().map_err(|error| Error::Socket(io::Error::other(error)))?;
                Session::open(uri, name, Link { socket, tls: session, cipher: Buf::default() })
            });
            match session {
                Ok(session) => return Ok(session),
                Err(Error::Socket(error)) => faults.push((uri.to_string(), error.to_string())),
                Err(error) => faults.push((uri.to_string(), error.to_string())),
            }
        }
        Err(Error::Unreachable(faults))
    }

    fn open(uri: &Uri, name: &str, link: Link) -> Result<Session, Error> {
        let defaults = Options::default();
        let options = Options {
            vhost: uri.vhost.clone(),
            user: uri.user.clone(),
            password: uri.password.clone(),
            heartbeat: uri.heartbeat.unwrap_or(defaults.heartbeat),
            frame_max: uri.frame_max.unwrap_or(defaults.frame_max),
            connection_name: format!("rateway {name}"),
            ..defaults
        };
        let worker = Worker::new(options, clock::read().now);
        let (input, out) = (Buf::with_capacity(READ_BYTES), Vec::new());
        let mut session = Session { link, worker, input, out, probe_open: false, blocked: None };
        let until = clock::read().now + ANSWER_TIMEOUT;
        match session.next(until)? {
            Some(Event::Opened) => {}
            _ => return Err(Error::Silent("the login".to_owned())),
        }
        session.worker.open_channel(CHANNEL);
        session.expect(CHANNEL, "a channel")?;
        Ok(session)
    }

    /// The machine, for requests without an answer.
    pub(super) fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// Why what is published may be waiting at the broker.
    pub(super) fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// The next thing that happens, or `None` at `until`.
    pub(super) fn next(&mut self, until: Instant) -> Result<Option<Event>, Error> {
        loop {
            match self.worker.poll_event() {
                Some(Event::Blocked { reason }) => {
                    self.blocked = Some(reason);
                    continue;
                }
                Some(event) => return Ok(Some(event)),
                None => {}
            }
            self.flush()?;
            let now = clock::read().now;
            let deadline = self.worker.poll_timeout(now);
            if deadline.is_some_and(|at| at <= now) {
                self.worker.handle_deadline(now)?;
                continue;
            }
            if now >= until {
                return Ok(None);
            }
            let wait = deadline.map_or(until, |at| at.min(until)) - now;
            match self.link.read(&mut self.input, wait)? {
                Came::Bytes => {
                    let received = self.worker.receive(clock::read().now, &mut self.input);
                    if let Err(error) = received {
                        // A last word to the broker, if it still listens.
                        let _ = self.flush();
                        return Err(error.into());
                    }
                }
                Came::Nothing => {}
                Came::End => return Err(self.worker.link_lost().into()),
            }
        }
    }

    /// Whether an exchange is there.
    pub(super) fn has_exchange(&mut self, name: &str) -> Result<bool, Error> {
        self.open_probe()?;
        self.worker.find_exchange(PROBE, name)?;
        match self.answer(PROBE, name)? {
            Answer::Closed { code: 404, .. } => Ok(false),
            Answer::Closed { code, text } => Err(Error::Refused { what: name.to_owned(), code, text }),
            Answer::Done | Answer::Queue { .. } => Ok(true),
        }
    }

    /// Who reads a queue: how many consumers, none where it is not there.
    pub(super) fn readers(&mut self, queue: &str) -> Result<u32, Error> {
        self.open_probe()?;
        self.worker.declare_queue(PROBE, Queue::Existing(queue))?;
        match self.answer(PROBE, queue)? {
            Answer::Queue { consumers, .. } => Ok(consumers),
            Answer::Closed { code: 404, .. } => Ok(0),
            Answer::Closed { code, text } => Err(Error::Refused { what: queue.to_owned(), code, text }),
            Answer::Done => Ok(0),
        }
    }

    /// Declares a queue of our own; gives back its name.
    pub(super) fn own_queue(&mut self, length_max: u32, bytes_max: u32) -> Result<String, Error> {
        self.worker.declare_queue(CHANNEL, Queue::Own { length_max, bytes_max })?;
        match self.answer(CHANNEL, "a queue")? {
            Answer::Queue { name, .. } => Ok(name),
            Answer::Closed { code, text } => Err(Error::Refused { what: "a queue".to_owned(), code, text }),
            Answer::Done => Err(Error::Silent("the name of a queue".to_owned())),
        }
    }

    /// Consumes a queue, `prefetch` messages ahead of their acknowledgement.
    pub(super) fn consume(&mut self, queue: &str, prefetch: u16) -> Result<(), Error> {
        self.worker.limit(CHANNEL, prefetch);
        self.expect(CHANNEL, "a limit")?;
        self.worker.consume(CHANNEL, queue)?;
        self.expect(CHANNEL, "a consumer")
    }

    /// Publishes a request and waits for the answer to it; `None` when there is none in time.
    pub(super) fn ask(&mut self, request: &Request<'_>, timeout: Duration) -> Result<Option<Message>, Error> {
        self.worker.publish(CHANNEL, request)?;
        let until = clock::read().now + timeout;
        while let Some(event) = self.next(until)? {
            match event {
                Event::Message(message) => {
                    self.worker.ack_through(CHANNEL, message.delivery_tag);
                    if message.correlation_id.as_deref() == Some(request.correlation_id.as_bytes()) {
                        return Ok(Some(message));
                    }
                }
                event => self.must_go_on(event)?,
            }
        }
        Ok(None)
    }

    /// Fails when `event` is the end of what this session is for.
    pub(super) fn must_go_on(&self, event: Event) -> Result<(), Error> {
        match event {
            Event::ChannelClosed { code, text, .. } => {
                Err(Error::Refused { what: "the channel".to_owned(), code, text })
            }
            Event::Cancelled => {
                Err(Error::Refused { what: "the queue".to_owned(), code: 404, text: "it is gone".to_owned() })
            }
            Event::Closed => Err(self.worker.link_lost().into()),
            _ => Ok(()),
        }
    }

    /// Says goodbye. What goes wrong with that no longer matters.
    pub(super) fn close(mut self) {
        self.worker.close();
        let until = clock::read().now + CLOSE_TIMEOUT;
        while let Ok(Some(event)) = self.next(until) {
            if event == Event::Closed {
                break;
            }
        }
        let _ = self.flush();
    }

    /// Opens the channel for questions, once, and again after it was closed.
    fn open_probe(&mut self) -> Result<(), Error> {
        if !self.probe_open {
            self.worker.open_channel(PROBE);
            self.expect(PROBE, "a channel")?;
            self.probe_open = true;
        }
        Ok(())
    }

    fn expect(&mut self, channel: u16, what: &str) -> Result<(), Error> {
        match self.answer(channel, what)? {
            Answer::Closed { code, text } => Err(Error::Refused { what: what.to_owned(), code, text }),
            Answer::Done | Answer::Queue { .. } => Ok(()),
        }
    }

    fn answer(&mut self, channel: u16, what: &str) -> Result<Answer, Error> {
        let until = clock::read().now + ANSWER_TIMEOUT;
        while let Some(event) = self.next(until)? {
            match event {
                Event::Done { channel: on } if on == channel => return Ok(Answer::Done),
                Event::Queue { channel: on, name, consumers, .. } if on == channel => {
                    return Ok(Answer::Queue { name, consumers });
                }
                Event::ChannelClosed { channel: on, code, text } if on == channel => {
                    self.probe_open &= channel != PROBE;
                    return Ok(Answer::Closed { code, text });
                }
                event => self.must_go_on(event)?,
            }
        }
        Err(Error::Silent(what.to_owned()))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.worker.transmit(&mut self.out);
        self.link.write(&mut self.out)?;
        Ok(())
    }
}

/// Connects to the first address that takes it.
fn dial(uri: &Uri) -> Result<TcpStream, Error> {
    let timeout = uri.connection_timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(CONNECT_TIMEOUT);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses = match loopback::addresses(&uri.host, uri.port) {
        Some(addresses) => addresses.to_vec(),
        None => (uri.host.as_str(), uri.port).to_socket_addrs()?.collect(),
    };
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// What a read brought.
enum Came {
    Bytes,
    Nothing,
    End,
}

/// The socket, with TLS or without.
struct Link {
    socket: TcpStream,
    tls: Option<TlsSession>,
    cipher: Buf,
}

impl Link {
    /// Writes all of `out`.
    fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.socket.write_all(out)?;
            out.clear();
            return Ok(());
        };
        let mut cipher = Vec::new();
        loop {
            let taken = tls.send(out);
            out.drain(..taken);
            tls.transmit(&mut cipher);
            self.socket.write_all(&cipher)?;
            cipher.clear();
            // Before the handshake is over it waits in the session.
            if taken == 0 || out.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads what is there, at the latest after `wait`.
    fn read(&mut self, input: &mut Buf, wait: Duration) -> io::Result<Came> {
        // Zero would be for ever.
        self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let window = if self.tls.is_some() { &mut self.cipher } else { &mut *input };
        window.reserve(READ_BYTES);
        match self.socket.read(window.spare()) {
            Ok(0) => return Ok(Came::End),
            Ok(count) => window.commit(count),
            Err(error) => {
                use io::ErrorKind as Kind;
                return match error.kind() {
                    Kind::WouldBlock | Kind::TimedOut | Kind::Interrupted => Ok(Came::Nothing),
                    _ => Err(error),
                };
            }
        }
        let Some(tls) = &mut self.tls else { return Ok(Came::Bytes) };
        while !self.cipher.is_empty() || tls.pending_bytes() > 0 {
            let received = tls.receive(&mut self.cipher);
            if let Err(error) = received {
                // The alert tells the broker why.
                let mut alert = Vec::new();
                tls.transmit(&mut alert);
                let _ = self.socket.write_all(&alert);
                return Err(io::Error::other(error));
            }
            let before = tls.pending_bytes();
            let taken = tls.plaintext().len();
            input.extend(tls.plaintext());
            tls.consume(taken);
            if before == 0 && taken == 0 {
                break;
            }
        }
        if input.is_empty() && tls.peer_closed() { Ok(Came::End) } else { Ok(Came::Bytes) }
    }
}
