//! Deflate with flushes and window control (RFC 1950, RFC 1951), as senders of `zlib-stream` need it.
//!
//! A gateway never sends compressed data: this serves the stand-in, tests and benches. Calls into zlib-ng.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::addr_of_mut;

use libz_ng_sys as z;

/// Room for a flush marker beyond what the bound says, so that one call always suffices (zlib.h, `deflate`: keep
/// `avail_out` above six or the marker may be repeated).
const FLUSH_SPARE: usize = 64;

/// A deflate stream with a 32 KiB window, as Discord's.
pub struct Deflate {
    // Invariant: initialised by deflateInit2 in `new`, ended only in `drop`. Boxed, for zlib keeps its address.
    stream: Box<MaybeUninit<z::z_stream>>,
}

// SAFETY: zlib's state is heap memory that only this value points to; no thread-local state is involved.
unsafe impl Send for Deflate {}

impl Deflate {
    /// A stream with the zlib header (RFC 1950), at a level from 1 (fast) to 9.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn zlib(level: i32) -> io::Result<Deflate> {
        Deflate::new(level, 15)
    }

    /// A stream without header (RFC 1951), at a level from 1 (fast) to 9.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn raw(level: i32) -> io::Result<Deflate> {
        Deflate::new(level, -15)
    }

    fn new(level: i32, window_bits: c_int) -> io::Result<Deflate> {
        // Zeroed fields ask zlib for its own allocator and are otherwise set before each use.
        let mut stream = Box::new(MaybeUninit::<z::z_stream>::zeroed());
        // SAFETY: the pointer is valid for a z_stream and all fields are zero, as deflateInit2 requires; it is
        // never read as a Rust value, whose function pointers must not be null.
        let code = unsafe {
            z::deflateInit2_(
                stream.as_mut_ptr(),
                level,
                z::Z_DEFLATED,
                window_bits,
                8,
                z::Z_DEFAULT_STRATEGY,
                z::zlibVersion(),
                size_of::<z::z_stream>() as c_int,
            )
        };
        if code != z::Z_OK {
            return Err(io::Error::other(format!("deflateInit2: {code}")));
        }
        Ok(Deflate { stream })
    }

    /// Appends `input`, compressed and ended by a sync flush (`.. 00 00 FF FF`), to `out`.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let stream = self.stream.as_mut_ptr();
        // SAFETY: the stream is initialised (invariant).
        let bound = unsafe { z::deflateBound(stream, input.len() as z::uLong) } as usize + FLUSH_SPARE;
        out.reserve(bound);
        let spare = out.spare_capacity_mut();
        let room = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        // SAFETY: next_in and next_out point to memory of the stated lengths that outlives the call; deflate does
        // not write through next_in although its type says mutable.
        let written = unsafe {
            addr_of_mut!((*stream).next_in).write(input.as_ptr().cast_mut());
            addr_of_mut!((*stream).avail_in).write(input.len() as u32);
            addr_of_mut!((*stream).next_out).write(spare.as_mut_ptr().cast());
            addr_of_mut!((*stream).avail_out).write(room);
            let code = z::deflate(stream, z::Z_SYNC_FLUSH);
            // Nothing to say right after a flush is told as Z_BUF_ERROR and writes nothing (zlib.h, `deflate`).
            let nothing = code == z::Z_BUF_ERROR && input.is_empty();
            assert!(
                code == z::Z_OK || nothing,
                "deflate of an initialised stream with room cannot fail: {code}"
            );
            assert_eq!(addr_of_mut!((*stream).avail_in).read(), 0, "deflateBound was not enough");
            room - addr_of_mut!((*stream).avail_out).read()
        };
        let len = out.len() + written as usize;
        // SAFETY: deflate wrote `written` bytes behind the old length, within the capacity.
        unsafe { out.set_len(len) };
    }

    /// Tells the stream that the receiver's window gets `bytes` by other means. Only for raw streams, right after
    /// a flush (zlib.h, `deflateSetDictionary`).
    pub fn pass_over(&mut self, bytes: &[u8]) {
        // SAFETY: the stream is initialised (invariant); bytes are valid for their length.
        let code =
            unsafe { z::deflateSetDictionary(self.stream.as_mut_ptr(), bytes.as_ptr(), bytes.len() as u32) };
        assert_eq!(code, z::Z_OK, "a raw stream after a flush takes a dictionary");
    }

    /// Forgets the window: what follows refers to nothing before.
    pub fn reset(&mut self) {
        // SAFETY: the stream is initialised (invariant).
        let code = unsafe { z::deflateReset(self.stream.as_mut_ptr()) };
        assert_eq!(code, z::Z_OK, "an initialised stream can be reset");
    }
}

