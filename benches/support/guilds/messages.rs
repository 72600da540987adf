//! Messages: those of people, with replies, mentions and pictures, and those of bots, with embeds.

use super::names;
use super::objects::{Emoji, Member};
use super::text::*;

#[derive(Clone)]
pub struct Message {
    pub id: u64,
    pub channel: u64,
    pub author: u64,
    pub content: String,
    pub made: u64,
    guild: u64,
    nonce: Option<u64>,
    /// JSON each. The first two are as the author was when it was written.
    user: String,
    member: String,
    mentions: String,
    embeds: String,
    attachments: String,
    reply_to: Option<Box<Message>>,
}

/// Where and when it is written.
pub struct Place<'a> {
    pub guild: u64,
    pub channel: u64,
    pub now: u64,
    pub emojis: &'a [Emoji],
}

impl Message {
    pub fn new(
        rng: &mut Rng,
        place: &Place,
        author: &Member,
        reply_to: Option<&Message>,
        mentioned: Option<&Member>,
    ) -> Self {
        let (mut user, mut member, mut mentions) = (String::new(), String::new(), String::new());
        braces(&mut user, |out| author.user.fields(out, None));
        braces(&mut member, |out| author.fields(out, None));
        let mut content = names::chat(rng);
        if let Some(mentioned) = mentioned {
            content = format!("<@{}> {content}", mentioned.user.id);
            braces(&mut mentions, |out| mentioned.user.fields(out, Some(mentioned)));
        }
        if !place.emojis.is_empty() && rng.chance(10) {
            let emoji = &place.emojis[rng.skewed(place.emojis.len())];
            content.push_str(&format!(" <:{}:{}>", emoji.name, emoji.id));
        }
        let (mut embeds, mut attachments) = (String::new(), String::new());
        if author.user.bot {
            embed(&mut embeds, rng);
            content.clear();
        } else if rng.chance(6) {
            attachment(&mut attachments, rng, place);
        }
        // A reply's own original is not repeated.
        let reply_to = reply_to.map(|it| Box::new(Self { reply_to: None, ..it.clone() }));
        Self {
            id: rng.id(place.now),
            channel: place.channel,
            author: author.user.id,
            content,
            made: place.now,
            guild: place.guild,
            nonce: (!author.user.bot).then(|| rng.id(place.now)),
            user,
            member,
            mentions,
            embeds,
            attachments,
            reply_to,
        }
    }

    /// `edited` makes it a MESSAGE_UPDATE.
    pub fn write(&self, out: &mut String, edited: Option<u64>) {
        self.form(out, edited, false);
    }

    fn form(&self, out: &mut String, edited: Option<u64>, referenced: bool) {
        braces(out, |out| {
            raw(out, "type", if self.reply_to.is_some() { 19 } else { 0 });
            raw(out, "tts", false);
            text(out, "timestamp", &iso(self.made, 0));
            if let Some(original) = self.reply_to.as_ref().filter(|_| edited.is_none()) {
                key(out, "referenced_message");
                original.form(out, None, true);
            }
            raw(out, "pinned", false);
            if let Some(nonce) = self.nonce.filter(|_| edited.is_none() && !referenced) {
                id(out, "nonce", nonce);
            }
            if let Some(original) = &self.reply_to {
                object(out, "message_reference", |out| {
                    raw(out, "type", 0);
                    id(out, "message_id", original.id);
                    id(out, "guild_id", self.guild);
                    id(out, "channel_id", self.channel);
                });
            }
            raw(out, "mentions", format_args!("[{}]", self.mentions));
            raw(out, "mention_roles", "[]");
            raw(out, "mention_everyone", false);
            if !referenced {
                raw(out, "member", &self.member);
            }
            id(out, "id", self.id);
            raw(out, "flags", 0);
            raw(out, "embeds", format_args!("[{}]", self.embeds));
            text_or_null(out, "edited_timestamp", edited.map(|ms| iso(ms, 0)).as_deref());
            text(out, "content", &self.content);
            raw(out, "components", "[]");
            if !referenced {
                raw(out, "channel_type", 0);
            }
            id(out, "channel_id", self.channel);
            raw(out, "author", &self.user);
            raw(out, "attachments", format_args!("[{}]", self.attachments));
            if !referenced {
                id(out, "guild_id", self.guild);
            }
        });
    }
}

fn embed(out: &mut String, rng: &mut Rng) {
    let (title, about) = (rng.range(1, 6), rng.range(5, 40));
    braces(out, |out| {
        text(out, "type", "rich");
        text(out, "title", &names::words(rng, title));
        object(out, "thumbnail", |out| {
            raw(out, "width", 128);
            text(out, "url", "https://example.invalid/thumbnail.png");
            text(out, "proxy_url", "https://media.example.invalid/thumbnail.png");
            raw(out, "height", 128);
            raw(out, "flags", 0);
        });
        object(out, "footer", |out| text(out, "text", &names::display(rng)));
        list(out, "fields", 0..rng.range(0, 4), |out, _| {
            braces(out, |out| {
                text(out, "value", &names::words(rng, 5));
                text(out, "name", &names::words(rng, 2));
                raw(out, "inline", true);
            });
        });
        text(out, "description", &names::words(rng, about));
        raw(out, "content_scan_version", 4);
        raw(out, "color", rng.range(1, 0xFF_FFFF));
    });
}

fn attachment(out: &mut String, rng: &mut Rng, place: &Place) {
    let file = rng.id(place.now);
    let path = format!(
        "attachments/{}/{file}/image.png?ex={}&is={}&hm={}&",
        place.channel,
        rng.hex(8),
        rng.hex(8),
        rng.hex(64)
    );
    braces(out, |out| {
        raw(out, "width", rng.range(200, 3840));
        text(out, "url", &format!("https://cdn.example.invalid/{path}"));
        raw(out, "size", rng.range(10_000, 8_000_000));
        text(out, "proxy_url", &format!("https://media.example.invalid/{path}"));
        raw(out, "placeholder_version", 1);
        text(out, "placeholder", &rng.hex(38));
        id(out, "id", file);
        raw(out, "height", rng.range(200, 2160));
        text(out, "filename", "image.png");
        text(out, "content_type", "image/png");
        raw(out, "content_scan_version", 4);
    });
}
