//! Transport compression: what one connection's WebSocket messages hold.
//!
//! Enters: the messages of a connection, in order. Leaves: payloads, in an [`Output`] that the caller keeps per
//! thread. The context is one for the whole connection and depends on every byte: after an error nothing that
//! follows can be read.
//!
//! ```text
//! none     message = payload
//! zlib     message* ending with 00 00 FF FF = payload; one zlib stream, sync flushes, never an end (RFC 1950)
//! zstd     message = payload; one zstd frame, flushed blocks, never an end (RFC 8878)
//! ```
//!
//! A full output may hide more, so inflating ends when the input is used up *and* the output was not filled.
//! Bounds: [`Limits`] for both sides, and the window: 32 KiB for zlib, up to [`ZSTD_WINDOW_LOG_MAX`] for zstd.
//! Discord: "Gateway, Transport Compression".

use super::error::ErrorKind;
use libz_ng_sys as zlib;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;
use std::str::FromStr;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The largest window that a zstd frame may ask for: 8 MiB. Discord's frames ask for 256 KiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const SUFFIX: [u8; 4] = [0, 0, 0xff, 0xff];

/// What an [`Output`] starts with: most events inflate to less.
const OUTPUT_BYTES_START: usize = 16 * 1024;

/// What an [`Output`] keeps between payloads. Larger ones are guilds at the start of a session.
const OUTPUT_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// What a connection keeps for split messages.
const PENDING_BYTES_KEPT: usize = 4 * 1024;

/// How payloads are compressed by Discord.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    None,
    /// zlib-stream.
    #[default]
    Zlib,
    /// zstd-stream.
    Zstd,
}

impl Compression {
    /// The value of the gateway URL's parameter `compress`.
    pub fn query_value(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Zlib => Some("zlib-stream"),
            Compression::Zstd => Some("zstd-stream"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        })
    }
}

/// The name of a compression is none of those known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCompression;

impl std::error::Error for UnknownCompression {}

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected none, zlib or zstd")
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Compression, UnknownCompression> {
        match name {
            "none" => Ok(Compression::None),
            "zlib" => Ok(Compression::Zlib),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(UnknownCompression),
        }
    }
}

/// How large messages may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A WebSocket message, and what zlib-stream gathers from several. Default 32 MiB: payloads of 17 MB were
    /// seen, and a lower limit is a known cause of endless reconnects.
    pub message_bytes_max: usize,
    /// A payload after inflating. Default 64 MiB: both formats can blow a message up a thousandfold.
    pub inflated_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message_bytes_max: 32 << 20, inflated_bytes_max: 64 << 20 }
    }
}

/// Why a message could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not what the format allows; the decompressor's own word.
    Garbage(&'static str),
    /// The stream ended, which it may not do inside a connection.
    StreamEnd,
    /// A payload is larger than [`Limits::inflated_bytes_max`].
    PayloadTooLarge {
        /// That limit.
        bytes_max: usize,
    },
    /// Messages without the suffix add up to more than [`Limits::message_bytes_max`].
    PendingTooLarge {
        /// That limit.
        bytes_max: usize,
    },
    /// No memory for a decompressor.
    Memory,
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Garbage(_) | Error::StreamEnd => ErrorKind::Decode,
            Error::PayloadTooLarge { .. } | Error::PendingTooLarge { .. } | Error::Memory => ErrorKind::Limit,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Garbage(why) => write!(f, "bad compressed data: {why}"),
            Error::StreamEnd => f.write_str("the compressed stream ended inside the connection"),
            Error::PayloadTooLarge { bytes_max } => {
                write!(f, "a payload inflates to more than {bytes_max} bytes")
            }
            Error::PendingTooLarge { bytes_max } => {
                write!(f, "more than {bytes_max} compressed bytes without the end of a payload")
            }
            Error::Memory => f.write_str("no memory for a decompressor"),
        }
    }
}

/// Where a payload is inflated to. One per thread serves all connections.
#[derive(Default)]
pub struct Output {
    // Invariant: len <= bytes.len(). All of `bytes` is initialised once, so growing is the only time it is zeroed.
    bytes: Vec<u8>,
    len: usize,
}

impl Output {
    /// The payload.
    pub fn payload(&mut self) -> &mut [u8] {
        // In bounds by the invariant.
        &mut self.bytes[..self.len]
    }

