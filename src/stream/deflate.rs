//! The sending end of transport compression, as Discord's servers do it: for stand-ins, tests and benches.
//!
//! Enters: payloads in order. Leaves: one WebSocket message each, out of one context for the whole connection,
//! flushed so that the receiver can read it at once. A gateway never sends compressed data, so nothing of the
//! product's own path is here.

use super::inflate::{Compression, Error};
use libz_ng_sys as zlib;
use std::mem::MaybeUninit;
use std::ptr;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// How much room for output is offered at a time.
const STEP_BYTES: usize = 16 * 1024;

/// The window that Discord's zstd frames ask for: 256 KiB.
const ZSTD_WINDOW_LOG: u32 = 18;

/// The compressor of one connection.
pub enum Encoder {
    /// Payloads go as they are.
    None,
    /// zlib-stream.
    Zlib(Deflater),
    /// zstd-stream.
    Zstd(CCtx<'static>),
}

impl Encoder {
    /// A fresh context at `level`, which both formats count from 1 (fast).
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(compression: Compression, level: i32) -> Result<Encoder, Error> {
        Ok(match compression {
            Compression::None => Encoder::None,
            Compression::Zlib => Encoder::Zlib(Deflater::new(level)?),
            Compression::Zstd => {
                let mut context = CCtx::try_create().ok_or(Error::Memory)?;
                for parameter in [CParameter::CompressionLevel(level), CParameter::WindowLog(ZSTD_WINDOW_LOG)]
                {
                    context
                        .set_parameter(parameter)
                        .map_err(|code| Error::Garbage(zstd_safe::get_error_name(code)))?;
                }
                Encoder::Zstd(context)
            }
        })
    }

    /// Appends the message for `payload` to `out`.
    ///
    /// # Errors
    /// When the compressor fails, which only lack of memory explains.
    pub fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Encoder::None => {
                out.extend_from_slice(payload);
                Ok(())
            }
            Encoder::Zlib(deflater) => deflater.encode(payload, out),
            Encoder::Zstd(context) => {
                let mut input = InBuffer::around(payload);
                loop {
                    let before = out.len();
                    out.resize(before + STEP_BYTES, 0);
                    let mut buffer = OutBuffer::around(out.get_mut(before..).unwrap_or_default());
                    let left = context
                        .compress_stream2(&mut buffer, &mut input, ZSTD_EndDirective::ZSTD_e_flush)
                        .map_err(|code| Error::Garbage(zstd_safe::get_error_name(code)));
                    let written = buffer.pos();
                    out.truncate(before + written);
                    if left? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// A zlib-stream on its way out.
pub struct Deflater {
    // As in `inflate`: boxed for its address, uninitialised in Rust's eyes.
    // Invariant: initialised by `zng_deflateInit2` from `new` on.
    stream: Box<MaybeUninit<zlib::z_stream>>,
}

// SAFETY: the stream and the state it points to belong to this value alone and are tied to no thread.
unsafe impl Send for Deflater {}

impl Deflater {
    fn new(level: i32) -> Result<Deflater, Error> {
        let mut stream: Box<MaybeUninit<zlib::z_stream>> = Box::new(MaybeUninit::zeroed());
        // SAFETY: all fields are zero, which zlib-ng documents as "default allocator".
        let code = unsafe {
            zlib::zng_deflateInit2(
                stream.as_mut_ptr(),
                level,
                zlib::Z_DEFLATED,
                15,
                8,
                zlib::Z_DEFAULT_STRATEGY,
            )
        };
        if code == zlib::Z_OK { Ok(Deflater { stream }) } else { Err(Error::Memory) }
    }

    fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let stream = self.stream.as_mut_ptr();
        let mut rest = payload;
        loop {
            let before = out.len();
            out.resize(before + STEP_BYTES, 0);
            let offered = rest.len().min(u32::MAX as usize) as u32;
            // SAFETY: `stream` is initialised (invariant) and exclusively borrowed; both areas are as long as the
            // counts say, outlive the call and are not used after it.
            let (code, left_in, left_out) = unsafe {
                ptr::addr_of_mut!((*stream).next_in).write(rest.as_ptr().cast_mut());
                ptr::addr_of_mut!((*stream).avail_in).write(offered);
                ptr::addr_of_mut!((*stream).next_out).write(out.as_mut_ptr().add(before));
                ptr::addr_of_mut!((*stream).avail_out).write(STEP_BYTES as u32);
                let code = zlib::deflate(stream, zlib::Z_SYNC_FLUSH);
                let left_in = ptr::addr_of!((*stream).avail_in).read();
                (code, left_in as usize, ptr::addr_of!((*stream).avail_out).read() as usize)
            };
            rest = rest.get((offered as usize).saturating_sub(left_in)..).unwrap_or_default();
            out.truncate(before + STEP_BYTES - left_out.min(STEP_BYTES));
            match code {
                zlib::Z_OK | zlib::Z_BUF_ERROR if left_out > 0 && rest.is_empty() => return Ok(()),
                zlib::Z_OK => {}
                _ => return Err(Error::Garbage("the compressor failed")),
            }
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        // SAFETY: initialised (invariant), and ended here only.
        unsafe { zlib::deflateEnd(self.stream.as_mut_ptr()) };
    }
}
