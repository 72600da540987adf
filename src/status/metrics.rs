//! `/metrics`: everything that is counted, for Prometheus.
//!
//! Base units, few labels: a series per shard is made only for who asks (`?shards=1`). `docs/metrics.md` is printed from
//! here.

use std::fmt::Write as _;
use std::time::Instant;

use super::board::Overview;
use super::counts::Counts;
use super::exposition::{Exposition, Family};
use super::figures::{Cluster, STATES, Spool};
use super::process::Process;

/// What `/metrics` is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What the threads have told.
    pub overview: &'a Overview,
    /// What Linux tells.
    pub process: Process,
    /// What the page's own thread has counted.
    pub counts: Counts,
    /// The time.
    pub now: Instant,
    /// Whether every shard has series of its own.
    pub by_shard: bool,
}

type Value<T> = fn(&T) -> u64;

/// Figures of a cluster: name, type, help, value.
const OF_CLUSTERS: &[(&str, &str, &str, Value<Cluster>)] = &[
    ("rateway_published_total", "counter", "Events taken in for the broker.", |c| c.published),
    ("rateway_confirmed_total", "counter", "Events that the broker confirmed.", |c| c.confirmed),
    ("rateway_repeated_total", "counter", "Events published again after a channel was lost.", |c| c.repeated),
    (
        "rateway_lost_refused_total",
        "counter",
        "Events lost as the broker refuses them whatever is done.",
        |c| c.refused,
    ),
    (
        "rateway_lost_unframeable_total",
        "counter",
        "Events lost to a bug: they could not be framed again.",
        |c| c.unframeable,
    ),
    ("rateway_confirms_unknown_total", "counter", "Confirms that named no event under way.", |c| {
        c.confirms_unknown
    }),
    ("rateway_unconfirmed", "gauge", "Events in memory that wait for their confirm.", |c| c.unconfirmed),
    ("rateway_outbox_bytes", "gauge", "Memory that unconfirmed events take.", |c| c.outbox_bytes),
    ("rateway_outbox_limit_bytes", "gauge", "This cluster's share of OUTBOX_MEMORY.", |c| c.outbox_bytes_max),
    ("rateway_broker_up", "gauge", "1 while the broker takes publishes, else 0.", |c| {
        u64::from(c.takes_publishes())
    }),
    ("rateway_broker_links_lost_total", "counter", "Times that the link to the broker was lost.", |c| {
        c.links_lost
    }),
    (
        "rateway_paused",
        "gauge",
        "1 while reading from Discord is stopped as nothing more can be kept.",
        |c| u64::from(c.is_paused),
    ),
    ("rateway_worker_messages_waiting", "gauge", "Messages of workers that wait for their turn.", |c| {
        c.deliveries
    }),
    ("rateway_spooling", "gauge", "1 while events go to the disk.", |c| u64::from(c.is_spooling)),
    ("rateway_spool_overflows_total", "counter", "Times that the disk took over from a full outbox.", |c| {
        c.overflows
    }),
    ("rateway_spool_refusals_total", "counter", "Times that the disk took no more.", |c| c.disk_refusals),
    ("rateway_spool_waiting", "gauge", "Events that wait on disk alone.", |c| c.on_disk),
];

/// Figures of a cluster's disk.
const OF_SPOOLS: &[(&str, &str, &str, Value<Spool>)] = &[
    ("rateway_spool_bytes", "gauge", "Disk in use.", |s| s.bytes),
    ("rateway_spool_limit_bytes", "gauge", "This cluster's share of SPOOL_SIZE.", |s| s.bytes_max),
    ("rateway_spool_appended_total", "counter", "Events written to disk.", |s| s.appended),
    ("rateway_spool_appended_bytes_total", "counter", "Bytes written to disk.", |s| s.appended_bytes),
    ("rateway_spool_drained_total", "counter", "Events read back from disk.", |s| s.drained),
    ("rateway_spool_full_total", "counter", "Batches that found no room on disk.", |s| s.full),
    ("rateway_spool_damaged_total", "counter", "Places on disk that were not what was written.", |s| {
        s.damaged
    }),
    ("rateway_spool_losses_total", "counter", "Losses on disk, each told to workers as a gap.", |s| s.losses),
    ("rateway_spool_errors_total", "counter", "Calls of the disk that the system refused.", |s| s.io_errors),
];

