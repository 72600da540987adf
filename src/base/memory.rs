//! `memcpy`, `memmove`, `memcmp` and `bcmp` for builds with musl on x86-64.
//!
//! What enters: two addresses and a length. What leaves: the copy, or the order. What never happens: an allocation, a look at
//! which processor it is; SSE2 is what all of them have.
//!
//! musl's own are `rep movsq` whatever the length, which takes some fifty cycles to begin, and most copies of ours are
//! of names, keys and parts of a window. So short ones go through a few registers here, and only long ones are left to the
//! processor's own instruction. Its `memcmp` goes byte by byte. ARCHITECTURE.md has the figures.
//!
//! ```text
//! 17 to 32     | head |
//!                  | tail |        both are read before one is written, so the two ranges may overlap
//! ```

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_storeu_si128};
use std::cmp::Ordering;

/// Up to here everything fits into registers.
const REGISTERS: usize = 128;
/// Bytes of a turn of the loops.
const TURN: usize = 64;
/// From here on `rep movsb` to a whole cache line is faster than a loop over registers.
const REP_FROM: usize = 768;

type Four = [__m128i; 4];

/// # Safety
/// 64 bytes can be read from `from`.
#[inline(always)]
unsafe fn load_four(from: *const u8) -> Four {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe { [load(from), load(from.add(16)), load(from.add(32)), load(from.add(48))] }
}

/// # Safety
/// 64 bytes can be written to `to`.
#[inline(always)]
unsafe fn store_four(to: *mut u8, four: Four) {
    // SAFETY: the caller's promise; the stores need no alignment.
    unsafe {
        store(to, four[0]);
        store(to.add(16), four[1]);
        store(to.add(32), four[2]);
        store(to.add(48), four[3]);
    }
}

/// # Safety
/// 16 bytes can be read from `from`.
#[inline(always)]
unsafe fn load(from: *const u8) -> __m128i {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm_loadu_si128(from.cast()) }
}

/// # Safety
/// 16 bytes can be written to `to`.
#[inline(always)]
unsafe fn store(to: *mut u8, value: __m128i) {
    // SAFETY: the caller's promise; the store needs no alignment.
    unsafe { _mm_storeu_si128(to.cast(), value) }
}

/// Keeps the compiler from seeing that a loop is a `memmove`, and calling that.
#[inline(always)]
fn not_an_idiom() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) }
}

/// Copies two words of `T` from either end, which may overlap in the middle.
///
/// # Safety
/// `size_of::<T>() <= count <= 2 * size_of::<T>()`, and so many bytes can be read and written.
#[inline(always)]
unsafe fn copy_ends<T: Copy>(to: *mut u8, from: *const u8, count: usize) {
    let at = count - size_of::<T>();
    // SAFETY: both words lie within the count.
    unsafe {
        let head = from.cast::<T>().read_unaligned();
        let tail = from.add(at).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(head);
        to.add(at).cast::<T>().write_unaligned(tail);
    }
}

/// C11 7.24.2.1. What overlaps is copied as well.
///
/// # Safety
/// `count` bytes can be read from `from` and written to `to`.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise is the same.
    unsafe { copy(to, from, count) };
    to
}

/// C11 7.24.2.2.
///
/// # Safety
/// `count` bytes can be read from `from` and written to `to`.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise is the same.
    unsafe { copy(to, from, count) };
    to
}

/// C11 7.24.4.1.
///
/// # Safety
/// `count` bytes can be read from both.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { compare(one, other, count) as i32 }
}

/// What compilers make of a `memcmp` that only asks whether all is equal.
///
/// # Safety
/// `count` bytes can be read from both.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { compare(one, other, count) as i32 }
}

/// Copies `count` bytes as if by way of a third place.
///
/// # Safety
/// `count` bytes can be read from `from` and written to `to`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: each arm reads and writes within the count, and reads all before it writes.
    unsafe {
        match count {
            0 => {}
            1 => to.write(from.read()),
            2..4 => copy_ends::<u16>(to, from, count),
            4..8 => copy_ends::<u32>(to, from, count),
            8..=16 => copy_ends::<u64>(to, from, count),
            17..=32 => copy_ends::<__m128i>(to, from, count),
            33..=64 => copy_ends::<[__m128i; 2]>(to, from, count),
            65..=REGISTERS => copy_ends::<Four>(to, from, count),
            _ => copy_long(to, from, count),
        }
    }
}

