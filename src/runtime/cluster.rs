//! A cluster's link to the broker: dial, TLS, the AMQP client machine, and what waits to be written.
//!
//! A link that fails is made anew with backoff, by the next URI in turn; what was not confirmed goes out again.
//! Here are the bytes; what the events mean to shards and workers is in [`super::home`] and [`super::workers`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::amqp::uri::Uri;
use crate::amqp::{self, Client, Delivery};
use crate::base::Buf;
use crate::publisher::{self, Publisher};
use crate::reactor::{Fill, Socket};
use crate::state::Sessions;
use crate::stream::tls::TlsSession;

use super::backoff::Backoff;
use super::dial::Dial;

/// How many batches one write gathers at most. Linux takes 1024 slices; past some dozens of batches of up to
/// 256 KiB the socket's buffer is full anyway.
const SLICES_MAX: usize = 64;

/// How much is read from a broker before others have their turn.
const READ_BYTES: usize = 64 * 1024;

/// How many control bytes (acknowledgements, answers, heartbeats) wait for a socket before the client keeps more.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// How often a broker that stays away is mentioned.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(15);

/// Where the link stands.
pub enum Link {
    /// Waiting for the next attempt.
    Down {
        /// When that is.
        retry_at: Instant,
    },
    /// Resolving or connecting.
    Dialing(Dial),
    /// Connected.
    Up(Box<Up>),
    /// Stopped for good.
    Closed,
}

/// A link that has a socket.
pub struct Up {
    /// The AMQP machine.
    pub client: Client,
    wire: Wire,
    input: Buf,
    plain: Buf,
    control: Vec<u8>,
    control_written: usize,
}

/// The way out to the broker: a socket, with TLS or without.
struct Wire {
    socket: Socket,
    tls: Option<TlsSession>,
    ciphertext: Vec<u8>,
    ciphertext_written: usize,
}

/// One cluster on its home thread.
pub struct Cluster {
    /// The cluster's number, from 1.
    pub number: u32,
    /// Its shards' ids.
    pub shards: Range<u32>,
    /// The slots of its shards on this thread.
    pub slots: Range<usize>,
    /// What is framed and not confirmed, in memory and on disk.
    pub publisher: Publisher,
    /// What outlives the process of its shards' sessions.
    pub sessions: Option<Sessions>,
    /// The link.
    pub link: Link,
    /// Counts the connections.
    pub generation: u32,
    /// Publishes may be written.
    pub publish_ready: bool,
    /// The broker asked to hold publishes back (`connection.blocked`).
    pub blocked: bool,
    /// It asked so for the channel alone (`channel.flow`), which a new life of the channel undoes.
    pub blocked_by_flow: bool,
    /// Readers of this cluster's shards are stopped.
    pub paused: bool,
    /// Stands in the list of links to be read.
    pub readable: bool,
    /// Something waits to be written, as far as is known.
    pub dirty: bool,
    /// Shards that wait for outbox memory which batches under way have.
    pub deferred: Vec<usize>,
    /// Its shards have been started.
    pub started: bool,
    /// The largest frame that the broker takes.
    pub frame_max: u32,
    /// Declare the incoming queue durable: the broker refused a transient one.
    pub queue_durable: bool,
    /// When a lost link was last told of, since it was up, and whether as one that only the operator can mend.
    pub told_at: Option<(Instant, bool)>,
    /// How often the link was lost.
    pub links_lost: u64,
    /// Messages of workers that wait for their turn, at most as many as the broker sends ahead.
    pub deliveries: VecDeque<Delivery>,
    uris: Arc<[Uri]>,
    uri: usize,
    backoff: Backoff,
}

/// Bytes of answers that may wait for a broker before the next worker's message is looked at.
const ANSWERS_BACKLOG_MAX: usize = 256 * 1024;

/// The largest frame before the broker has said its own: RabbitMQ's default.
pub const FRAME_MAX_DEFAULT: u32 = 131_072;

impl Cluster {
    /// A cluster that dials at `now`.
    pub fn new(
        number: u32,
        shards: Range<u32>,
        slots: Range<usize>,
        publisher: Publisher,
        uris: Arc<[Uri]>,
        now: Instant,
        seed: u64,
    ) -> Cluster {
        Cluster {
            number,
            shards,
            slots,
            publisher,
            sessions: None,
            link: Link::Down { retry_at: now },
            generation: 0,
            publish_ready: false,
            blocked: false,
            blocked_by_flow: false,
            paused: false,
            readable: false,
            dirty: false,
            deferred: Vec::new(),
            started: false,
            frame_max: FRAME_MAX_DEFAULT,
            queue_durable: false,
            told_at: None,
            links_lost: 0,
            deliveries: VecDeque::new(),
            uris,
            uri: 0,
            backoff: Backoff::new(RETRY_FIRST, RETRY_CAP, seed),
        }
    }