    /// How much memory it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Empties it, and gives back what a large payload made it grow to.
    pub fn clear(&mut self) {
        self.len = 0;
        if self.bytes.len() > OUTPUT_BYTES_KEPT {
            self.bytes.truncate(OUTPUT_BYTES_KEPT);
            self.bytes.shrink_to_fit();
        }
    }

    /// Free space, growing up to one byte more than `bytes_max`: the byte that proves a payload too large.
    fn spare(&mut self, bytes_max: usize) -> Result<&mut [u8], Error> {
        if self.len > bytes_max {
            return Err(Error::PayloadTooLarge { bytes_max });
        }
        if self.len == self.bytes.len() {
            let grown = (self.bytes.len() * 2).max(OUTPUT_BYTES_START);
            self.bytes.resize(grown.min(bytes_max.saturating_add(1)).max(self.len + 1), 0);
        }
        let end = self.bytes.len().min(bytes_max.saturating_add(1));
        Ok(&mut self.bytes[self.len..end.max(self.len)])
    }

    fn advance(&mut self, n: usize) {
        self.len = (self.len + n).min(self.bytes.len());
    }

    fn copy(&mut self, message: &[u8]) {
        if self.bytes.len() < message.len() {
            self.bytes.resize(message.len().next_power_of_two(), 0);
        }
        self.bytes[..message.len()].copy_from_slice(message);
        self.len = message.len();
    }
}

/// The decompressor of one connection.
pub enum Decoder {
    /// Payloads come as they are.
    None,
    /// zlib-stream.
    Zlib(Zlib),
    /// zstd-stream.
    Zstd(Zstd),
}

impl Decoder {
    /// A fresh context. Each connection needs its own, also one that resumes.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(compression: Compression) -> Result<Decoder, Error> {
        Ok(match compression {
            Compression::None => Decoder::None,
            Compression::Zlib => Decoder::Zlib(Zlib::new()?),
            Compression::Zstd => Decoder::Zstd(Zstd::new()?),
        })
    }

    /// Takes one WebSocket message. True: a payload is in `output`. False: it goes on in the next message.
    ///
    /// # Errors
    /// Each one is final for the connection.
    pub fn decode(&mut self, message: &[u8], limits: &Limits, output: &mut Output) -> Result<bool, Error> {
        output.clear();
        match self {
            Decoder::None => {
                let bytes_max = limits.inflated_bytes_max;
                if message.len() > bytes_max {
                    return Err(Error::PayloadTooLarge { bytes_max });
                }
                output.copy(message);
                Ok(true)
            }
            Decoder::Zlib(zlib) => zlib.decode(message, limits, output),
            Decoder::Zstd(zstd) => zstd.decode(message, limits, output),
        }
    }
}

/// A zlib-stream, by zlib-ng.
pub struct Zlib {
    // Boxed because zlib-ng keeps the address of the stream and checks it at each call. `MaybeUninit` because its
    // allocator fields are null until init has run, which a Rust reference to the struct must not see.
    // Invariant: initialised by `zng_inflateInit2` from `new` on.
    stream: Box<MaybeUninit<zlib::z_stream>>,
    pending: Vec<u8>,
}

// SAFETY: the stream and the state it points to belong to this value alone and are tied to no thread.
unsafe impl Send for Zlib {}

impl Zlib {
    fn new() -> Result<Zlib, Error> {
        let mut stream: Box<MaybeUninit<zlib::z_stream>> = Box::new(MaybeUninit::zeroed());
        // 15: the largest window of RFC 1950, with its header and no other accepted.
        // SAFETY: all fields are zero, which zlib-ng documents as "no input, default allocator".
        let code = unsafe { zlib::zng_inflateInit2(stream.as_mut_ptr(), 15) };
        if code != zlib::Z_OK {
            return Err(Error::Memory);
        }
        Ok(Zlib { stream, pending: Vec::new() })
    }