/// # Safety
/// As of [`copy`], and `count > REGISTERS`.
#[inline(never)]
unsafe fn copy_long(to: *mut u8, from: *const u8, count: usize) {
    // How far `to` is behind `from`; a very large number where it is before it.
    let behind = to.addr().wrapping_sub(from.addr());
    // SAFETY: all that is read and written is within the count, which is more than two turns. Head and tail are read before
    // and written after the loops. The first loop writes nothing that it has yet to read where `to` lies before `from` or
    // not in it, the second one where it lies behind.
    unsafe {
        if behind >= count {
            if count >= REP_FROM && behind.wrapping_neg() >= count {
                let head = load_four(from);
                let skip = TURN - to.addr() % TURN;
                asm!(
                    "rep movsb",
                    inout("rcx") count - skip => _,
                    inout("rdi") to.add(skip) => _,
                    inout("rsi") from.add(skip) => _,
                    options(nostack, preserves_flags)
                );
                store_four(to, head);
                return;
            }
            let head = load(from);
            let tail = load_four(from.add(count - TURN));
            // Stores that do not cross cache lines.
            let mut at = 16 - to.addr() % 16;
            while at < count - TURN {
                store_four(to.add(at), load_four(from.add(at)));
                at += TURN;
                not_an_idiom();
            }
            store(to, head);
            store_four(to.add(count - TURN), tail);
        } else {
            let head = load_four(from);
            let tail = load(from.add(count - 16));
            let mut end = count - to.addr().wrapping_add(count) % 16;
            while end > TURN {
                end -= TURN;
                store_four(to.add(end), load_four(from.add(end)));
                not_an_idiom();
            }
            store_four(to, head);
            store(to.add(count - 16), tail);
        }
    }
}

/// The order of the first bytes that differ.
///
/// # Safety
/// `count` bytes can be read from both.
#[inline(always)]
unsafe fn compare(one: *const u8, other: *const u8, count: usize) -> Ordering {
    // SAFETY: all that is read lies within the count. The last word of each kind overlaps the one before, where all is equal.
    unsafe {
        match count {
            0 => Ordering::Equal,
            1..4 => {
                // The first, the one in the middle and the last are all there are. As a number, since arrays would be
                // compared by calling memcmp.
                let byte = |of: *const u8, at: usize| u32::from(of.add(at).read());
                let all = |of| byte(of, 0) << 16 | byte(of, count / 2) << 8 | byte(of, count - 1);
                all(one).cmp(&all(other))
            }
            4..8 => {
                let word = |of: *const u8| u64::from(of.cast::<u32>().read_unaligned().swap_bytes());
                let both = |of: *const u8| word(of) << 32 | word(of.add(count - 4));
                both(one).cmp(&both(other))
            }
            8..=16 => {
                let word = |of: *const u8, at: usize| of.add(at).cast::<u64>().read_unaligned().swap_bytes();
                let tail = count - 8;
                word(one, 0).cmp(&word(other, 0)).then_with(|| word(one, tail).cmp(&word(other, tail)))
            }
            _ => {
                let mut at = 0;
                loop {
                    let equal = _mm_movemask_epi8(_mm_cmpeq_epi8(load(one.add(at)), load(other.add(at))));
                    if equal != 0xffff {
                        let at = at + (!equal).trailing_zeros() as usize;
                        return one.add(at).read().cmp(&other.add(at).read());
                    }
                    if at + 16 == count {
                        return Ordering::Equal;
                    }
                    at = (at + 16).min(count - 16);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length up to some turns of the loops and around the bounds, every distance at which the ranges overlap and
    /// some at which they do not.
    #[test]
    fn copies_as_by_way_of_a_third_place() {
        let lengths = (0..REGISTERS + 3 * TURN).chain(REP_FROM - 2..REP_FROM + TURN);
        for count in lengths {
            let from = 1024;
            let bytes: Vec<u8> = (0..3 * from).map(|at| (at * 7 % 251) as u8).collect();
            let near = (from - 140..from + 140).chain([from - count, from + count, 17, 2 * from - 1]);
            for to in near.filter(|to| to + count <= bytes.len()) {
                let (mut wanted, mut found) = (bytes.clone(), bytes.clone());
                wanted.copy_within(from..from + count, to);
                let start = found.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                unsafe { copy(start.add(to), start.add(from), count) };
                assert!(wanted == found, "{count} bytes from {from} to {to}");
            }
        }
    }

    /// Every length up to some words of the longest kind, with a difference at each place, or two, or none.
    #[test]
    fn compares_as_slices_do() {
        for count in 0..100 {
            let one: Vec<u8> = (0..count).map(|at| (at * 37 % 251) as u8).collect();
            // One more, so that there is a turn without any difference.
            for (first, second) in (0..=count).flat_map(|at| [(at, at), (at, at / 2), (at, count)]) {
                let mut other = one.clone();
                for (place, change) in [(first, 0x80), (second, 0x7f)] {
                    other.get_mut(place).into_iter().for_each(|byte| *byte ^= change);
                }
                // SAFETY: both have so many bytes.
                let found = unsafe { compare(one.as_ptr(), other.as_ptr(), count) };
                assert_eq!(found, one.as_slice().cmp(&other), "{count} bytes, {first} and {second} differ");
            }
        }
    }
}
