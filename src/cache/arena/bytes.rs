//! Numbers in a page, little-endian at any offset. Offsets come from this module's siblings, never from input.

use super::region::Page;

macro_rules! number {
    ($get:ident, $put:ident, $type:ty) => {
        #[inline]
        pub(super) fn $get(page: &Page, at: usize) -> $type {
            let mut raw = [0; size_of::<$type>()];
            raw.copy_from_slice(&page[at..at + size_of::<$type>()]);
            <$type>::from_le_bytes(raw)
        }

        #[inline]
        pub(super) fn $put(page: &mut Page, at: usize, value: $type) {
            page[at..at + size_of::<$type>()].copy_from_slice(&value.to_le_bytes());
        }
    };
}

number!(u16_at, put_u16, u16);
number!(u32_at, put_u32, u32);
