//! What a leaf keeps of a value: the value itself, or where its pieces are.
//!
//! ```text
//! 0 len 7            | value          up to 127 bytes
//! 10 len 14          | value          up to INLINE_MAX
//! 0xff | serial u64 | total u32       a long value: pieces 0, 1, ... under the key (0xff, serial, piece)
//! ```

use super::leaf;
use crate::cache::arena::region::PAGE_BYTES;

/// The longest value that stands in a leaf, and the length of a long value's pieces but the last: four fit into a
/// page even when their keys have nothing in common.
pub(in crate::cache::arena) const INLINE_MAX: usize = (PAGE_BYTES - leaf::HEAD) / 4 - leaf::RECORD_MAX - 2;

const _: () = assert!(INLINE_MAX < 1 << 14, "lengths have 14 bits");

/// The longest value; more is answered as `Full`.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

const LONG: u8 = 0xff;
const LONG_BYTES: usize = 13;

/// What stands in a leaf for a value.
#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    Inline(&'a [u8]),
    Long { serial: u64, total: usize },
}

impl<'a> Body<'a> {
    /// Bytes that it takes in a leaf.
    #[inline]
    pub(super) fn size(self) -> usize {
        match self {
            Body::Inline(value) => value.len() + if value.len() < 0x80 { 1 } else { 2 },
            Body::Long { .. } => LONG_BYTES,
        }
    }

    /// Bytes of the value.
    #[inline]
    pub(super) fn len(self) -> usize {
        match self {
            Body::Inline(value) => value.len(),
            Body::Long { total, .. } => total,
        }
    }

    /// Reads what starts at `at`; `None` when nothing sound does.
    #[inline]
    pub(super) fn read(page: &'a [u8], at: usize) -> Option<Body<'a>> {
        let (start, len) = match *page.get(at)? {
            short @ 0..0x80 => (at + 1, short as usize),
            high @ 0x80..0xc0 => (at + 2, ((high as usize & 0x3f) << 8) | *page.get(at + 1)? as usize),
            LONG => {
                let (serial, total) = page.get(at + 1..at + LONG_BYTES)?.split_at(8);
                let serial = u64::from_le_bytes(serial.try_into().ok()?);
                let total = u32::from_le_bytes(total.try_into().ok()?) as usize;
                return (total <= VALUE_BYTES_MAX).then_some(Body::Long { serial, total });
            }
            _ => return None,
        };
        Some(Body::Inline(page.get(start..start + len)?))
    }

    /// Writes it to `out`, which has [`size`](Body::size) bytes.
    #[inline]
    pub(super) fn write(self, out: &mut [u8]) {
        match self {
            Body::Inline(value) => {
                let head = out.len() - value.len();
                if head == 1 {
                    out[0] = value.len() as u8;
                } else {
                    out[0] = 0x80 | (value.len() >> 8) as u8;
                    out[1] = value.len() as u8;
                }
                out[head..].copy_from_slice(value);
            }
            Body::Long { serial, total } => {
                out[0] = LONG;
                out[1..9].copy_from_slice(&serial.to_le_bytes());
                out[9..].copy_from_slice(&(total as u32).to_le_bytes());
            }
        }
    }

    /// What must be known of it once it is gone.
    pub(super) fn held(self) -> Held {
        match self {
            Body::Inline(value) => Held { len: value.len(), long: None },
            Body::Long { serial, total } => Held { len: total, long: Some(serial) },
        }
    }
}

/// A value that was: its length, and whose pieces are still there.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) len: usize,
    pub(super) long: Option<u64>,
}
