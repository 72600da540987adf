//! Field tables, read without recursion and without a copy (section 4.2.5, with RabbitMQ's types).
//!
//! ```text
//! table: name short | kind u8 | value ...        array: kind u8 | value ...
//! ```
//!
//! A table is first [`check`]ed as a whole, with a limit on how deep tables and arrays nest; after that its entries
//! can be walked. A nested table is bytes until somebody asks for its entries.

use super::reader::Reader;

/// How deep tables and arrays may nest. Clients send two levels (client properties and their capabilities); x-death
/// has three.
const DEPTH_MAX: usize = 16;

/// A value, unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    /// Its type as it stands on the wire: `S`, `I`, `t`...
    pub(crate) kind: u8,
    /// Its octets, without the length in front of those that have one.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Any of the integer types.
    pub(crate) fn integer(self) -> Option<i64> {
        let mut reader = Reader::new(self.bytes);
        Some(match self.kind {
            b'b' => i64::from(reader.u8()? as i8),
            b'B' => i64::from(reader.u8()?),
            b's' | b'U' => i64::from(reader.u16()? as i16),
            b'u' => i64::from(reader.u16()?),
            b'I' => i64::from(reader.u32()? as i32),
            b'i' => i64::from(reader.u32()?),
            b'l' | b'L' => reader.u64()? as i64,
            _ => return None,
        })
    }

    /// A long string.
    pub(crate) fn text(self) -> Option<&'a [u8]> {
        (self.kind == b'S').then_some(self.bytes)
    }

    /// A boolean.
    pub(crate) fn boolean(self) -> Option<bool> {
        (self.kind == b't').then(|| self.bytes != [0])
    }

    /// A table's octets.
    pub(crate) fn table(self) -> Option<&'a [u8]> {
        (self.kind == b'F').then_some(self.bytes)
    }

    /// An array's octets.
    pub(crate) fn array(self) -> Option<&'a [u8]> {
        (self.kind == b'A').then_some(self.bytes)
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    let kind = reader.u8()?;
    let bytes = match kind {
        b't' | b'b' | b'B' => reader.bytes(1)?,
        b's' | b'u' | b'U' => reader.bytes(2)?,
        b'I' | b'i' | b'f' => reader.bytes(4)?,
        b'D' => reader.bytes(5)?,
        b'l' | b'L' | b'd' | b'T' => reader.bytes(8)?,
        b'S' | b'x' | b'A' | b'F' => reader.long()?,
        b'V' => b"",
        _ => return None,
    };
    Some(Value { kind, bytes })
}

/// The entries of a table that was [`check`]ed. Ends early in one that was not.
pub(crate) fn entries(table: &[u8]) -> impl Iterator<Item = (&[u8], Value<'_>)> {
    let mut reader = Reader::new(table);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let name = reader.short()?;
        Some((name, value(&mut reader)?))
    })
}

/// The items of an array that was [`check`]ed.
pub(crate) fn items(array: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut reader = Reader::new(array);
    std::iter::from_fn(move || if reader.is_empty() { None } else { value(&mut reader) })
}

/// The value of `name` in a checked table.
pub(crate) fn find<'a>(table: &'a [u8], name: &[u8]) -> Option<Value<'a>> {
    entries(table).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Whether `table` can be read to its last octet, nested ones included.
pub(crate) fn check(table: &[u8]) -> bool {
    // What is still to be read at each level, and whether it is a table.
    let mut levels = [(Reader::new(b""), false); DEPTH_MAX];
    levels[0] = (Reader::new(table), true);
    let mut depth = 0;
    loop {
        let (reader, is_table) = &mut levels[depth];
        if reader.is_empty() {
            if depth == 0 {
                return true;
            }
            depth -= 1;
            continue;
        }
        if *is_table && reader.short().is_none() {
            return false;
        }
        let Some(value) = value(reader) else { return false };
        if matches!(value.kind, b'A' | b'F') {
            depth += 1;
            let Some(level) = levels.get_mut(depth) else { return false };
            *level = (Reader::new(value.bytes), value.kind == b'F');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::types::generation::gen_field_table;
    use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};

    fn written(table: &FieldTable) -> Vec<u8> {
        let context = amq_protocol::frame::WriteContext::from(Vec::new());
        let bytes = gen_field_table(table)(context).expect("memory").into_inner().0;
        // Without the length in front.
        bytes[4..].to_vec()
    }

    #[test]
    fn reads_what_the_reference_writes() {
        let mut inner = FieldTable::default();
        inner.insert("basic.nack".into(), AMQPValue::Boolean(true));
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::ShortShortInt(-3));
        table.insert("b".into(), AMQPValue::LongLongInt(-7));
        table.insert("c".into(), AMQPValue::LongString("text".into()));
        table.insert("d".into(), AMQPValue::FieldTable(inner));
        table.insert("e".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongInt(5)])));
        table.insert("f".into(), AMQPValue::Void);
        table.insert("g".into(), AMQPValue::Double(1.5));
        let bytes = written(&table);
        assert!(check(&bytes));
        assert_eq!(entries(&bytes).count(), 7);
        assert_eq!(find(&bytes, b"a").and_then(Value::integer), Some(-3));
        assert_eq!(find(&bytes, b"b").and_then(Value::integer), Some(-7));
        assert_eq!(find(&bytes, b"c").and_then(Value::text), Some(b"text".as_slice()));
        let inner = find(&bytes, b"d").and_then(Value::table).expect("a table");
        assert_eq!(find(inner, b"basic.nack").and_then(Value::boolean), Some(true));
        let array = find(&bytes, b"e").and_then(Value::array).expect("an array");
        assert_eq!(items(array).map(Value::integer).collect::<Vec<_>>(), [Some(5)]);
        let ends: Vec<usize> = (1..bytes.len()).filter(|&n| check(&bytes[..n])).collect();
        assert_eq!(ends.len(), 6, "only between two entries is a prefix a table");
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| {
            let mut bytes = Vec::new();
            for _ in 0..depth {
                let mut outer = vec![1, b'n', b'F'];
                outer.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                outer.extend_from_slice(&bytes);
                bytes = outer;
            }
            bytes
        };
        assert!(check(&nested(DEPTH_MAX - 1)));
        assert!(!check(&nested(DEPTH_MAX)));
        assert!(!check(&nested(5000)));
    }
}
