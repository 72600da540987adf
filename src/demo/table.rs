//! What the demo shows: a table that is drawn again and again, or a line now and then where there is no terminal.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::worker::Seen;
use crate::base::Histogram;
use crate::status::board::Overview;

/// The widest line.
const COLUMNS: usize = 100;

/// Draws what is going on.
pub(super) struct Table {
    places: String,
    is_terminal: bool,
    /// Lines of the last drawing, to be drawn over.
    lines: usize,
    last: Option<(Instant, u64, u64)>,
}

impl Table {
    pub(super) fn new(places: &str, is_terminal: bool) -> Table {
        Table { places: places.to_owned(), is_terminal, lines: 0, last: None }
    }

    pub(super) fn draw(&mut self, now: Instant, overview: &Overview, seen: &Seen) {
        let published: u64 = overview.clusters.iter().map(|cluster| cluster.published).sum();
        let heard = seen.events();
        let (published_rate, heard_rate) = match self.last.replace((now, published, heard)) {
            Some((before, published_before, heard_before)) => {
                let seconds = now.saturating_duration_since(before).as_secs_f64().max(0.001);
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                (rate(published, published_before), rate(heard, heard_before))
            }
            None => (0.0, 0.0),
        };
        let mut out = String::new();
        if self.is_terminal {
            let text = text(&self.places, overview, seen, published_rate, heard_rate);
            if self.lines > 0 {
                // Up to the first line, and clear what is below.
                let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
            }
            self.lines = text.lines().count();
            out.push_str(&text);
        } else {
            let _ = writeln!(
                out,
                "{} of {} shards up, {published_rate:.0} events/s published, {heard_rate:.0} heard; {}",
                overview.up(),
                overview.shards_planned,
                seen.words()
            );
        }
        let mut stdout = std::io::stdout().lock();
        // Nobody may be looking any more.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }
}

fn text(places: &str, overview: &Overview, seen: &Seen, published: f64, heard: f64) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let cut: String = text.chars().take(COLUMNS).collect();
        let _ = writeln!(out, "{cut}");
    };
    let uptime = overview.uptime.as_secs();
    line(format!(
        "rateway demo   {:02}:{:02}:{:02}   Ctrl-C stops",
        uptime / 3600,
        uptime / 60 % 60,
        uptime % 60
    ));
    line(places.to_owned());
    line(String::new());
    let cells: String = overview.shards.iter().map(|shard| if shard.is_up() { '#' } else { '.' }).collect();
    line(format!("shards    {} of {} up   [{cells}]", overview.up(), overview.shards_planned));
    line(format!("events    {published:.0}/s published, {heard:.0}/s heard by the worker"));
    let timings = &overview.timings;
    line(format!(
        "latency   receive to publish {}, publish to confirm {}, Discord {}",
        quantiles(&timings.receive_to_publish),
        quantiles(&timings.publish_to_confirm),
        quantiles(&timings.heartbeat)
    ));
    if let Some(cache) = &overview.cache {
        let of = |kind: &str| cache.kinds.iter().find(|one| one.kind == kind).map_or(0, |one| one.held);
        line(format!(
            "cache     {} of {} MiB: {} guilds, {} channels, {} members, {} users, {} presences",
            cache.used_bytes >> 20,
            cache.capacity_bytes >> 20,
            of("guilds"),
            of("guild_channels"),
            of("members"),
            of("users"),
            of("presences")
        ));
    }
    for cluster in &overview.clusters {
        line(format!(
            "cluster {} {}: {} published, {} unconfirmed, {} KiB in the outbox, {} on disk",
            cluster.number,
            cluster.link,
            cluster.published,
            cluster.unconfirmed,
            cluster.outbox_bytes >> 10,
            cluster.on_disk
        ));
    }
    line(format!("worker    {}", seen.words()));
    let [last, command, query] = seen.last();
    line(format!("          last event {last}"));
    line(format!("          its command was answered {command}"));
    line(format!("          the cache says of the bot {query}"));
    out
}

/// The middle and the 99th percentile.
fn quantiles(histogram: &Histogram) -> String {
    let shown = |q| histogram.quantile_us(q).map_or("-".to_owned(), |us| duration(Duration::from_micros(us)));
    format!("{} (p99 {})", shown(0.5), shown(0.99))
}

fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        us if us < 1000 => format!("{us} us"),
        us if us < 1_000_000 => format!("{:.1} ms", us as f64 / 1000.0),
        us => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_lines_are_cut() {
        assert_eq!(duration(Duration::from_micros(950)), "950 us");
        assert_eq!(duration(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(duration(Duration::from_millis(2_500)), "2.5 s");
        let text = text(&"long ".repeat(50), &Overview::default(), &Seen::default(), 12.3, 4.0);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.contains("12/s published, 4/s heard"), "{text}");
    }
}
