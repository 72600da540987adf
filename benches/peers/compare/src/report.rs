//! The tables: on the terminal, and between markers in README.md and benches/peers/README.md.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::programs::{Compression, Program};
use crate::{Findings, Kind, Options, Row, plot};

const BEGIN: &str = "<!-- peers: begin, by `make bench-peers` -->";
const END: &str = "<!-- peers: end -->";

pub fn report(options: &Options, findings: &Findings) -> Result<(), String> {
    let (full, short) = (full(options, findings), short(options, findings));
    println!("\n{full}\n{short}");
    if !options.write {
        return Ok(());
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
    replace(&root.join("benches/peers/README.md"), &full)?;
    replace(&root.join("README.md"), &short)?;
    let path = root.join("docs/peers.svg");
    std::fs::write(&path, plot::plot(findings)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts `text` between the markers of a file.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let name = path.display();
    let old = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let (before, rest) = old.split_once(BEGIN).ok_or_else(|| format!("{name} has no `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{name} has no `{END}`"))?;
    std::fs::write(path, format!("{before}{BEGIN}\n{text}{END}{after}"))
        .map_err(|error| format!("{name}: {error}"))
}

/// When and where, in a sentence.
fn circumstances(options: &Options, findings: &Findings) -> String {
    let output = |command: &str, arguments: &[&str]| {
        let output = Command::new(command).args(arguments).output();
        output.map_or_else(
            |_| "?".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> =
        cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).collect();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system =
        system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?").trim_matches('"');
    format!(
        "{}, {} x {}, {system}, Linux {}, {}. {} shards of {} guilds, medians of {} rounds of {} s in turns; {} s in all.",
        output("date", &["-u", "+%-d %B %Y"]),
        models.len(),
        models.first().unwrap_or(&"?"),
        output("uname", &["-r"]),
        output("rustc", &["--version"]).split(" (").next().unwrap_or("?"),
        options.shards,
        crate::GUILDS,
        options.rounds,
        options.seconds,
        findings.took.as_secs(),
    )
}

/// A row for everything that was measured.
fn full(options: &Options, findings: &Findings) -> String {
    let mut out = format!("{}\n", circumstances(options, findings));
    if findings.checked > 0 {
        let _ = writeln!(
            out,
            "Before that every program delivered the same {} events with each compression, with and without a cache.",
            findings.checked
        );
    }
    if !findings.rows.is_empty() {
        out += "\n| load | to | compression | cache | threads | program | CPU us/event | of the floor | events/s | p50 us | p99 us | p99.9 us |\n";
        out += "|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    }
    for row in &findings.rows {
        let load = match (row.kind, row.rate) {
            (_, None) => "full speed".to_owned(),
            (Kind::Half, Some(rate)) => format!("half: {}/s", grouped(rate as f64)),
            (_, Some(rate)) => format!("{}/s", grouped(rate as f64)),
        };
        let floor =
            floor_of(findings, row).map_or("".to_owned(), |floor| format!("{:.2}", row.cpu_us() / floor));
        let latency =
            row.latency().map_or(["".to_owned(), "".to_owned(), "".to_owned()], |it| it.map(grouped));
        let _ = writeln!(
            out,
            "| {load} | {} | {} | {} | {} | {} | {:.2} | {floor} | {} | {} | {} | {} |",
            if row.task.rabbitmq.is_some() { "RabbitMQ" } else { "discards" },
            row.task.compression,
            if row.task.cache { "on" } else { "off" },
            row.task.threads,
            row.task.program.name(),
            row.cpu_us(),
            grouped(row.events_per_s()),
            latency[0],
            latency[1],
            latency[2],
        );
    }
    out += &memory(findings);
    out
}

/// The floor's CPU time under the same load; a cache does not change it, and it knows no broker.
fn floor_of(findings: &Findings, row: &Row) -> Option<f64> {
    let same = |it: &&Row| {
        it.task.program == Program::Floor
            && (it.kind, it.task.compression, it.task.threads)
                == (row.kind, row.task.compression, row.task.threads)
    };
    // At half load each setting has its own rate.
    (row.kind != Kind::Half || !row.task.cache).then(|| findings.rows.iter().find(same).map(Row::cpu_us))?
}

fn memory(findings: &Findings) -> String {
    if findings.memory.is_empty() {
        return String::new();
    }
    let mut out = "\n| resident bytes per |".to_owned();
    let (mut programs, mut kinds) = (Vec::new(), Vec::new());
    for figure in &findings.memory {
        if !programs.contains(&figure.program) {
            programs.push(figure.program);
        }
        if !kinds.contains(&figure.what) {
            kinds.push(figure.what);
        }
    }
    programs.iter().for_each(|program| out += &format!(" {} |", program.name()));
    out += "\n|---|";
    programs.iter().for_each(|_| out += "---|");
    for what in kinds {
        out += &format!("\n| {what} |");
        for &program in &programs {
            let figure = findings.memory.iter().find(|it| (it.program, it.what) == (program, what));
            out += &figure.map_or(" |".to_owned(), |it| format!(" {} |", grouped(it.bytes)));
        }
    }
    out + "\n"
}

/// What a reader wants to know first.
fn short(options: &Options, findings: &Findings) -> String {
    let mut out = format!("{}\n\n| |", circumstances(options, findings));
    for program in Program::ALL {
        out += &format!(" {} |", program.name());
    }
    out += "\n|---|---|---|---|---|\n";
    type Cell = fn(&Row) -> Option<String>;
    let cpu: Cell = |row| Some(format!("{:.2}", row.cpu_us()));
    let speed: Cell = |row| Some(grouped(row.events_per_s()));
    let latency: Cell =
        |row| Some(row.latency().map_or("falls behind".into(), |it| it.map(grouped).join(" / ")));
    let mut lines: Vec<(String, Kind, Compression, bool, usize, bool, Cell)> = Vec::new();
    for compression in [Compression::Zlib, Compression::Zstd] {
        for cache in [false, true] {
            let name = format!("{compression}, cache {}", if cache { "on" } else { "off" });
            lines.push((
                format!("CPU us/event, full speed, {name}"),
                Kind::Full,
                compression,
                cache,
                1,
                false,
                cpu,
            ));
        }
    }
    for cache in [false, true] {
        let name = format!("zlib, cache {}", if cache { "on" } else { "off" });
        let rate = grouped(crate::FIXED_RATE as f64);
        lines.push((
            format!("CPU us/event at {rate} events/s, {name}"),
            Kind::Fixed,
            Compression::Zlib,
            cache,
            1,
            false,
            cpu,
        ));
    }
    for cache in [false, true] {
        let name = format!("zlib, cache {}, to RabbitMQ", if cache { "on" } else { "off" });
        lines.push((
            format!("CPU us/event, full speed, {name}"),
            Kind::Full,
            Compression::Zlib,
            cache,
            1,
            true,
            cpu,
        ));
    }
    for threads in [1, 2] {
        for cache in [false, true] {
            let name = format!("zlib, cache {}", if cache { "on" } else { "off" });
            lines.push((
                format!("events/s on {threads} thread(s), {name}"),
                Kind::Full,
                Compression::Zlib,
                cache,
                threads,
                false,
                speed,
            ));
        }
    }
    for cache in [false, true] {
        let name = format!("zlib, cache {}", if cache { "on" } else { "off" });
        lines.push((
            format!("p50 / p99 / p99.9 us at half load, {name}"),
            Kind::Half,
            Compression::Zlib,
            cache,
            1,
            false,
            latency,
        ));
    }
    for (name, kind, compression, cache, threads, rabbitmq, cell) in lines {
        let cells: Vec<Option<String>> = Program::ALL
            .iter()
            .map(|&program| {
                let row = findings.rows.iter().find(|row| {
                    let task = &row.task;
                    row.kind == kind
                        && (task.program, task.compression, task.cache) == (program, compression, cache)
                        && (task.threads, task.rabbitmq.is_some()) == (threads, rabbitmq)
                });
                row.and_then(cell)
            })
            .collect();
        if cells.iter().any(Option::is_some) {
            out += &format!("| {name} |");
            cells.into_iter().for_each(|cell| out += &format!(" {} |", cell.unwrap_or_default()));
            out += "\n";
        }
    }
    let mut kinds = Vec::new();
    for figure in &findings.memory {
        if !kinds.contains(&figure.what) {
            kinds.push(figure.what);
        }
    }
    for what in kinds {
        out += &format!("| resident bytes per {what} |");
        for program in Program::ALL {
            let figure = findings.memory.iter().find(|it| (it.program, it.what) == (program, what));
            out += &figure.map_or(" |".to_owned(), |it| format!(" {} |", grouped(it.bytes)));
        }
        out += "\n";
    }
    out
}

/// 12,345
fn grouped(number: f64) -> String {
    if !number.is_finite() {
        return "?".to_owned();
    }
    let digits = format!("{:.0}", number.abs());
    let mut out = if number < -0.5 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_texts_replaced_between_markers() {
        assert_eq!([0.4, 999.6, 12_345.0, -1_234_567.0].map(grouped), ["0", "1,000", "12,345", "-1,234,567"]);
        let path = std::env::temp_dir().join(format!("rateway-peers-{}.md", std::process::id()));
        std::fs::write(&path, format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        replace(&path, "new\n").unwrap();
        replace(&path, "newer\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, format!("a\n{BEGIN}\nnewer\n{END}\nb\n"));
    }
}
