//! Cuts frames off the front of a byte window, and writes the frame heads.
//!
//! ```text
//! type u8 | channel u16 | size u32 | payload, `size` octets | 0xCE        section 4.2.3
//! ```
//!
//! Nothing is kept between calls: a window with half a frame is answered with how many octets are missing. The
//! size is checked against frame_max before anything waits for it, so a peer can't make the window grow further.

use super::error::Error;
use super::spec::{
    FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_MIN_SIZE, FRAME_OVERHEAD,
};

/// A heartbeat, whole.
pub const HEARTBEAT: [u8; 8] = [FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method and its arguments.
    Method,
    /// The head of a message: its size and properties.
    Header,
    /// A piece of a message's body.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    fn from_octet(octet: u8) -> Option<FrameKind> {
        Some(match octet {
            FRAME_METHOD => FrameKind::Method,
            FRAME_HEADER => FrameKind::Header,
            FRAME_BODY => FrameKind::Body,
            FRAME_HEARTBEAT => FrameKind::Heartbeat,
            _ => return None,
        })
    }
}

/// A frame within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to.
    pub channel: u16,
    /// What it carries, unread.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// How many octets the frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD as usize
    }
}

/// What stands at the front of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Part of a frame. At least this many octets are missing.
    Missing(usize),
}

/// Cuts the first frame off `input`.
///
/// # Errors
/// An unknown frame type, a size that does not fit in `frame_max`, or a wrong end octet.
pub fn cut(input: &[u8], frame_max: u32) -> Result<Cut<'_>, Error> {
    const OVERHEAD: usize = FRAME_OVERHEAD as usize;
    let Some(&octet) = input.first() else { return Ok(Cut::Missing(OVERHEAD)) };
    let Some(kind) = FrameKind::from_octet(octet) else { return Err(Error::FrameType { octet }) };
    let Some((&[_, c0, c1, s0, s1, s2, s3], rest)) = input.split_first_chunk::<7>() else {
        return Ok(Cut::Missing(OVERHEAD - input.len()));
    };
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if size > frame_max.saturating_sub(FRAME_OVERHEAD) {
        return Err(Error::FrameTooLarge { size, frame_max });
    }
    // A u32 fits a usize on each platform that has an epoll.
    let size = size as usize;
    let Some((payload, end)) = rest.split_at_checked(size) else {
        return Ok(Cut::Missing(size - rest.len() + 1));
    };
    match end.first() {
        None => Ok(Cut::Missing(1)),
        Some(&FRAME_END) => Ok(Cut::Frame(Frame { kind, channel, payload })),
        Some(&octet) => Err(Error::FrameEnd { octet }),
    }
}

/// The seven octets before a payload of `size` octets.
pub(crate) fn head(kind: u8, channel: u16, size: u32) -> [u8; 7] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [kind, c0, c1, s0, s1, s2, s3]
}

/// The largest payload of one frame under `frame_max`. No peer may ask for less than [`FRAME_MIN_SIZE`], so a
/// smaller value is a mistake of the caller and is lifted to it.
pub(crate) fn payload_max(frame_max: u32) -> u32 {
    frame_max.max(FRAME_MIN_SIZE) - FRAME_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};

    fn reference(frame: &AMQPFrame) -> Vec<u8> {
        gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
    }

    #[test]
    fn a_frame_is_cut_at_no_offset_but_its_end() {
        let bytes = reference(&AMQPFrame::Body(7, b"some body".to_vec()));
        for n in 0..bytes.len() {
            match cut(&bytes[..n], 4096).unwrap() {
                Cut::Missing(missing) => {
                    assert!(missing >= 1 && n + missing <= bytes.len(), "{n} octets, {missing} missing");
                    assert!(n < 7 || n + missing == bytes.len(), "the size is known from 7 octets on");
                }
                Cut::Frame(_) => panic!("cut after {n} of {} octets", bytes.len()),
            }
        }
        let mut more = bytes.clone();
        more.push(1);
        let Cut::Frame(frame) = cut(&more, 4096).unwrap() else { panic!("whole frame not cut") };
        assert_eq!(frame, Frame { kind: FrameKind::Body, channel: 7, payload: b"some body" });
        assert_eq!(frame.wire_len(), bytes.len());
    }

    #[test]
    fn bounds_ends_and_types_are_checked() {
        let bytes = reference(&AMQPFrame::Body(1, vec![0; 4088]));
        assert!(matches!(cut(&bytes, 4096), Ok(Cut::Frame(_))));
        assert_eq!(cut(&bytes[..7], 4095), Err(Error::FrameTooLarge { size: 4088, frame_max: 4095 }));
        assert_eq!(
            cut(&[3, 0, 1, 255, 255, 255, 255], 4096),
            Err(Error::FrameTooLarge { size: u32::MAX, frame_max: 4096 })
        );
        assert_eq!(cut(&[8, 0, 0, 0, 0, 0, 0, 0xCD], 4096), Err(Error::FrameEnd { octet: 0xCD }));
        assert_eq!(cut(b"HTTP/1.1 400 Bad Request", 4096), Err(Error::FrameType { octet: b'H' }));
        assert_eq!(
            cut(&HEARTBEAT, 0),
            Ok(Cut::Frame(Frame { kind: FrameKind::Heartbeat, channel: 0, payload: b"" }))
        );
        assert_eq!(reference(&AMQPFrame::Heartbeat), HEARTBEAT);
    }
}
