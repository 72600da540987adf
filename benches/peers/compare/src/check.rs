//! Before anything is measured: do all programs deliver the same?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::process::wait_for;
use crate::programs::{Binaries, Compression, Load, Program, Running, Sim, Task, World};
use crate::sink::Observer;

/// Events of each shard that are compared: READY, GUILD_CREATEs and what follows.
const EVENTS: u64 = 300;

/// What the stand-in sends so that gateways see something new. twilight's types do not know it, so the typed forwarder leaves
/// it out, as the original rateway did with what it did not know.
const UNKNOWN: &str = "GUILD_NOVELTY_UPDATE";

/// Name and body, by shard and number.
type Events = BTreeMap<(u32, u64), (String, Value)>;

/// Lets each program forward the same events and compares them with what the stand-in sent. Returns how many were
/// compared per program.
pub fn check(
    binaries: &Binaries,
    programs: &[Program],
    compressions: &[Compression],
    world: &World,
) -> Result<u64, String> {
    let expected = u64::from(world.shards) * EVENTS;
    for &compression in compressions {
        let world = World { load: Load::Rate(20_000), sends: None, ..world.clone() };
        let sim = Sim::start(&binaries.rateway, &world)?;
        let task = |program, cache| Task {
            program,
            compression,
            cache,
            threads: 1,
            shards: world.shards,
            gives_back: false,
            rabbitmq: None,
        };
        let truth = events(binaries, &task(Program::Floor, false), &sim, expected)?;
        let known = truth.values().filter(|(name, _)| name != UNKNOWN).count() as u64;
        for &program in programs.iter().filter(|&&program| program != Program::Floor) {
            for cache in [false, true] {
                let expected = if program == Program::Typed { known } else { expected };
                let found = events(binaries, &task(program, cache), &sim, expected)?;
                let name = format!("{}, {compression}, cache {cache}", program.name());
                compare(program, &truth, &found).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        sim.stop();
    }
    Ok(expected)
}

fn compare(program: Program, truth: &Events, found: &Events) -> Result<(), String> {
    for (key, (name, sent)) in truth {
        if program == Program::Typed && name == UNKNOWN {
            continue;
        }
        let (got_name, got) = found.get(key).ok_or_else(|| format!("shard and seq {key:?} are missing"))?;
        if name != got_name {
            return Err(format!("shard and seq {key:?}: {name} came as {got_name}"));
        }
        // rateway blanks secrets in READY; twilight's types know neither all keys nor how numbers were written.
        let same = match program {
            _ if name == "READY" => got["user"] == sent["d"]["user"] || program == Program::Typed,
            Program::Typed => identity(got) == identity(&sent["d"]),
            _ => got == &sent["d"],
        };
        if !same {
            return Err(format!("shard and seq {key:?}, {name}: sent {}, came {got}", sent["d"]));
        }
    }
    Ok(())
}

/// What tells one event from another even if it was written anew.
fn identity(d: &Value) -> Vec<&Value> {
    ["id", "guild_id", "channel_id", "message_id", "user_id", "content"].iter().map(|key| &d[*key]).collect()
}

/// The first events of every shard.
fn events(binaries: &Binaries, task: &Task, sim: &Sim, expected: u64) -> Result<Events, String> {
    let list = Arc::new(Mutex::new(Events::new()));
    let shared = list.clone();
    let observer: Observer = Arc::new(move |message| {
        if message.seq <= EVENTS {
            let body = serde_json::from_slice(message.body).unwrap_or(Value::Null);
            let name = String::from_utf8_lossy(message.routing_key).into_owned();
            let mut list = shared.lock().expect("nobody panics here");
            let twice = list.insert((message.shard_id, message.seq), (name, body));
            assert!(twice.is_none(), "shard {} seq {} came twice", message.shard_id, message.seq);
        }
    });
    let running = Running::start(binaries, task, &sim.address, Some(observer))?;
    let what = format!("{} has delivered {expected} events", task.program.name());
    wait_for(&what, 60, || list.lock().map_or(true, |list| list.len() as u64 >= expected))?;
    drop(running);
    let mut list = list.lock().map_err(|_| "an event came twice".to_owned())?;
    Ok(std::mem::take(&mut *list))
}