    fn decode(&mut self, message: &[u8], limits: &Limits, output: &mut Output) -> Result<bool, Error> {
        if self.pending.is_empty() && message.ends_with(&SUFFIX) {
            self.inflate(message, limits, output)?;
            return Ok(output.len > 0);
        }
        let bytes_max = limits.message_bytes_max;
        if self.pending.len().saturating_add(message.len()) > bytes_max {
            return Err(Error::PendingTooLarge { bytes_max });
        }
        self.pending.extend_from_slice(message);
        if !self.pending.ends_with(&SUFFIX) {
            return Ok(false);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let result = self.inflate(&pending, limits, output);
        pending.clear();
        pending.shrink_to(PENDING_BYTES_KEPT);
        self.pending = pending;
        result?;
        Ok(output.len > 0)
    }

    fn inflate(&mut self, input: &[u8], limits: &Limits, output: &mut Output) -> Result<(), Error> {
        let stream = self.stream.as_mut_ptr();
        let mut rest = input;
        loop {
            let spare = output.spare(limits.inflated_bytes_max)?;
            let offered_in = rest.len().min(u32::MAX as usize) as u32;
            let offered_out = spare.len().min(u32::MAX as usize) as u32;
            // SAFETY: `stream` is initialised (invariant) and exclusively borrowed. `next_in` and `next_out` point
            // to as many readable and writable bytes as the counts say, both outlive the call, and the pointers
            // are not used by zlib-ng after it.
            let (code, left_in, left_out) = unsafe {
                ptr::addr_of_mut!((*stream).next_in).write(rest.as_ptr().cast_mut());
                ptr::addr_of_mut!((*stream).avail_in).write(offered_in);
                ptr::addr_of_mut!((*stream).next_out).write(spare.as_mut_ptr());
                ptr::addr_of_mut!((*stream).avail_out).write(offered_out);
                let code = zlib::inflate(stream, zlib::Z_SYNC_FLUSH);
                let left_in = ptr::addr_of!((*stream).avail_in).read();
                (code, left_in, ptr::addr_of!((*stream).avail_out).read())
            };
            rest = rest.get((offered_in - left_in.min(offered_in)) as usize..).unwrap_or_default();
            output.advance((offered_out - left_out.min(offered_out)) as usize);
            match code {
                // Z_BUF_ERROR says only that this call had nothing to do.
                zlib::Z_OK | zlib::Z_BUF_ERROR => {
                    if left_out > 0 {
                        if rest.is_empty() {
                            return match output.len > limits.inflated_bytes_max {
                                true => Err(Error::PayloadTooLarge { bytes_max: limits.inflated_bytes_max }),
                                false => Ok(()),
                            };
                        }
                        if code == zlib::Z_BUF_ERROR {
                            return Err(Error::Garbage("no progress"));
                        }
                    }
                }
                zlib::Z_STREAM_END => return Err(Error::StreamEnd),
                zlib::Z_NEED_DICT => return Err(Error::Garbage("a preset dictionary is asked for")),
                zlib::Z_MEM_ERROR => return Err(Error::Memory),
                _ => return Err(Error::Garbage("not a zlib stream")),
            }
        }
    }
}

impl Drop for Zlib {
    fn drop(&mut self) {
        // SAFETY: initialised (invariant), and ended here only.
        unsafe { zlib::inflateEnd(self.stream.as_mut_ptr()) };
    }
}

/// A zstd-stream.
pub struct Zstd {
    context: DCtx<'static>,
}

impl Zstd {
    fn new() -> Result<Zstd, Error> {
        let mut context = DCtx::try_create().ok_or(Error::Memory)?;
        context
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
            .map_err(|code| Error::Garbage(zstd_safe::get_error_name(code)))?;
        Ok(Zstd { context })
    }

    fn decode(&mut self, message: &[u8], limits: &Limits, output: &mut Output) -> Result<bool, Error> {
        let mut input = InBuffer::around(message);
        if message.is_empty() {
            return Ok(false);
        }
        loop {
            let spare = output.spare(limits.inflated_bytes_max)?;
            let offered = spare.len();
            let mut out = OutBuffer::around(spare);
            let taken = input.pos();
            let hint = self.context.decompress_stream(&mut out, &mut input);
            let hint = hint.map_err(|code| Error::Garbage(zstd_safe::get_error_name(code)))?;
            let written = out.pos();
            output.advance(written);
            if hint == 0 {
                return Err(Error::StreamEnd);
            }
            if written < offered {
                if input.pos() == message.len() {
                    break;
                }
                if written == 0 && input.pos() == taken {
                    return Err(Error::Garbage("no progress"));
                }
            }
        }
        if output.len > limits.inflated_bytes_max {
            return Err(Error::PayloadTooLarge { bytes_max: limits.inflated_bytes_max });
        }
        Ok(output.len > 0)
    }

    /// How much memory the context holds; most of it is the frame's window.
    pub fn memory_bytes(&self) -> usize {
        self.context.sizeof()
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
