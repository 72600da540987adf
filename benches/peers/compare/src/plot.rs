//! The plot: CPU time per event, and latency at half load, as an SVG without anything around it.

use std::fmt::Write;

use crate::programs::{Compression, Program};
use crate::{Findings, Kind, Row};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
/// Where the bars stand and how high they may get.
const BOTTOM: f64 = 300.0;
const TOP: f64 = 70.0;
const BAR: f64 = 20.0;

const fn colour(program: Program) -> &'static str {
    match program {
        Program::Floor => "#9aa0a6",
        Program::Rateway => "#1a73e8",
        Program::Raw => "#f29900",
        Program::Typed => "#c5221f",
    }
}

pub fn plot(findings: &Findings) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (at, program) in Program::ALL.into_iter().enumerate() {
        let x = 40.0 + at as f64 * 130.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{}</text>",
            HEIGHT - 26.0,
            colour(program),
            x + 17.0,
            HEIGHT - 16.0,
            program.name()
        );
    }
    cpu(&mut out, findings);
    latency(&mut out, findings);
    out + "</svg>\n"
}

/// The settings that a panel shows, and how they are called.
fn settings() -> [(Compression, bool, &'static str); 4] {
    [
        (Compression::Zlib, false, "zlib"),
        (Compression::Zlib, true, "zlib, cache"),
        (Compression::Zstd, false, "zstd"),
        (Compression::Zstd, true, "zstd, cache"),
    ]
}

fn rows(findings: &Findings, kind: Kind, compression: Compression, cache: bool) -> Vec<&Row> {
    let wanted = |row: &&Row| {
        let task = &row.task;
        row.kind == kind
            && (task.compression, task.cache, task.threads) == (compression, cache, 1)
            && task.rabbitmq.is_none()
    };
    findings.rows.iter().filter(wanted).collect()
}

fn title(out: &mut String, x: f64, text: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"30\" font-size=\"15\" font-weight=\"bold\">{text}</text>");
}

fn cpu(out: &mut String, findings: &Findings) {
    title(out, 40.0, "CPU time per event at full speed, us");
    let all = settings().map(|(compression, cache, _)| rows(findings, Kind::Full, compression, cache));
    let most = all.iter().flatten().map(|row| row.cpu_us()).fold(1.0, f64::max);
    let mut x = 40.0;
    for ((_, _, name), rows) in settings().into_iter().zip(all) {
        let begin = x;
        for row in rows {
            let height = row.cpu_us() / most * (BOTTOM - TOP);
            let y = BOTTOM - height;
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" font-size=\"9\" text-anchor=\"middle\">{:.1}</text>",
                colour(row.task.program),
                x + BAR / 2.0,
                y - 4.0,
                row.cpu_us()
            );
            x += BAR + 4.0;
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            (begin + x) / 2.0,
            BOTTOM + 18.0
        );
        x += 26.0;
    }
}

/// On a logarithmic scale: a bar from p50 to p99, a line on to p99.9.
fn latency(out: &mut String, findings: &Findings) {
    let left = 530.0;
    title(out, left, "Latency at half load, us: p50 to p99, to p99.9");
    let all = settings().map(|(compression, cache, _)| rows(findings, Kind::Half, compression, cache));
    let most = all.iter().flatten().filter_map(|row| Some(row.latency()?[2])).fold(100.0, f64::max);
    let (low, high) = (10f64.log10(), most.log10().ceil());
    let y_of = |us: f64| BOTTOM - (us.max(10.0).log10() - low) / (high - low) * (BOTTOM - TOP);
    for power in low as i32..=high as i32 {
        let y = y_of(10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dadce0\"/>\
             <text x=\"{}\" y=\"{:.1}\" font-size=\"9\" text-anchor=\"end\">{}</text>",
            WIDTH - 20.0,
            left - 4.0,
            y + 3.0,
            10f64.powi(power)
        );
    }
    let mut x = left + 10.0;
    for ((_, _, name), rows) in settings().into_iter().zip(all) {
        let begin = x;
        for row in rows {
            let Some(latency) = row.latency() else { continue };
            let [middle, most, worst] = latency.map(y_of);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{most:.1}\" width=\"{BAR}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <line x1=\"{2}\" x2=\"{2}\" y1=\"{most:.1}\" y2=\"{worst:.1}\" stroke=\"{1}\" stroke-width=\"2\"/>",
                (middle - most).max(1.0),
                colour(row.task.program),
                x + BAR / 2.0,
            );
            x += BAR + 4.0;
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            (begin + x) / 2.0,
            BOTTOM + 18.0
        );
        x += 14.0;
    }
}