/// The text for these facts, and the families in it.
pub fn write(facts: &Facts<'_>) -> (String, Vec<Family>) {
    let mut out = Exposition::default();
    process(&mut out, facts);
    shards(&mut out, facts);
    events(&mut out, facts.overview);
    clusters(&mut out, facts.overview);
    identify(&mut out, facts);
    workers(&mut out, facts.overview);
    cache(&mut out, facts.overview);
    own(&mut out, &facts.counts);
    out.finish()
}

fn process(out: &mut Exposition, facts: &Facts<'_>) {
    out.family("rateway_info", "gauge", &["version"], "Always 1; the label says which version runs.");
    out.sample(&[env!("CARGO_PKG_VERSION")], 1.0);
    let uptime = facts.overview.uptime.as_secs_f64();
    out.single("rateway_uptime_seconds", "gauge", "Time since the start.", uptime);
    let of_process = [
        ("rateway_process_resident_memory_bytes", "gauge", "Memory in use.", facts.process.resident_bytes),
        ("rateway_process_open_fds", "gauge", "Files and sockets that are open.", facts.process.open_fds),
        ("rateway_process_max_fds", "gauge", "Files and sockets that may be open.", facts.process.max_fds),
    ];
    for (name, kind, help, value) in of_process {
        out.family(name, kind, &[], help);
        value.into_iter().for_each(|value| out.sample(&[], value as f64));
    }
    out.family("rateway_process_cpu_seconds_total", "counter", &[], "CPU time of all threads.");
    facts.process.cpu_seconds.into_iter().for_each(|seconds| out.sample(&[], seconds));
    out.family(
        "rateway_thread_idle_seconds",
        "gauge",
        &["thread"],
        "Time since a reactor thread began its last turn; above 5 it is stuck.",
    );
    for (thread, idle) in facts.overview.idle.iter().enumerate() {
        out.sample(&[&thread.to_string()], idle.as_secs_f64());
    }
    let overview = facts.overview;
    for (name, help, value) in [
        ("rateway_pauses_total", "Times that reading was stopped by a full outbox.", overview.pauses),
        ("rateway_panics_total", "Shards' tasks that panicked: bugs.", overview.panics),
        (
            "rateway_sessions_unwritten_total",
            "Times that sessions could not be written to STATE_DIR.",
            overview.totals.keep_errors,
        ),
    ] {
        out.single(name, "counter", help, value as f64);
    }
}

fn shards(out: &mut Exposition, facts: &Facts<'_>) {
    let overview = facts.overview;
    out.single("rateway_shards_planned", "gauge", "Shards of this process.", overview.shards_planned as f64);
    out.family("rateway_shards", "gauge", &["state"], "Shards in each state; those that are up are active.");
    for (state, _) in STATES {
        let count = overview.shards.iter().filter(|shard| shard.state == state).count();
        out.sample(&[state], count as f64);
    }
    out.family(
        "rateway_shard_links_lost_total",
        "counter",
        &["cause"],
        "Connections to Discord lost, by cause.",
    );
    for (cause, count) in &overview.losses {
        out.sample(&[cause], *count as f64);
    }
    let totals = &overview.totals;
    for (name, help, value) in [
        ("rateway_heartbeats_total", "Heartbeats sent.", totals.heartbeats),
        ("rateway_identifies_total", "IDENTIFYs sent.", totals.identifies),
        ("rateway_resumes_total", "RESUMEs sent.", totals.resumes),
        ("rateway_resumes_succeeded_total", "RESUMEs that succeeded.", totals.resumes_succeeded),
        ("rateway_resumes_failed_total", "RESUMEs that ended otherwise.", totals.resumes_failed),
        ("rateway_sessions_invalidated_total", "INVALID SESSIONs received.", totals.sessions_invalidated),
        (
            "rateway_sessions_lost_total",
            "Sessions lost; each leaves a gap that workers are told of.",
            totals.sessions_lost,
        ),
    ] {
        out.single(name, "counter", help, value as f64);
    }
    out.family("rateway_heartbeat_rtt_seconds", "histogram", &[], "From a heartbeat to Discord's answer.");
    out.histogram(&overview.timings.heartbeat);
    if facts.by_shard {
        each_shard(out, facts);
    }
}

