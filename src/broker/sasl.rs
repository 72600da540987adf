//! Who a client says it is: the mechanisms PLAIN (RFC 4616) and AMQPLAIN, which is a field table without its length.

use super::options::User;
use crate::amqp::table::{self, Value};

/// A name and what is to prove it.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) name: &'a [u8],
    password: &'a [u8],
}

/// Reads a response; `None` for an unknown mechanism or what can't be read.
pub(super) fn read<'a>(mechanism: &[u8], response: &'a [u8]) -> Option<Login<'a>> {
    match mechanism {
        b"PLAIN" => {
            // authorization identity NUL user NUL password
            let mut parts = response.splitn(3, |&octet| octet == 0);
            let _identity = parts.next()?;
            Some(Login { name: parts.next()?, password: parts.next()? })
        }
        b"AMQPLAIN" => {
            if !table::check(response) {
                return None;
            }
            let text = |name: &[u8]| table::find(response, name).and_then(Value::text);
            Some(Login { name: text(b"LOGIN")?, password: text(b"PASSWORD")? })
        }
        _ => None,
    }
}

impl Login<'_> {
    /// The user whose name and password these are. Takes as long for a wrong name as for a wrong password.
    pub(super) fn user_among<'u>(&self, users: &'u [User]) -> Option<&'u User> {
        let mut found = None;
        for user in users {
            let name = is_same(self.name, user.name.as_bytes());
            let password = is_same(self.password, user.password.expose().as_bytes());
            if name & password {
                found = Some(user);
            }
        }
        found
    }
}

/// Compares without stopping at the first difference, so that time does not tell how much was right.
fn is_same(given: &[u8], wanted: &[u8]) -> bool {
    let length = given.len() ^ wanted.len();
    let octets = wanted.iter().enumerate();
    let difference =
        octets.fold(0u8, |sum, (at, octet)| sum | (octet ^ given.get(at).copied().unwrap_or_default()));
    (length == 0) & (difference == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::broker::write::text_entry;

    #[test]
    fn both_mechanisms_find_the_user() {
        let users = [User::guest(), User { name: "worker".into(), password: Secret::new("p\0w") }];
        let found = |mechanism: &[u8], response: &[u8]| {
            read(mechanism, response)
                .and_then(|login| login.user_among(&users))
                .map(|user| user.name.as_str())
        };
        assert_eq!(found(b"PLAIN", b"\0guest\0guest"), Some("guest"));
        assert_eq!(found(b"PLAIN", b"someone\0worker\0p\0w"), Some("worker"));
        for wrong in
            [b"\0guest\0wrong".as_slice(), b"\0guest\0", b"\0guest\0guest1", b"\0gues\0guest", b"\0", b""]
        {
            assert_eq!(found(b"PLAIN", wrong), None);
        }
        let mut table = Vec::new();
        text_entry(&mut table, "LOGIN", b"guest");
        text_entry(&mut table, "PASSWORD", b"guest");
        assert_eq!(found(b"AMQPLAIN", &table), Some("guest"));
        assert_eq!(found(b"AMQPLAIN", &table[1..]), None);
        assert_eq!(found(b"EXTERNAL", b""), None);
    }
}