    /// The broker that is or will be dialed.
    pub fn uri(&self) -> &Uri {
        &self.uris[self.uri]
    }

    /// Its place among all.
    pub fn uri_index(&self) -> usize {
        self.uri
    }

    /// Gives the link up and plans the next attempt, not before `wait_min`. Publishes under way count as perhaps arrived.
    pub fn lose_link(&mut self, now: Instant, wait_min: Duration) -> Duration {
        let wait = self.backoff.next_wait().max(wait_min);
        self.uri = (self.uri + 1) % self.uris.len();
        self.links_lost += 1;
        self.drop_link(Link::Down { retry_at: now + wait });
        wait
    }

    /// Whether a lost link is worth a line: the first of a row, then one a minute. A hundred clusters may wait for
    /// the same broker.
    ///
    /// A cause that only the operator can mend (`hopeless`) is told even if another was a moment ago.
    pub fn tells_loss(&mut self, now: Instant, hopeless: bool) -> bool {
        let due = |(at, told): (Instant, bool)| {
            now.saturating_duration_since(at) >= TELL_INTERVAL || (hopeless && !told)
        };
        let tells = self.told_at.is_none_or(due);
        if tells {
            self.told_at = Some((now, hopeless));
        }
        tells
    }

    /// Drops the link and takes `next` in its place.
    pub fn drop_link(&mut self, next: Link) {
        self.link = next;
        // The broker has no acknowledgement of these and brings them again.
        self.deliveries.clear();
        self.publish_ready = false;
        self.blocked = false;
        self.publisher.outbox.rewind();
    }

    /// Answers and acknowledgements that wait for the broker to read.
    pub fn backlog_bytes(&self) -> usize {
        match &self.link {
            Link::Up(up) => up.control_backlog() + up.client.outgoing_bytes(),
            _ => 0,
        }
    }

    /// Whether messages of workers wait that can be answered.
    pub fn has_work(&self) -> bool {
        !self.deliveries.is_empty() && self.backlog_bytes() < ANSWERS_BACKLOG_MAX
    }

    /// The publish channel is open: everything unconfirmed may go out.
    pub fn open_publishing(&mut self, frame_max: u32) {
        self.publisher.outbox.rewind();
        self.frame_max = frame_max;
        self.publish_ready = true;
        self.blocked &= !std::mem::take(&mut self.blocked_by_flow);
        self.told_at = None;
        self.backoff.reset();
    }

    /// The broker, as its publisher sees it.
    pub fn wire(&self) -> publisher::Link {
        publisher::Link { frame_max: self.frame_max, drains: self.publish_ready && !self.blocked }
    }

    /// When the link wants to be woken.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.link {
            Link::Down { retry_at } => Some(*retry_at),
            Link::Dialing(dial) => dial.deadline,
            Link::Up(up) => up.client.poll_timeout(),
            Link::Closed => None,
        }
    }

    /// Writes what the client and the outbox have, as far as the socket takes it.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn flush(&mut self, mut report: impl FnMut(crate::relay::Progress)) -> io::Result<()> {
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        let publishing = self.publish_ready && !self.blocked;
        loop {
            up.collect_control();
            if publishing {
                self.publisher.outbox.prepare(self.frame_max, SLICES_MAX);
            }
            let control = &up.control[up.control_written..];
            let (mut wanted, mut first_batch) = (0, 0);
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX + 1];
                let mut count = 0;
                let mut add = |bytes| {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                    wanted += slices[count - 1].len();
                };
                let mut batches = self.publisher.outbox.slices();
                // Control frames go out between publishes, never within one. A publish that was begun is finished
                // even when the broker says `blocked`: it reads on for that long.
                if self.publisher.outbox.is_mid_batch()
                    && let Some(rest) = batches.next()
                {
                    first_batch = rest.len();
                    add(rest);
                }
                if !control.is_empty() {
                    add(control);
                }
                if publishing {
                    batches.take(SLICES_MAX - 1).for_each(&mut add);
                }
                up.wire.write(&slices[..count])?
            };
            let from_first = written.min(first_batch);
            let from_control = (written - from_first).min(control.len());
            up.control_written += from_control;
            if written > from_control {
                self.publisher.outbox.advance(written - from_control, &mut report);
            }
            if written < wanted || wanted == 0 {
                return Ok(());
            }
        }
    }
}

impl Up {
    /// A link over a socket that has just connected.
    pub fn new(socket: Socket, client: Client, tls: Option<TlsSession>) -> Up {
        Up {
            client,
            wire: Wire { socket, tls, ciphertext: Vec::new(), ciphertext_written: 0 },
            input: Buf::with_capacity(READ_BYTES),
            plain: Buf::default(),
            control: Vec::new(),
            control_written: 0,
        }
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.wire.socket
    }

