//! Values that are too long for a leaf: pieces of [`INLINE_MAX`] bytes as entries of the reserved kind.

use super::body::{Body, Held, INLINE_MAX};
use super::key::Raw;
use super::{RESERVED_KIND, Tree};
use crate::cache::arena::Full;

fn piece_key(serial: u64, piece: usize) -> Raw {
    Raw { kind: RESERVED_KIND, low: (u128::from(serial) << 64) | piece as u128 }
}

impl Tree {
    /// Puts a value of more than [`INLINE_MAX`] bytes.
    pub(super) fn put_long(&mut self, key: Raw, value: &[u8]) -> Result<Option<Held>, Full> {
        self.serial += 1;
        let serial = self.serial;
        let mut result = Ok(None);
        for (piece, bytes) in value.chunks(INLINE_MAX).enumerate() {
            result = self.put_raw(piece_key(serial, piece), Body::Inline(bytes));
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.put_raw(key, Body::Long { serial, total: value.len() });
        }
        if result.is_err() {
            // As many as there are: the first that is missing ends it.
            self.remove_pieces(serial, value.len());
        }
        result
    }

    /// Puts a long value at the end of `out`; `None` when a piece is missing.
    pub(super) fn read_pieces(&self, serial: u64, total: usize, out: &mut Vec<u8>) -> Option<()> {
        out.reserve(total);
        for piece in 0..total.div_ceil(INLINE_MAX) {
            let Body::Inline(bytes) = self.find(piece_key(serial, piece))? else { return None };
            out.extend_from_slice(bytes);
        }
        Some(())
    }

    pub(super) fn remove_pieces(&mut self, serial: u64, total: usize) {
        for piece in 0..total.div_ceil(INLINE_MAX) {
            if self.remove_raw(piece_key(serial, piece)).is_none() {
                break;
            }
        }
    }
}
