//! A channel: content on its way in, deliveries that wait for an acknowledgement, and how many there may be.
//!
//! ```text
//! Open: Idle --publish--> Header --header--> Body --last piece--> Idle        section 4.2.6
//! Open --fault, close sent--> Closing --close-ok--> gone
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::queue::{Place, give_back};
use super::slots::Key;
use super::write::Confirms;

/// Content on its way in.
#[derive(Debug, Default)]
pub(super) enum Content {
    #[default]
    Idle,
    /// After basic.publish, whose names wait in [`Channel::names`].
    Header {
        is_mandatory: bool,
    },
    Body {
        incoming: Incoming,
        remaining: u64,
    },
}

/// A message of which octets are still to come.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) is_mandatory: bool,
    /// Names, header and body as a message has them.
    pub(super) bytes: Vec<u8>,
    pub(super) names_len: usize,
    pub(super) header_len: usize,
    /// What of it is counted as unfinished with its connection, and what with all.
    pub(super) size: usize,
    pub(super) reserved: usize,
}

/// A delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacked {
    pub(super) delivery_tag: u64,
    pub(super) queue: Key,
    /// [`Key::NONE`] for what basic.get brought.
    pub(super) consumer: Key,
    pub(super) place: Place,
}

/// Deliveries that wait, by delivery tag. One that is settled out of turn leaves a gap, and gaps are closed once they
/// are the larger part.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    // Invariant: sorted by delivery tag; the first is no gap, which is what `true` says.
    row: VecDeque<(Unacked, bool)>,
    count: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn push(&mut self, unacked: Unacked) {
        self.row.push_back((unacked, false));
        self.count += 1;
    }

    /// Where `delivery_tag` waits.
    fn find(&self, delivery_tag: u64) -> Option<usize> {
        let at = match self.row.front() {
            Some((first, _)) if first.delivery_tag == delivery_tag => 0,
            _ => self.row.binary_search_by_key(&delivery_tag, |(unacked, _)| unacked.delivery_tag).ok()?,
        };
        self.row.get(at).is_some_and(|(_, is_gap)| !is_gap).then_some(at)
    }

    /// Takes the delivery with `delivery_tag`.
    pub(super) fn take(&mut self, delivery_tag: u64) -> Option<Unacked> {
        let at = self.find(delivery_tag)?;
        let (unacked, is_gap) = self.row.get_mut(at)?;
        *is_gap = true;
        let taken = *unacked;
        self.count -= 1;
        self.close_gaps();
        Some(taken)
    }

    /// Takes all up to `delivery_tag`, which has to be among them; tag 0 takes all.
    pub(super) fn take_until(&mut self, delivery_tag: u64, taken: &mut Vec<Unacked>) -> bool {
        if delivery_tag != 0 && self.find(delivery_tag).is_none() {
            return false;
        }
        while let Some(&(unacked, is_gap)) = self.row.front()
            && (delivery_tag == 0 || unacked.delivery_tag <= delivery_tag)
        {
            self.row.pop_front();
            if !is_gap {
                self.count -= 1;
                taken.push(unacked);
            }
        }
        self.close_gaps();
        true
    }

    fn close_gaps(&mut self) {
        while self.row.front().is_some_and(|(_, is_gap)| *is_gap) {
            self.row.pop_front();
        }
        if self.row.len() > self.count + self.count / 4 + 64 {
            self.row.retain(|(_, is_gap)| !is_gap);
        }
        give_back(&mut self.row);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.row.iter().filter(|(_, is_gap)| !is_gap).map(|(unacked, _)| unacked)
    }
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// After our own channel.close: everything but its answer is passed over.
    pub(super) is_closing: bool,
    /// `exchange short | routing key short` of the publish whose header is to come.
    pub(super) names: Vec<u8>,
    pub(super) content: Content,
    pub(super) unacked: Waiting,
    pub(super) next_delivery_tag: u64,
    /// How many deliveries a consumer may have, for consumers to come; 0: any number.
    pub(super) prefetch_of_new: u16,
    /// How many deliveries all consumers together may have; 0: any number.
    pub(super) prefetch_of_all: u16,
    /// Whether deliveries rest (channel.flow).
    pub(super) is_paused: bool,
    /// By tag.
    pub(super) consumers: BTreeMap<Vec<u8>, Key>,
    /// The queue last declared, for methods that name none.
    pub(super) last_queue: Option<Vec<u8>>,
    /// Publisher confirms, once selected.
    pub(super) confirms: Option<Confirms>,
    /// The queue behind amq.rabbitmq.reply-to.
    pub(super) reply_queue: Option<Vec<u8>>,
}

impl Channel {
    /// Whether another delivery fits.
    pub(super) fn has_room(&self, unacked_max: usize) -> bool {
        !self.is_paused
            && self.unacked.len() < unacked_max
            && (self.prefetch_of_all == 0 || self.unacked.len() < usize::from(self.prefetch_of_all))
    }
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) connection: Key,
    pub(super) channel: u16,
    pub(super) queue: Key,
    pub(super) tag: Vec<u8>,
    pub(super) no_ack: bool,
    pub(super) priority: i32,
    /// How many deliveries it may have; 0: any number.
    pub(super) prefetch: u16,
    pub(super) unacked: u32,
    /// Whether it has left its queue's row of turns for want of room.
    pub(super) is_full: bool,
    /// Whether it stands among those that wait for their connection's output.
    pub(super) is_waiting: bool,
}

impl Consumer {
    pub(super) fn has_room(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unacked < u32::from(self.prefetch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(tags: std::ops::RangeInclusive<u64>) -> Waiting {
        let mut waiting = Waiting::default();
        for delivery_tag in tags {
            let place = Place {
                position: delivery_tag,
                message: Key::NONE,
                body_bytes: 0,
                redelivered: false,
                expires_ms: 0,
            };
            waiting.push(Unacked { delivery_tag, queue: Key::NONE, consumer: Key::NONE, place });
        }
        waiting
    }

    #[test]
    fn tags_are_taken_once() {
        let mut waiting = waiting(1..=10);
        assert_eq!(waiting.take(4).map(|unacked| unacked.delivery_tag), Some(4));
        assert!(waiting.take(4).is_none() && waiting.take(11).is_none() && waiting.take(0).is_none());
        let mut taken = Vec::new();
        assert!(!waiting.take_until(4, &mut taken) && !waiting.take_until(11, &mut taken));
        assert!(waiting.take_until(6, &mut taken));
        assert_eq!(taken.iter().map(|unacked| unacked.delivery_tag).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        assert_eq!(waiting.len(), 4);
        taken.clear();
        assert!(waiting.take_until(0, &mut taken) && waiting.take_until(0, &mut taken));
        assert_eq!((taken.len(), waiting.len()), (4, 0));
    }

    #[test]
    fn gaps_do_not_pile_up_behind_one_that_is_never_settled() {
        let mut waiting = waiting(1..=10_000);
        (2..=10_000).for_each(|tag| assert!(waiting.take(tag).is_some()));
        assert_eq!(waiting.len(), 1);
        assert!(waiting.row.len() < 100);
        assert!(waiting.row.capacity() <= 4096 * 2, "{}", waiting.row.capacity());
        assert!(waiting.take(1).is_some() && waiting.row.is_empty());
    }
}
