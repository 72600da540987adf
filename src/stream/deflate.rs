//! The sending end of transport compression, as Discord's servers do it: for stand-ins, tests and benches.
//!
//! Enters: payloads in order. Leaves: one WebSocket message each, out of one context for the whole connection,
//! flushed so that the receiver can read it at once. A gateway never sends compressed data, so nothing of the
//! product's own path is here.

use super::inflate::{Compression, Error};
use crate::base::deflate::Deflate;
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
    Zlib(Deflate),
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
            Compression::Zlib => Encoder::Zlib(Deflate::zlib(level).map_err(|_| Error::Memory)?),
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
            Encoder::Zlib(deflate) => {
                deflate.compress(payload, out);
                Ok(())
            }
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
