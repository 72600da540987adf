//! Resident memory per shard, per cached guild and per cached member: two processes that differ in the number of one of
//! them, divided by the difference.

use std::time::Duration;

use crate::Options;
use crate::process::wait_for;
use crate::programs::{Compression, Load, Program, Running, Sim, Task, World};

pub struct Figure {
    pub program: Program,
    pub what: &'static str,
    pub bytes: f64,
}

/// What is counted, and the two worlds.
struct Case {
    what: &'static str,
    compression: Compression,
    cache: bool,
    few: (u32, u32, u32),
    many: (u32, u32, u32),
    count: u32,
}

const GUILD: &str = "cached guild of 2 members";
const GUILD_WITH_MEMBERS: &str = "cached guild of 250 members";
const MEMBER: &str = "cached member";

/// (shards, guilds, members of each). Where guilds are counted the few are many enough that what a cache has once is there
/// with them: rateway's directory of ids, a twelfth of `CACHE_MEMORY`, is all in use by then.
const CASES: [Case; 4] = [
    Case {
        what: "idle shard, zlib",
        compression: Compression::Zlib,
        cache: false,
        few: (100, 100, 20),
        many: (1000, 1000, 20),
        count: 900,
    },
    Case {
        what: "idle shard, zstd",
        compression: Compression::Zstd,
        cache: false,
        few: (100, 100, 20),
        many: (600, 600, 20),
        count: 500,
    },
    Case {
        what: GUILD,
        compression: Compression::Zlib,
        cache: true,
        few: (16, 1000, 2),
        many: (16, 3000, 2),
        count: 2000,
    },
    // GUILD_CREATE has all members up to LARGE_THRESHOLD.
    Case {
        what: GUILD_WITH_MEMBERS,
        compression: Compression::Zlib,
        cache: true,
        few: (16, 500, 250),
        many: (16, 1500, 250),
        count: 1000,
    },
];

/// How long a process may take until its memory no longer changes.
const SETTLES_S_MAX: u32 = 20;

pub fn measure(options: &Options) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for case in &CASES {
        if !options.compressions.contains(&case.compression) {
            continue;
        }
        for &program in &options.programs {
            if !Options::has(program, case.cache, false) {
                continue;
            }
            let few = resident(options, program, case, case.few)?;
            let many = resident(options, program, case, case.many)?;
            let bytes = (many as f64 - few as f64) / f64::from(case.count);
            println!("memory {:<15} {:<26} {bytes:8.0} bytes", program.name(), case.what);
            figures.push(Figure { program, what: case.what, bytes });
        }
    }
    for &program in &options.programs {
        let of = |what| figures.iter().find(|it| it.program == program && it.what == what).map(|it| it.bytes);
        if let (Some(few), Some(many)) = (of(GUILD), of(GUILD_WITH_MEMBERS)) {
            figures.push(Figure { program, what: MEMBER, bytes: (many - few) / 248.0 });
        }
    }
    Ok(figures)
}

fn resident(
    options: &Options,
    program: Program,
    case: &Case,
    (shards, guilds, members): (u32, u32, u32),
) -> Result<u64, String> {
    let world = World { shards, guilds, members, load: Load::Idle, sends: None };
    let sim = Sim::start(&options.binaries.rateway, &world)?;
    let (compression, cache) = (case.compression, case.cache);
    let task = Task { program, compression, cache, threads: 1, shards, gives_back: true, rabbitmq: None };
    let running = Running::start(&options.binaries, &task, &sim.address, None)?;
    // READY and the guilds; the floor also counts HELLO.
    let hellos = if program == Program::Floor { shards } else { 0 };
    let expected = u64::from(shards + guilds + hellos);
    let what = format!("{} has {shards} shards and {guilds} guilds", program.name());
    wait_for(&what, 60, || running.events() >= expected)?;
    // What follows the last event, such as the cache, and buffers that are given back.
    let (mut last, mut seconds) = (u64::MAX, 0);
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = running.process.resident_bytes();
        if now.abs_diff(last) < last / 200 || seconds == SETTLES_S_MAX {
            return Ok(now);
        }
        (last, seconds) = (now, seconds + 2);
    }
}
