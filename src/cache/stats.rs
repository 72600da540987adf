//! The answer to Stats, and the one warning that the cache has for the operator.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::arena::PAGE_BYTES;
use super::common::Common;
use super::kind::{KINDS, Kind};

/// What each kind is called in Stats.
const NAMES: [(&str, Kind); 16] = [
    ("guilds", Kind::Guild),
    ("guild_channels", Kind::Channel),
    ("threads", Kind::Thread),
    ("private_channels", Kind::PrivateChannel),
    ("roles", Kind::Role),
    ("emojis", Kind::Emoji),
    ("stickers", Kind::Sticker),
    ("soundboard_sounds", Kind::Sound),
    ("members", Kind::Member),
    ("users", Kind::User),
    ("presences", Kind::Presence),
    ("voice_states", Kind::VoiceState),
    ("messages", Kind::Message),
    ("stage_instances", Kind::StageInstance),
    ("scheduled_events", Kind::ScheduledEvent),
    ("integrations", Kind::Integration),
];

/// One kind's part of [`Figures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindFigures {
    /// What Stats calls it.
    pub name: &'static str,
    /// Entities held.
    pub held: u64,
    /// Entities that had to go.
    pub evicted: u64,
    /// Entities that were not kept.
    pub refused: u64,
}

/// What Stats tells, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Each kind.
    pub kinds: Vec<KindFigures>,
    /// Guilds that are flagged.
    pub unavailable_guilds: u64,
    /// Events that were not what Discord documents.
    pub misfits: u64,
    /// Partitions forgotten as they were broken.
    pub broken: u64,
    /// Memory for entities, in bytes.
    pub capacity_bytes: u64,
    /// Of it in use.
    pub used_bytes: u64,
    /// The most that was.
    pub peak_bytes: u64,
}

/// The present figures.
pub fn figures(common: &Common) -> Figures {
    let (totals, usage) = (&common.totals, common.region.usage());
    let kind = |(name, kind)| KindFigures {
        name,
        held: totals.held(kind),
        evicted: totals.evicted(kind),
        refused: totals.refused(kind),
    };
    Figures {
        kinds: NAMES.into_iter().map(kind).collect(),
        unavailable_guilds: totals.unavailable(),
        misfits: totals.misfits.load(Ordering::Relaxed),
        broken: totals.broken.load(Ordering::Relaxed),
        capacity_bytes: common.region_bytes() as u64,
        used_bytes: (usage.used as usize * PAGE_BYTES) as u64,
        peak_bytes: (usage.high_water as usize * PAGE_BYTES) as u64,
    }
}

/// Writes the object of Stats: counts over all shards (a user whom two shards know counts twice, as that is what memory
/// holds), what had to go, and memory in bytes.
pub fn write(common: &Common, out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = write_stats(common, out);
}

fn write_stats(common: &Common, out: &mut Vec<u8>) -> std::io::Result<()> {
    let totals = &common.totals;
    out.push(b'{');
    for (name, kind) in NAMES {
        write!(out, "\"{name}\":{},", totals.held(kind))?;
    }
    write!(out, "\"unavailable_guilds\":{}", totals.unavailable())?;
    let gone: [(&str, &dyn Fn(Kind) -> u64); 2] =
        [("evicted", &|kind| totals.evicted(kind)), ("refused", &|kind| totals.refused(kind))];
    for (name, count) in gone {
        write!(out, ",\"{name}\":{{")?;
        for (index, (name, kind)) in NAMES.into_iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}\"{name}\":{}", count(kind))?;
        }
        out.push(b'}');
    }
    let usage = common.region.usage();
    let directory = common.directory.usage();
    write!(
        out,
        ",\"misfits\":{},\"broken\":{},\"memory\":{{\"capacity_bytes\":{},\"used_bytes\":{},\"peak_bytes\":{}}},\
         \"shapes\":{},\"directory\":{{\"slots\":{},\"used\":{},\"overflowed\":{}}}}}",
        totals.misfits.load(Ordering::Relaxed),
        totals.broken.load(Ordering::Relaxed),
        common.region_bytes(),
        usage.used as usize * PAGE_BYTES,
        usage.high_water as usize * PAGE_BYTES,
        common.shapes.stats().shapes,
        directory.slots,
        directory.used,
        directory.overflowed,
    )
}

/// The warning that guilds had to go, with the memory that would hold as many again as went: guilds are alike in the
/// long run, and members and messages come on top. Once in the life of the process.
pub fn sizing_warning(common: &Common) -> Option<String> {
    if !common.take_sizing_problem() {
        return None;
    }
    let (held, evicted) = (common.totals.held(Kind::Guild).max(1), common.totals.evicted(Kind::Guild));
    let now = common.region_bytes() as u64;
    let wanted =
        (now as u128 * u128::from(held + evicted) * 2 / u128::from(held)).min(u128::from(u64::MAX)) as u64;
    let mib = (wanted >> 20).next_multiple_of(64).max(64);
    Some(format!(
        "the cache is full: whole guilds had to go (channels and roles with them), as nothing of less worth was left; \
         set CACHE_MEMORY={mib}MiB or more, or CACHE_KINDS to fewer kinds"
    ))
}

const _: () = assert!(NAMES.len() + 1 == KINDS.len());
