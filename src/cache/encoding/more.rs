use super::{Field, KeyText, Shapes, Value};

impl KeyText<'_> {
    /// Writes the key in quotes behind what is in `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.text().write(out);
        out.push(b'"');
    }
}

impl Value<'_> {
    /// Whether both are strings and say the same.
    pub fn same_text(self, other: Value<'_>) -> bool {
        if !self.is_string() || !other.is_string() {
            return false;
        }
        let (mut one, mut two) = (Vec::new(), Vec::new());
        self.write(&mut one);
        other.write(&mut two);
        one == two
    }
}

impl Field<'_> {
    /// Whether the value is a list of nothing.
    pub fn is_empty_array(&self) -> bool {
        let mut out = Vec::new();
        self.write(&mut out).is_ok() && out == b"[]"
    }
}

impl Shapes {
    /// Bytes that it may take.
    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes() + self.bytes_left()
    }
}
