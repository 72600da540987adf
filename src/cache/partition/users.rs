//! Users: kept while a member, a private channel or the bot itself refers to them.

use crate::cache::encoding::{Entity, Pick, Value};
use crate::cache::kind::Kind;

use super::events::id;
use super::keys::{self, Short, id_key, put_number, take_number};
use super::rows::{At, Stored, head_len};
use super::{Partition, Step};

/// How an object says something of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// A full object, `username` and all; anything less is not taken.
    Full,
    /// A presence's, whose fields are written over a known user's if they have their documented type.
    Presence,
}

impl Partition {
    /// How often a user is referred to, and whether his object is known.
    fn references(&self, user: u64) -> (u64, bool) {
        let mut scratch = Vec::new();
        let Some(mut value) = self.tree.get(id_key(keys::USER, user), &mut scratch) else {
            return (0, false);
        };
        (take_number(&mut value), !value.is_empty())
    }
}

/// The fields of a presence's user that have a documented type, and whether a value has it.
fn fits(name: &str, value: Value<'_>) -> bool {
    match name {
        "username" | "discriminator" => value.is_string(),
        "global_name" | "avatar" | "banner" => value.is_string() || value.is_null(),
        "bot" | "system" => value.as_bool().is_some(),
        "public_flags" | "flags" => value.as_u64().is_some(),
        _ => true,
    }
}

/// Those fields.
const TYPED: [&str; 9] = [
    "username",
    "discriminator",
    "global_name",
    "avatar",
    "banner",
    "bot",
    "system",
    "public_flags",
    "flags",
];

impl Step<'_> {
    /// One more reason to keep a user.
    pub(super) fn refer(&mut self, user: u64) -> Stored {
        self.change_references(user, 1)
    }

    /// One reason less; without any he goes.
    pub(super) fn release(&mut self, user: u64) {
        self.change_references(user, -1);
    }

    fn change_references(&mut self, user: u64, by: i64) -> Stored {
        loop {
            if let Some(stored) = self.try_change_references(user, by) {
                return stored;
            }
        }
    }

    fn try_change_references(&mut self, user: u64, by: i64) -> Option<Stored> {
        let key = id_key(keys::USER, user);
        let old = self.p.tree.get(key, &mut self.tools.old).unwrap_or_default();
        let mut object = old;
        let before = take_number(&mut object);
        let head = old.len() - object.len();
        let known = !object.is_empty();
        let after = before.saturating_add_signed(by);
        if after == 0 {
            self.erase(key);
            if known {
                self.count_user(user, false);
            }
            return Some(Stored::Replaced);
        }
        let short = Short::number(after);
        // Nearly always the number is as long as it was and is written over.
        if short.as_slice().len() == head
            && let Some(value) = self.p.tree.get_mut(key)
        {
            value[..head].copy_from_slice(short.as_slice());
            return Some(Stored::Replaced);
        }
        if !known {
            return self.try_put(key, short.as_slice());
        }
        let mut value = std::mem::take(&mut self.tools.value);
        value.clear();
        value.extend_from_slice(short.as_slice());
        let old = self.p.tree.get(key, &mut self.tools.old).unwrap_or_default();
        value.extend_from_slice(old.get(head..).unwrap_or_default());
        let stored = self.try_put(key, &value);
        self.tools.value = value;
        if stored == Some(Stored::Refused) && by < 0 {
            // The count has to be right; the object is what there is no room for.
            self.forget_object(user);
            return None;
        }
        stored
    }

    /// A user's object came or went.
    fn count_user(&mut self, user: u64, came: bool) {
        self.p.counts.add(Kind::User, if came { 1 } else { -1 });
        if came {
            self.common.directory.add(keys::USER, user, self.p.index);
        } else {
            self.common.directory.remove(keys::USER, user, self.p.index);
        }
    }

    /// Writes what an object says over what is known of a user, if somebody refers to him.
    pub(super) fn put_user(&mut self, user: Value<'_>, how: Merge) {
        if !self.holds(Kind::User) && !self.holds(Kind::Member) {
            return;
        }
        let Some(user_id) = id(user, "id") else { return };
        match how {
            Merge::Full => {
                if !user.get("username").is_some_and(Value::is_string) {
                    return;
                }
                let pick = Pick::Without(&["member"]);
                if !self.merge(At::new(keys::USER, 0, user_id, 0), user, pick) {
                    while !self.first_object(user_id, user, pick) {}
                }
            }
            Merge::Presence => {
                // Nearly always the id alone.
                if user.len() < 2 {
                    return;
                }
                let mut left_out = ["id"; TYPED.len() + 1];
                let mut count = 1;
                for name in TYPED {
                    if user.get(name).is_some_and(|value| !fits(name, value)) {
                        left_out[count] = name;
                        count += 1;
                    }
                }
                self.merge(At::new(keys::USER, 0, user_id, 0), user, Pick::Without(&left_out[..count]));
            }
        }
    }

    /// USER_UPDATE tells everything of the bot, in whatever form.
    pub(super) fn put_self(&mut self, user_id: u64, user: Value<'_>) {
        if !self.merge(At::new(keys::USER, 0, user_id, 0), user, Pick::All) {
            self.put_user(user, Merge::Full);
        }
    }

    /// Keeps what is said of a user for the first time, if somebody refers to him.
    /// False: room was made, look again.
    fn first_object(&mut self, user_id: u64, user: Value<'_>, pick: Pick<'_>) -> bool {
        let (references, known) = self.p.references(user_id);
        if references == 0 || known {
            return true;
        }
        let at = At::new(keys::USER, 0, user_id, 0);
        let mut value = std::mem::take(&mut self.tools.value);
        let head = |out: &mut Vec<u8>| put_number(out, references);
        let encoded = self.encode_object(at, head, user, pick, &[], &mut value);
        let stored = if encoded { self.try_put(at.key, &value) } else { Some(self.refuse(at.key)) };
        self.tools.value = value;
        if stored == Some(Stored::Replaced) {
            self.count_user(user_id, true);
        }
        stored.is_some()
    }

    /// Forgets what is known of a user, but not that he is referred to.
    pub(super) fn forget_object(&mut self, user: u64) {
        let key = id_key(keys::USER, user);
        let Some(old) = self.p.tree.get(key, &mut self.tools.old) else { return };
        let head = head_len(keys::USER, old);
        if old.len() == head {
            return;
        }
        let mut value = std::mem::take(&mut self.tools.value);
        value.clear();
        value.extend_from_slice(&old[..head]);
        // A shorter value needs no room, unless the long one was in pieces.
        if self.put(key, &value) == Stored::Refused {
            self.erase(key);
        }
        self.tools.value = value;
        self.count_user(user, false);
    }

    /// USER_UPDATE.
    pub(super) fn user_update(&mut self, d: Value<'_>) -> Option<()> {
        let user = id(d, "id")?;
        if self.common.merge_current_user(user, d, self.tools) {
            self.put_self(user, d);
        }
        Some(())
    }
}

impl Partition {
    /// A user's object.
    pub(super) fn user<'a>(
        &'a self,
        common: &'a crate::cache::common::Common,
        user: u64,
        scratch: &'a mut Vec<u8>,
    ) -> Option<Entity<'a>> {
        let at = At::new(keys::USER, 0, user, 0);
        let value = self.tree.get(at.key, scratch)?;
        let bytes = &value[head_len(keys::USER, value)..];
        (!bytes.is_empty()).then_some(Entity { bytes, context: at.context(), shapes: &common.shapes })
    }
}