/// Series of single shards, which are many.
fn each_shard(out: &mut Exposition, facts: &Facts<'_>) {
    let shards = &facts.overview.shards;
    type Of = fn(&super::figures::Shard, Instant) -> Option<f64>;
    let families: [(&str, &str, &str, Of); 7] = [
        ("rateway_shard_up", "gauge", "1 while the shard is active, else 0.", |shard, _| {
            Some(f64::from(u8::from(shard.is_up())))
        }),
        ("rateway_shard_state_seconds", "gauge", "Time since its state changed.", |shard, now| {
            shard.changed_at.map(|at| now.saturating_duration_since(at).as_secs_f64())
        }),
        ("rateway_shard_events_total", "counter", "Events published.", |shard, _| Some(shard.events as f64)),
        ("rateway_shard_reconnects_total", "counter", "Connections lost.", |shard, _| {
            Some(shard.reconnects as f64)
        }),
        (
            "rateway_shard_heartbeat_rtt_last_seconds",
            "gauge",
            "The last heartbeat's round trip.",
            |shard, _| shard.heartbeat_rtt.map(|rtt| rtt.as_secs_f64()),
        ),
        ("rateway_shard_received_seq", "gauge", "The session's last seq that arrived.", |shard, _| {
            shard.seqs.map(|(received, _)| received as f64)
        }),
        (
            "rateway_shard_confirmed_seq",
            "gauge",
            "The session's last seq that the broker has.",
            |shard, _| shard.seqs.and_then(|(_, confirmed)| confirmed).map(|confirmed| confirmed as f64),
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, &["cluster", "shard"], help);
        for shard in shards {
            if let Some(value) = value(shard, facts.now) {
                out.sample(&[&shard.cluster.to_string(), &shard.id.to_string()], value);
            }
        }
    }
}

fn events(out: &mut Exposition, overview: &Overview) {
    let totals = &overview.totals;
    for (name, help, value) in [
        ("rateway_payloads_total", "Payloads of any kind received from Discord.", totals.payloads),
        ("rateway_events_total", "Events framed for the broker.", totals.events),
        (
            "rateway_events_replayed_total",
            "Events that Discord sent again and the broker has: left out.",
            totals.replayed,
        ),
        ("rateway_events_nameless_total", "Events without a name: left out.", totals.nameless),
        (
            "rateway_events_filtered_total",
            "Events that EVENTS and EVENTS_EXCLUDE leave out.",
            totals.filtered,
        ),
        ("rateway_event_names_cut_total", "Names of events cut to fit a routing key.", totals.names_cut),
        ("rateway_payloads_broken_total", "Payloads that broke the protocol.", totals.payloads_broken),
        ("rateway_seq_jumps_total", "Times that Discord skipped a sequence number.", totals.seq_jumps),
    ] {
        out.single(name, "counter", help, value as f64);
    }
    out.family(
        "rateway_receive_to_publish_seconds",
        "histogram",
        &[],
        "From the read of Discord's socket to the write to the broker's, per event; not those that were on disk.",
    );
    out.histogram(&overview.timings.receive_to_publish);
    out.family(
        "rateway_publish_to_confirm_seconds",
        "histogram",
        &[],
        "From the write to the broker's socket to the confirm of the batch, per event.",
    );
    out.histogram(&overview.timings.publish_to_confirm);
}

fn clusters(out: &mut Exposition, overview: &Overview) {
    for (name, kind, help, value) in OF_CLUSTERS {
        out.family(name, kind, &["cluster"], help);
        for cluster in &overview.clusters {
            out.sample(&[&cluster.number.to_string()], value(cluster) as f64);
        }
    }
    let spools = || {
        overview
            .clusters
            .iter()
            .filter_map(|cluster| Some((cluster.number.to_string(), cluster.spool.as_ref()?)))
    };
    for (name, kind, help, value) in OF_SPOOLS {
        out.family(name, kind, &["cluster"], help);
        for (cluster, spool) in spools() {
            out.sample(&[&cluster], value(spool) as f64);
        }
    }
    out.family(
        "rateway_shed_total",
        "counter",
        &["cluster", "event"],
        "Events of the classes in SHED left out as the disk was nearly full.",
    );
    for (cluster, spool) in spools() {
        for (event, count) in &spool.shed {
            out.sample(&[&cluster, event], *count as f64);
        }
    }
}

fn identify(out: &mut Exposition, facts: &Facts<'_>) {
    let queue = facts.overview.identify.as_ref();
    let figures = [
        (
            "rateway_session_starts_remaining",
            "gauge",
            "Session starts left today.",
            queue.map(|q| u64::from(q.remaining)),
        ),
        (
            "rateway_session_starts_limit",
            "gauge",
            "Session starts per day.",
            queue.map(|q| u64::from(q.total)),
        ),
        (
            "rateway_identify_buckets",
            "gauge",
            "Buckets that identify side by side (max_concurrency).",
            queue.map(|q| u64::from(q.max_concurrency)),
        ),
        (
            "rateway_identify_waiting",
            "gauge",
            "Shards that wait for their turn to identify.",
            queue.map(|q| q.waiting),
        ),
        (
            "rateway_identify_granted_total",
            "counter",
            "Permits to identify that shards got.",
            queue.map(|q| q.granted),
        ),
    ];
    for (name, kind, help, value) in figures {
        out.family(name, kind, &[], help);
        value.into_iter().for_each(|value| out.sample(&[], value as f64));
    }
    out.family(
        "rateway_session_starts_reset_seconds",
        "gauge",
        &[],
        "Time until there are more session starts; absent when all are there.",
    );
    if let Some(at) = queue.and_then(|queue| queue.reset_at) {
        out.sample(&[], at.saturating_duration_since(facts.now).as_secs_f64());
    }
}