impl Drop for Deflate {
    fn drop(&mut self) {
        // SAFETY: the stream is initialised (invariant) and not used again.
        unsafe { z::deflateEnd(self.stream.as_mut_ptr()) };
    }
}

/// The receiving side, for tests.
#[cfg(test)]
pub(crate) struct Inflate {
    stream: Box<MaybeUninit<z::z_stream>>,
}

#[cfg(test)]
impl Inflate {
    pub fn new() -> Inflate {
        let mut stream = Box::new(MaybeUninit::<z::z_stream>::zeroed());
        // SAFETY: as in `Deflate::new`.
        let code = unsafe {
            z::inflateInit2_(stream.as_mut_ptr(), 15, z::zlibVersion(), size_of::<z::z_stream>() as c_int)
        };
        assert_eq!(code, z::Z_OK);
        Inflate { stream }
    }

    pub fn inflate(&mut self, input: &[u8]) -> Result<Vec<u8>, c_int> {
        let stream = self.stream.as_mut_ptr();
        let mut out = Vec::new();
        let mut chunk = [0u8; 4096];
        // SAFETY: pointers are valid for the stated lengths while inflate runs.
        unsafe {
            addr_of_mut!((*stream).next_in).write(input.as_ptr().cast_mut());
            addr_of_mut!((*stream).avail_in).write(input.len() as u32);
            loop {
                addr_of_mut!((*stream).next_out).write(chunk.as_mut_ptr());
                addr_of_mut!((*stream).avail_out).write(chunk.len() as u32);
                let code = z::inflate(stream, z::Z_SYNC_FLUSH);
                if code != z::Z_OK && code != z::Z_BUF_ERROR {
                    return Err(code);
                }
                let left = addr_of_mut!((*stream).avail_out).read() as usize;
                out.extend_from_slice(&chunk[..chunk.len() - left]);
                if left > 0 {
                    return Ok(out);
                }
            }
        }
    }
}

#[cfg(test)]
impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: initialised in `new` and not used again.
        unsafe { z::inflateEnd(self.stream.as_mut_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_share_a_window_and_end_in_the_suffix() {
        let (mut deflate, mut inflate) = (Deflate::zlib(6).unwrap(), Inflate::new());
        let text = b"{\"t\":\"MESSAGE_CREATE\",\"content\":\"the raid starts at eight\"}";
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let mut out = Vec::new();
            deflate.compress(text, &mut out);
            assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
            sizes.push(out.len());
            assert_eq!(inflate.inflate(&out).unwrap(), text);
        }
        assert!(sizes[1] < sizes[0] / 2, "the second refers to the first: {sizes:?}");
        let big: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut out = Vec::new();
        deflate.compress(&big, &mut out);
        assert_eq!(inflate.inflate(&out).unwrap(), big);
    }

    #[test]
    fn nothing_after_a_flush_is_no_bytes() {
        let (mut deflate, mut inflate) = (Deflate::zlib(6).unwrap(), Inflate::new());
        let (mut first, mut nothing, mut second) = (Vec::new(), Vec::new(), Vec::new());
        deflate.compress(b"first", &mut first);
        deflate.compress(b"", &mut nothing);
        deflate.compress(b"second", &mut second);
        assert!(nothing.is_empty());
        assert_eq!(inflate.inflate(&[first, second].concat()).unwrap(), b"firstsecond");
    }
}
