//! SipHash-1-3 of a key: without the seed nobody can choose ids that fall together.
//!
//! The message is `a u64 | b u64 | kind u8`, as the reference has it (github.com/veorq/SipHash), so that the test
//! can hold it against the standard library's.

/// The hash of (kind, a, b) under `seed`.
#[inline]
pub(crate) fn hash(seed: [u64; 2], kind: u8, a: u64, b: u64) -> u64 {
    let [k0, k1] = seed;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // 17 bytes: two words, then the last byte with the length on top.
    for word in [a, b, u64::from(kind) | (17 << 56)] {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hasher};

    #[test]
    fn it_is_the_standard_librarys_with_a_seed_of_zeros() {
        let mut random = crate::base::Rng::new(1);
        for _ in 0..1000 {
            let (kind, a, b) = (random.next_u64() as u8, random.next_u64(), random.next_u64());
            let mut theirs = DefaultHasher::new();
            theirs.write(&[&a.to_le_bytes()[..], &b.to_le_bytes(), &[kind]].concat());
            assert_eq!(hash([0, 0], kind, a, b), theirs.finish());
            assert_ne!(hash([0, 1], kind, a, b), theirs.finish());
        }
    }
}