    /// Reads once and hands the bytes to the client. Returns whether more may follow at once.
    ///
    /// # Errors
    /// Why the link has to be given up, in words.
    pub fn read(&mut self, now: Instant) -> Result<bool, LinkError> {
        // A peer that asks and asks and does not read its answers is not listened to meanwhile.
        if !self.wire.socket.is_readable() || self.control_backlog() >= CONTROL_BYTES_MAX {
            return Ok(false);
        }
        if self.input.spare().is_empty() {
            // The client takes whole frames out; a frame above its frame_max it refuses. So there is room, or
            // the frame is legal and larger than the window.
            self.input.reserve(READ_BYTES);
        }
        match self.wire.socket.fill(self.input.spare()).map_err(LinkError::Io)? {
            Fill::Bytes(count) => self.input.commit(count),
            Fill::Blocked => return Ok(false),
            Fill::Ended => {
                // Why it ended may stand in what came before the end; the client has seen all of that.
                return Err(LinkError::Amqp(self.client.link_lost()));
            }
        }
        match &mut self.wire.tls {
            None => self.client.receive(now, &mut self.input).map_err(LinkError::Amqp)?,
            Some(tls) => loop {
                tls.receive(&mut self.input).map_err(|error| LinkError::Tls(error.to_string()))?;
                let count = tls.plaintext().len();
                self.plain.extend(tls.plaintext());
                tls.consume(count);
                self.client.receive(now, &mut self.plain).map_err(LinkError::Amqp)?;
                if count == 0 {
                    break;
                }
            },
        }
        Ok(self.wants_read())
    }

    fn control_backlog(&self) -> usize {
        self.control.len() - self.control_written
    }

    /// Whether a read would be worth while.
    pub fn wants_read(&self) -> bool {
        self.wire.socket.is_readable() && self.control_backlog() < CONTROL_BYTES_MAX
    }

    fn collect_control(&mut self) {
        if self.control_written == self.control.len() {
            self.control.clear();
            self.control_written = 0;
        }
        // A broker that does not read must not make this grow; the client bounds what waits in it.
        if self.control.len() < CONTROL_BYTES_MAX {
            self.client.transmit(&mut self.control);
        }
    }
}

impl Wire {
    /// Writes plaintext slices, through TLS where the link has it. Returns how much of them was taken.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            if slices.is_empty() || !self.socket.is_writable() {
                return Ok(0);
            }
            return self.socket.write(slices);
        };
        // Encrypt and write in turn until everything is taken or the socket is full: what is left over is only
        // asked for again when an edge says that there is room.
        let mut taken = 0;
        let mut rest = slices.iter();
        let mut slice: &[u8] = &[];
        loop {
            tls.transmit(&mut self.ciphertext);
            while self.ciphertext_written < self.ciphertext.len() && self.socket.is_writable() {
                let waiting = IoSlice::new(&self.ciphertext[self.ciphertext_written..]);
                self.ciphertext_written += self.socket.write(&[waiting])?;
            }
            if self.ciphertext_written < self.ciphertext.len() {
                break;
            }
            self.ciphertext.clear();
            self.ciphertext_written = 0;
            while slice.is_empty() {
                let Some(next) = rest.next() else { return Ok(taken) };
                slice = next;
            }
            // TLS takes as much as its own buffer has room for, and nothing before its handshake is over.
            let count = tls.send(slice);
            if count == 0 {
                break;
            }
            slice = &slice[count..];
            taken += count;
        }
        Ok(taken)
    }
}

/// Why a link was lost.
#[derive(Debug)]
pub enum LinkError {
    /// The system said so.
    Io(io::Error),
    /// The encrypted stream is broken or not to be trusted.
    Tls(String),
    /// The protocol was broken, or the broker said why it closed.
    Amqp(crate::amqp::Error),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkError::Io(error) => write!(f, "{error}"),
            LinkError::Tls(error) => write!(f, "TLS: {error}"),
            LinkError::Amqp(error) => write!(f, "{error}"),
        }
    }
}

/// What every cluster's client is told, but for names.
pub fn client_options(cluster: &Cluster) -> amqp::Options {
    let (uri, defaults) = (cluster.uri(), amqp::Options::default());
    amqp::Options {
        exchange: crate::relay::topology::exchange(cluster.number),
        queue: crate::relay::topology::incoming_queue(cluster.number),
        binding_keys: vec![
            crate::relay::topology::QUERY_KEY.to_owned(),
            crate::relay::topology::COMMAND_KEY.to_owned(),
        ],
        queue_durable: cluster.queue_durable,
        vhost: uri.vhost.clone(),
        user: uri.user.clone(),
        password: uri.password.clone(),
        connection_name: format!("rateway cluster {}", cluster.number),
        heartbeat: uri.heartbeat.unwrap_or(defaults.heartbeat),
        frame_max: uri.frame_max.unwrap_or(defaults.frame_max),
        ..defaults
    }
}
