//! Bodies of fuzz targets: each takes any bytes and has to return. What must hold besides is asserted here.

use std::time::Instant;

use super::{Client, Event, Options, reframe};
use crate::base::Buf;

/// A broker that says `bytes` in pieces of `piece` octets, to a client that acknowledges and reopens.
pub fn client(now: Instant, bytes: &[u8], piece: usize) {
    let mut client =
        Client::new(Options { binding_keys: vec!["gateway".to_owned()], ..Options::default() }, now);
    let mut input = Buf::with_capacity(1024);
    let mut out = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        input.extend(piece);
        let received = client.receive(now, &mut input);
        while let Some(event) = client.poll_event() {
            match event {
                Event::Delivery(delivery) => client.ack(delivery.delivery_tag),
                Event::Nack { .. } => client.reopen_publish_channel(),
                _ => {}
            }
        }
        client.transmit(&mut out);
        if received.is_err() {
            assert!(client.poll_timeout().is_none(), "a client that is over has nothing to wait for");
            return;
        }
    }
}

/// An outbox that holds `bytes`: what is read as publishes, and marked, is read and marked again to the same.
pub fn repeat(bytes: &[u8], frame_max: u32) {
    let mut once = Vec::new();
    if let Ok(count) = reframe(bytes, frame_max, true, &mut once) {
        let mut twice = Vec::new();
        assert_eq!(reframe(&once, frame_max, true, &mut twice), Ok(count));
        assert_eq!(once, twice);
    } else {
        assert!(once.is_empty());
    }
}
