//! A TLS client session over memory buffers, for Discord and for AMQP alike.
//!
//! Enters: ciphertext from the socket's [`Buf`], plaintext to send. Leaves: plaintext, a chunk (one record) at a
//! time and without a copy, and ciphertext for the socket. No socket, no clock of ours: rustls checks certificates
//! against the system's time by itself.
//!
//! Bounds: ciphertext is taken from the window only while no plaintext waits, so at most what one read of rustls
//! (4 KiB) completes is pending; outgoing plaintext and ciphertext are limited to [`OUTGOING_BYTES_MAX`] each.
//! Per received record rustls allocates one vector for its plaintext; nothing else is allocated per record.
//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446), cryptography by ring.

use super::error::ErrorKind;
use crate::base::Buf;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;

/// How much a session holds for the socket before it takes no more: plaintext before the handshake is over, and
/// records after it. Gateway commands are below 4 KiB and 120 a minute; AMQP offers the rest again later.
pub const OUTGOING_BYTES_MAX: usize = 256 * 1024;

/// Why a session or its configuration failed.
#[derive(Debug)]
pub enum Error {
    /// The extra root certificates cannot be used; the text says why.
    Roots(String),
    /// The host is neither a DNS name nor an address.
    ServerName(String),
    /// The handshake or a record failed.
    Session(rustls::Error),
    /// Reading ciphertext failed in a way that only a bug or a record beyond the protocol's size explains.
    Read(String),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Roots(_) | Error::ServerName(_) => ErrorKind::Misuse,
            Error::Session(_) | Error::Read(_) => ErrorKind::Tls,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Roots(why) => write!(f, "the extra root certificates cannot be used: {why}"),
            Error::ServerName(host) => write!(f, "{host:?} is neither a host name nor an address"),
            Error::Session(e) => write!(f, "{e}"),
            Error::Read(why) => write!(f, "cannot take a record: {why}"),
        }
    }
}

/// The configuration that all sessions share: Mozilla's roots, and those of `extra_ca_pem` where given.
///
/// # Errors
/// When `extra_ca_pem` holds no certificate, or one that is none.
pub fn client_config(extra_ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = extra_ca_pem {
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| Error::Roots(e.to_string()))?;
            roots.add(certificate).map_err(|e| Error::Roots(e.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(Error::Roots("no certificate in PEM form found".to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Session)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One session, from client hello to close_notify.
pub struct TlsSession {
    connection: ClientConnection,
    // Plaintext that has been decrypted and not consumed.
    pending: usize,
    peer_closed: bool,
    close_sent: bool,
}

impl TlsSession {
    /// A session with `host`, whose certificate must be for that name or address. The client hello waits to be
    /// transmitted.
    ///
    /// # Errors
    /// When `host` is no name.
    pub fn new(config: &Arc<ClientConfig>, host: &str) -> Result<TlsSession, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::ServerName(host.to_owned()))?;
        let mut connection = ClientConnection::new(config.clone(), name).map_err(Error::Session)?;
        connection.set_buffer_limit(Some(OUTGOING_BYTES_MAX));
        Ok(TlsSession { connection, pending: 0, peer_closed: false, close_sent: false })
    }

    /// Takes ciphertext until some plaintext is pending or `ciphertext` is empty. What is left in it waits for the
    /// next call, after the plaintext has been consumed.
    ///
    /// # Errors
    /// When the handshake or a record fails. An alert for the peer may wait to be transmitted.
    pub fn receive(&mut self, ciphertext: &mut Buf) -> Result<(), Error> {
        while self.pending == 0 && !ciphertext.is_empty() {
            if self.peer_closed {
                // RFC 8446 6.1: what comes after close_notify is ignored.
                ciphertext.consume(ciphertext.len());
                return Ok(());
            }
            let mut bytes = ciphertext.filled();
            let taken = self.connection.read_tls(&mut bytes).map_err(|e| Error::Read(e.to_string()))?;
            ciphertext.consume(taken.min(ciphertext.len()));
            let state = self.connection.process_new_packets().map_err(Error::Session)?;
            self.pending = state.plaintext_bytes_to_read();
            self.peer_closed = state.peer_has_closed();
            if taken == 0 && !self.peer_closed {
                return Err(Error::Read("no progress".to_owned()));
            }
        }
        Ok(())
    }

    /// The first pending chunk of plaintext; empty when there is none.
    pub fn plaintext(&mut self) -> &[u8] {
        if self.pending == 0 {
            return &[];
        }
        self.connection.reader().into_first_chunk().unwrap_or_default()
    }

    /// Drops the first `n` bytes of [`TlsSession::plaintext`].
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.pending);
        self.connection.reader().consume(n);
        self.pending -= n;
    }

    /// How much plaintext is pending.
    pub fn pending_bytes(&self) -> usize {
        self.pending
    }

    /// Encrypts as much of `plaintext` as [`OUTGOING_BYTES_MAX`] lets in, and says how much that was. Before the
    /// handshake is over it waits as it is.
    pub fn send(&mut self, plaintext: &[u8]) -> usize {
        // The writer fails for nothing: a full buffer is a short count.
        self.connection.writer().write(plaintext).unwrap_or(0)
    }

    /// Appends the ciphertext that waits for the socket to `out`.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        while self.connection.wants_write() && self.connection.write_tls(out).is_ok_and(|n| n > 0) {}
    }

    /// Whether ciphertext waits for the socket.
    pub fn wants_transmit(&self) -> bool {
        self.connection.wants_write()
    }

    /// Queues close_notify, once.
    pub fn close(&mut self) {
        if !self.close_sent {
            self.close_sent = true;
            self.connection.send_close_notify();
        }
    }

    /// Whether the peer has sent close_notify. Pending plaintext is still to be read.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("version", &self.connection.protocol_version())
            .field("pending", &self.pending)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}
