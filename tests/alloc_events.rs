//! Counts allocations while events are applied and questions answered: some while buffers and the table of shapes grow,
//! none afterwards, however many entities come and go; and the cache's memory never passes what it was given.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rateway::cache::{Answer, Applied, Cache, Holding, KindSet, Options, Question, Scratch};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    // Per thread, so that the test harness does not disturb the count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    let _ = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + u64::from(bytes > 0)));
    let _ = LIVE.try_with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GUILD: u64 = 41 << 22;
const MEMORY: usize = 1 << 20;

fn corpus(file: &str) -> Value {
    let path = format!("{}/tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("part of the repository")).expect("JSON")
}

/// Events of a round: people come, speak, react, move and go. Ids differ between rounds, shapes do not.
fn round(number: u64) -> Vec<(&'static str, Vec<u8>)> {
    let base = 700_000_000_000_000_000 + number * 1_000_000;
    let guild = GUILD.to_string();
    let mut events = Vec::new();
    for n in 0..40 {
        let user = json!({"id": (base + n).to_string(), "username": format!("name{n}"), "avatar": null,
            "discriminator": "0", "global_name": format!("Name {n}"), "public_flags": 0});
        let member = json!({"user": user, "roles": [(GUILD + 1).to_string()], "nick": null, "flags": 0,
            "joined_at": "2026-08-01T00:00:30.000000+00:00", "deaf": false, "mute": false, "guild_id": guild});
        events.push(("GUILD_MEMBER_ADD", member));
        let presence = json!({"guild_id": guild, "user": {"id": (base + n).to_string()}, "status": "online",
            "client_status": {"web": "online"}, "activities": [{"name": format!("game {n}"), "type": 0}]});
        events.push(("PRESENCE_UPDATE", presence));
        let message = json!({"id": (base + 1_000 + n).to_string(), "channel_id": (GUILD + 5).to_string(),
            "guild_id": guild, "author": user, "content": format!("words number {n}"), "mentions": [], "type": 0,
            "timestamp": "2026-08-06T18:31:01.123000+00:00", "embeds": [], "attachments": []});
        events.push(("MESSAGE_CREATE", message));
        let reaction = json!({"user_id": (base + n).to_string(), "channel_id": (GUILD + 5).to_string(),
            "message_id": (base + 1_000 + n).to_string(), "guild_id": guild, "burst": false, "type": 0,
            "emoji": {"id": null, "name": "🦉"}});
        events.push(("MESSAGE_REACTION_ADD", reaction.clone()));
        events.push(("MESSAGE_REACTION_REMOVE", reaction));
        let voice = json!({"guild_id": guild, "user_id": (base + n).to_string(), "session_id": "s", "deaf": false,
            "channel_id": (GUILD + 6 + n % 2).to_string(), "mute": n % 2 == 0});
        events.push(("VOICE_STATE_UPDATE", voice));
        let channel =
            json!({"id": (GUILD + 5).to_string(), "guild_id": guild, "type": 0, "name": format!("c{n}")});
        events.push(("CHANNEL_UPDATE", channel));
        if n % 2 == 0 {
            let remove = json!({"guild_id": guild, "user": {"id": (base + n).to_string()}});
            events.push(("GUILD_MEMBER_REMOVE", remove));
        }
    }
    events.into_iter().map(|(name, d)| (name, d.to_string().into_bytes())).collect()
}

#[test]
fn nothing_is_allocated_per_entity_or_update() {
    let before = LIVE.get();
    let options = Options {
        memory_bytes: MEMORY,
        holding: Holding { kinds: KindSet::all(), message_cache_size: 20, members_are_told: false },
        shards: vec![0, 1],
        shard_count: 2,
        seed: [1, 2],
    };
    let cache = Cache::new(options).expect("memory");
    assert!(LIVE.get() - before <= MEMORY as i64 + 64 * 1024, "{} bytes", LIVE.get() - before);
    let (mut scratch, mut out) = (Scratch::default(), Vec::with_capacity(64 * 1024));
    for shard in 0..2 {
        for (name, file) in [("READY", "READY.json"), ("GUILD_CREATE", "GUILD_CREATE.medium.json")] {
            let applied = cache.apply(shard, name, corpus(file)["d"].to_string().as_bytes(), &mut scratch);
            assert_eq!(applied, Applied::Done, "{name}");
        }
    }
    let shard = ((GUILD >> 22) % 2) as usize;
    let guild = json!({"id": GUILD.to_string(), "name": "guild", "member_count": 1, "channels": [], "members": [],
        "roles": [{"id": (GUILD + 1).to_string(), "name": "role"}]});
    cache.apply(shard, "GUILD_CREATE", guild.to_string().as_bytes(), &mut scratch);

    // Until the memory is full and evictions are a habit, buffers grow.
    let rounds: Vec<_> = (0..700).map(round).collect();
    let (warm, measured) = rounds.split_at(500);
    let mut apply = |events: &[(&str, Vec<u8>)], out: &mut Vec<u8>| {
        for (name, d) in events {
            cache.apply(shard, name, d, &mut scratch);
        }
        for question in [
            Question::Guild(GUILD),
            Question::GuildMembers { guild: GUILD, after: 0, limit: 50 },
            Question::VoiceChannelStates(GUILD + 7),
            Question::GuildRoles(GUILD),
        ] {
            out.clear();
            assert_eq!(cache.ask(question, &mut scratch, out), Answer::Found, "{question:?}");
        }
    };
    warm.iter().for_each(|events| apply(events, &mut out));
    let (allocations, live) = (ALLOCATIONS.get(), LIVE.get());
    measured.iter().for_each(|events| apply(events, &mut out));
    assert_eq!(ALLOCATIONS.get() - allocations, 0, "allocations of {} rounds", measured.len());
    assert_eq!(LIVE.get(), live);
    out.clear();
    cache.ask(Question::Stats, &mut Scratch::default(), &mut out);
    let stats: Value = serde_json::from_slice(&out).expect("JSON");
    assert!(stats["evicted"]["members"].as_u64() > Some(1_000), "the memory was never full: {stats}");
}
