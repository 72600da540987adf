//! What people do: a status, and none to two activities.

use super::names;
use super::objects::User;
use super::text::*;

/// `guild` is set in PRESENCE_UPDATE, and only there somebody can be offline.
pub fn write(out: &mut String, rng: &mut Rng, user: &User, guild: Option<u64>, now: u64) {
    let status = match rng.below(100) {
        0..15 if guild.is_some() => "offline",
        0..55 => "online",
        55..82 => "idle",
        _ => "dnd",
    };
    // The user's name comes along only when it has changed, which is seldom.
    let whole = guild.is_some() && rng.chance(4);
    braces(out, |out| {
        object(out, "user", |out| {
            if whole {
                text(out, "username", &user.username);
            }
            id(out, "id", user.id);
            if whole {
                text_or_null(out, "global_name", user.global_name.as_deref());
                text(out, "discriminator", "0");
                text_or_null(out, "avatar", user.avatar.as_deref());
            }
        });
        text(out, "status", status);
        if let Some(guild) = guild {
            id(out, "guild_id", guild);
        }
        object(out, "client_status", |out| {
            if status != "offline" {
                let (first, second) =
                    (rng.pick(&["desktop", "desktop", "mobile", "mobile", "web"]), rng.chance(12));
                if second && first != "mobile" {
                    text(out, "mobile", status);
                }
                text(out, first, status);
            }
        });
        key(out, "activities");
        out.push('[');
        if status != "offline" {
            activities(out, rng, user, now);
        }
        out.push(']');
    });
}

/// A guess: 45 of 100 do nothing, 33 have a custom status, 22 play, 10 listen; some two of these.
fn activities(out: &mut String, rng: &mut Rng, user: &User, now: u64) {
    let (custom, game, music) = match rng.below(100) {
        0..45 => (false, false, false),
        45..68 => (true, false, false),
        68..82 => (false, true, false),
        82..88 => (false, false, true),
        88..95 => (true, true, false),
        95..98 => (true, false, true),
        _ => (false, true, true),
    };
    if custom {
        braces(out, |out| custom_status(out, rng, now));
    }
    for (wanted, write) in [(game, playing as fn(&mut String, &mut Rng, &User, u64)), (music, listening)] {
        if wanted {
            if !out.ends_with('[') {
                out.push(',');
            }
            braces(out, |out| write(out, rng, user, now));
        }
    }
}

fn custom_status(out: &mut String, rng: &mut Rng, now: u64) {
    raw(out, "type", 4);
    text(out, "state", &if rng.chance(60) { names::chat_short(rng) } else { names::display(rng) });
    text(out, "name", "Custom Status");
    text(out, "id", "custom");
    object(out, "emoji", |out| {
        if rng.chance(25) {
            text(out, "name", &names::emoji(rng));
            id(out, "id", rng.id_between(NOW - 1500 * DAY, NOW));
            raw(out, "animated", rng.chance(30));
        } else {
            text(out, "name", rng.pick(names::EMOJI));
        }
    });
    raw(out, "created_at", now - rng.range(0, 30 * DAY));
}

fn playing(out: &mut String, rng: &mut Rng, _: &User, now: u64) {
    let start = now - rng.range(10_000, 20_000_000);
    // Most games are told by name alone; those with a presence of their own fill everything.
    let rich = rng.chance(60);
    raw(out, "type", 0);
    object(out, "timestamps", |out| raw(out, "start", start));
    if rich {
        text(
            out,
            "state",
            rng.pick(&["In a match", "In the menu", "In a party", "Workspace: made-up", "Ranked 3:1"]),
        );
        text(out, "session_id", &rng.hex(32));
        object(out, "party", |out| {
            raw(out, "size", format_args!("[{},{}]", rng.range(1, 4), rng.range(4, 6)));
            text(out, "id", &rng.hex(24));
        });
    }
    text(out, "name", names::game(rng));
    text(out, "id", &rng.hex(16));
    if rich {
        raw(out, "flags", 1);
        text(out, "details", &format!("Ranked: {}-{}", rng.range(0, 13), rng.range(0, 13)));
    }
    raw(out, "created_at", start);
    if rich {
        raw(out, "buttons", r#"["Join","Profile"]"#);
        object(out, "assets", |out| {
            if rng.chance(50) {
                text(out, "small_text", &names::display(rng));
                id(out, "small_image", rng.id_between(NOW - 2000 * DAY, NOW));
            }
            text(out, "large_text", &names::channel(rng, 2));
            if rng.chance(70) {
                id(out, "large_image", rng.id_between(NOW - 2000 * DAY, NOW));
            } else {
                let image = format!("mp:external/{}/https/example.invalid/a.png", rng.hex(24));
                text(out, "large_image", &image);
            }
        });
    }
    // A game with its own presence is one of not so many applications.
    id(out, "application_id", 356_875_221_078_245_376 + rng.range(0, 400));
}

fn listening(out: &mut String, rng: &mut Rng, user: &User, now: u64) {
    let start = now - rng.range(0, 180_000);
    let (title, album) = (rng.range(1, 5), rng.range(1, 4));
    raw(out, "type", 2);
    object(out, "timestamps", |out| {
        raw(out, "start", start);
        raw(out, "end", start + 180_000);
    });
    text(out, "sync_id", &rng.hex(22));
    text(out, "state", &names::display(rng));
    text(out, "session_id", &rng.hex(32));
    object(out, "party", |out| text(out, "id", &format!("spotify:{}", user.id)));
    text(out, "name", "Spotify");
    text(out, "id", "spotify:1");
    raw(out, "flags", 48);
    text(out, "details", &names::words(rng, title));
    raw(out, "created_at", start);
    object(out, "assets", |out| {
        text(out, "large_text", &names::words(rng, album));
        text(out, "large_image", &format!("spotify:ab67616d0000b273{}", rng.hex(24)));
    });
}
