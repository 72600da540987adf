//! Whether bytes that come from a file are an entity: [`Entity::write`] without the text.

use super::decode::{array_head, element_tag, head};
use super::entity::Entity;
use super::scalars::{Reader, is_string_text, skip_scalar, write_scalar};
use super::times::is_time;
use super::{DEPTH_MAX, Error, tag};

fn time(seconds: u64) -> Result<(), Error> {
    if is_time(seconds) { Ok(()) } else { Err(Error::Damaged) }
}

impl Entity<'_> {
    /// Whether it can be written as JSON text, but for the length of that. `scratch` is for some of its strings.
    pub fn verify(self, scratch: &mut Vec<u8>) -> bool {
        let mut from = Reader(self.bytes);
        let done = head(&mut from).and_then(|tag| self.verify_value(tag, &mut from, 0, scratch));
        done.is_ok() && from.0.is_empty()
    }

    fn verify_value(
        self,
        tag: u8,
        from: &mut Reader<'_>,
        depth: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match tag {
            tag::OBJECT | tag::ARRAY if depth == DEPTH_MAX => Err(Error::TooDeep),
            tag::OBJECT => self.verify_object(from, depth + 1, scratch),
            tag::ARRAY => {
                let (count, common) = array_head(from)?;
                for _ in 0..count {
                    let tag = element_tag(common, from)?;
                    self.verify_value(tag, from, depth + 1, scratch)?;
                }
                Ok(())
            }
            tag::OWN | tag::PARENT => self.context.id_of(tag).map(drop).ok_or(Error::Damaged),
            // Of these any bytes are a value, if there are enough of them.
            tag::NULL | tag::TRUE | tag::FALSE | tag::UINT | tag::ID | tag::DECIMAL | tag::HASH => {
                skip_scalar(tag, from)
            }
            tag::STRING => {
                let length = from.count()?;
                if is_string_text(from.take(length)?) { Ok(()) } else { Err(Error::Damaged) }
            }
            tag::MICROS => time(from.uint::<7>()? / 1_000_000),
            tag::SECONDS | tag::SECONDS_Z => time(from.uint::<5>()?),
            tag::MILLIS_Z => time(from.uint::<6>()? / 1_000),
            _ => {
                scratch.clear();
                write_scalar(scratch, tag, from)
            }
        }
    }

    fn verify_object(self, from: &mut Reader<'_>, depth: usize, scratch: &mut Vec<u8>) -> Result<(), Error> {
        let id = from.varint()?;
        if id > 0 {
            let shape = self.shapes.get(id).ok_or(Error::Damaged)?;
            for slot in shape.slots.iter().filter(|slot| slot.constant.is_none()) {
                let tag = if slot.tag == tag::ANY { from.byte()? } else { slot.tag };
                self.verify_value(tag, from, depth, scratch)?;
            }
            return Ok(());
        }
        for _ in 0..from.count()? {
            let length = from.count()?;
            if !is_string_text(from.take(length)?) {
                return Err(Error::Damaged);
            }
            let tag = from.byte()?;
            self.verify_value(tag, from, depth, scratch)?;
        }
        Ok(())
    }
}
