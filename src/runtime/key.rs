//! What a socket's token and a timer's key stand for.
//!
//! `kind 3 bits | generation 29 bits | index 32 bits`. The generation tells an event of an earlier connection in
//! the same slot from one of the present.

/// Who a token or a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A shard's connection or machine.
    Shard,
    /// A cluster's broker connection or machine.
    Cluster,
    /// A connection attempt of a shard (timers only).
    ShardDial,
    /// A request to the identify queue's service.
    Asking,
    /// A cluster's disk (timers only).
    Disk,
    /// The thread's own business (timers only), see [`super::home`].
    Thread,
}

/// An owner, its place on the thread, and which of its connections is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who.
    pub owner: Owner,
    /// Which connection of that owner; 0 for timers.
    pub generation: u32,
    /// The owner's place on its thread.
    pub index: usize,
}

const GENERATION_BITS: u32 = 29;

/// The generation after `generation`.
pub fn next_generation(generation: u32) -> u32 {
    (generation + 1) & ((1 << GENERATION_BITS) - 1)
}

impl Key {
    /// A key without a generation, for timers.
    pub fn timer(owner: Owner, index: usize) -> usize {
        Key { owner, generation: 0, index }.pack()
    }

    /// As a number for epoll and the timer table.
    pub fn pack(self) -> usize {
        let kind = match self.owner {
            Owner::Shard => 0,
            Owner::Cluster => 1,
            Owner::ShardDial => 2,
            Owner::Thread => 3,
            Owner::Asking => 4,
            Owner::Disk => 5,
        };
        kind << 61 | (self.generation as usize) << 32 | self.index
    }

    /// The reverse of [`Key::pack`].
    pub fn unpack(packed: usize) -> Key {
        let owner = match packed >> 61 {
            0 => Owner::Shard,
            1 => Owner::Cluster,
            2 => Owner::ShardDial,
            3 => Owner::Thread,
            4 => Owner::Asking,
            _ => Owner::Disk,
        };
        let generation = (packed >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        Key { owner, generation, index: packed & 0xffff_ffff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_packing() {
        for owner in
            [Owner::Shard, Owner::Cluster, Owner::ShardDial, Owner::Thread, Owner::Asking, Owner::Disk]
        {
            for generation in [0, 1, next_generation((1 << 29) - 2)] {
                let key = Key { owner, generation, index: 12_345 };
                assert_eq!(Key::unpack(key.pack()), key);
            }
        }
        assert_eq!(next_generation((1 << 29) - 1), 0);
    }
}