fn workers(out: &mut Exposition, overview: &Overview) {
    let totals = &overview.totals;
    for (name, help, value) in [
        ("rateway_commands_forwarded_total", "Workers' commands sent to Discord.", totals.commands_forwarded),
        ("rateway_commands_refused_total", "Workers' commands refused.", totals.commands_refused),
        (
            "rateway_worker_messages_ignored_total",
            "Workers' messages that could not be understood.",
            totals.messages_ignored,
        ),
    ] {
        out.single(name, "counter", help, value as f64);
    }
    out.single(
        "rateway_commands_waiting",
        "gauge",
        "Workers' commands that wait for room in Discord's send limit.",
        totals.commands_waiting as f64,
    );
    out.family("rateway_queries_total", "counter", &["result"], "Cache queries: hit or miss.");
    out.sample(&["hit"], totals.query_hits as f64);
    out.sample(&["miss"], totals.query_misses as f64);
}

fn cache(out: &mut Exposition, overview: &Overview) {
    let cache = overview.cache.as_ref();
    let kinds = || cache.iter().flat_map(|cache| &cache.kinds);
    out.family("rateway_cache_entities", "gauge", &["kind"], "Entities held.");
    kinds().for_each(|kind| out.sample(&[kind.kind], kind.held as f64));
    out.family(
        "rateway_cache_evicted_total",
        "counter",
        &["kind"],
        "Entities forgotten as memory was short.",
    );
    kinds().for_each(|kind| out.sample(&[kind.kind], kind.evicted as f64));
    out.family(
        "rateway_cache_refused_total",
        "counter",
        &["kind"],
        "Entities not kept as they found no room.",
    );
    kinds().for_each(|kind| out.sample(&[kind.kind], kind.refused as f64));
    let figures = [
        ("rateway_cache_limit_bytes", "gauge", "Memory for entities.", cache.map(|c| c.capacity_bytes)),
        ("rateway_cache_used_bytes", "gauge", "Memory that entities take.", cache.map(|c| c.used_bytes)),
        (
            "rateway_cache_peak_bytes",
            "gauge",
            "The most memory that entities took.",
            cache.map(|c| c.peak_bytes),
        ),
        (
            "rateway_cache_unavailable_guilds",
            "gauge",
            "Guilds that Discord calls unavailable.",
            cache.map(|c| c.unavailable_guilds),
        ),
        (
            "rateway_cache_misfits_total",
            "counter",
            "Events that were not what Discord documents, and changed nothing.",
            cache.map(|c| c.misfits),
        ),
        (
            "rateway_cache_broken_total",
            "counter",
            "Shards' parts of the cache forgotten as a change had broken off.",
            cache.map(|c| c.broken),
        ),
    ];
    for (name, kind, help, value) in figures {
        out.family(name, kind, &[], help);
        value.into_iter().for_each(|value| out.sample(&[], value as f64));
    }
}

/// The page's own thread.
fn own(out: &mut Exposition, counts: &Counts) {
    for (name, kind, help, value) in [
        ("rateway_http_connections", "gauge", "Connections to this port.", counts.connections),
        ("rateway_http_streams", "gauge", "Readers of /events.", counts.streams),
        ("rateway_http_requests_total", "counter", "Requests answered on this port.", counts.requests),
        (
            "rateway_http_connections_closed_total",
            "counter",
            "Connections closed to make room, as they were slow, or as they sent what is no request.",
            counts.closed,
        ),
        (
            "rateway_http_updates_dropped_total",
            "counter",
            "Updates that a reader of /events was too slow for.",
            counts.updates_dropped,
        ),
    ] {
        out.single(name, kind, help, value as f64);
    }
}

/// The families as a table in Markdown, for docs/metrics.md.
pub fn markdown_table(families: &[Family]) -> String {
    let mut out = String::from("| name | type | labels | what it says |\n|---|---|---|---|\n");
    for Family { name, kind, labels, help } in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    out
}
