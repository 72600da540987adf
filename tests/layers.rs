//! Who may import whom: reads `crate::` paths in src/ and holds them to the table below.
//!
//! Siblings never name each other, the reactor knows `base` alone, and only the top sees the configuration. The clock
//! is read in few places, and no file grows without somebody having said why.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module -> the modules it may name besides itself. A module that is not listed fails the test.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("stream", &["base"]),
    ("gateway", &["base"]),
    ("amqp", &["base"]),
    // The server role over the same frames, so that each role tests the other.
    ("broker", &["base", "amqp"]),
    ("queue", &["base"]),
    ("cache", &["base"]),
    ("reactor", &["base"]),
    ("http", &["base"]),
    ("state", &["base", "queue"]),
    ("logging", &["base"]),
    ("status", &["base", "reactor", "http"]),
    ("relay", &["base", "stream", "gateway", "amqp", "queue", "cache", "reactor"]),
    ("publisher", &["base", "amqp", "reactor", "relay", "state"]),
    // The stand-in speaks Discord's side: opcodes and close codes are the same tables.
    ("sim", &["base", "gateway"]),
    // Parsers of values live with those who use the values.
    ("config", &["base", "stream", "gateway", "amqp", "queue", "cache", "http", "logging"]),
    ("service", &["base", "queue", "reactor", "http", "state", "config"]),
    // The broker machine on sockets; apart from it, so that the machine cannot name the reactor.
    ("broker_server", &["base", "broker", "reactor", "config"]),
    (
        "runtime",
        &[
            "base",
            "stream",
            "gateway",
            "amqp",
            "queue",
            "cache",
            "reactor",
            "http",
            "logging",
            "state",
            "status",
            "relay",
            "publisher",
            "broker_server",
            "config",
        ],
    ),
    // Short-lived programs with a blocking socket; of the reactor they use the clock.
    ("tools", &["base", "stream", "amqp", "cache", "reactor", "relay", "config"]),
    ("demo", &["base", "reactor", "logging", "relay", "config", "runtime", "sim", "status", "tools"]),
    // lib.rs only declares; main.rs calls the top.
    ("lib", &[]),
    (
        "main",
        &[
            "base",
            "broker_server",
            "config",
            "demo",
            "logging",
            "reactor",
            "runtime",
            "service",
            "sim",
            "tools",
        ],
    ),
];

/// What `sim` may name of `gateway`.
const SIM_MAY_SEE_OF_GATEWAY: &[&str] = &["opcode", "close", "intents"];

/// Files that may read the clock.
const CLOCKS: &[&str] = &["src/reactor/clock.rs", "src/sim/clock.rs", "src/queue/clock.rs"];

/// Files that may have unsafe code, and what runs over them (`make miri`, `make asan`).
const UNSAFE: &[(&str, &str)] = &[
    ("src/base/deflate.rs", "asan: calls zlib-ng"),
    ("src/cache/arena/block.rs", "miri: the heap; asan: the mapped file"),
    ("src/cache/arena/pages.rs", "miri"),
    ("src/cache/arena/region.rs", "miri"),
    ("src/gateway/scan.rs", "miri: SSE2 and AVX2"),
    ("src/reactor/open_files.rs", "asan: calls the system"),
    ("src/stream/inflate.rs", "asan: calls zlib-ng"),
];

/// Lines of code a file may have, tests at its foot left out.
const LINES_MAX: usize = 600;
/// Longer ones, with the reason why splitting would read worse.
const LONG_FILES: &[(&str, &str)] = &[];

struct Source {
    /// From the root of the repository: `src/gateway/shard.rs`.
    path: String,
    /// `gateway` for the above.
    module: String,
    text: String,
    /// The text without comments and strings' contents.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_under(&path, extension, out);
        } else if path.extension().is_some_and(|found| found == extension) {
            out.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files_under(&root().join("src"), "rs", &mut paths);
    assert!(paths.len() > 10, "src/ was not found");
    paths
        .iter()
        .map(|path| {
            let path_text = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let module = path_text["src/".len()..].split(['/', '.']).next().unwrap().to_owned();
            let text = fs::read_to_string(path).unwrap();
            let code = code_of(&text);
            Source { path: path_text, module, text, code }
        })
        .collect()
}

/// What stands before the tests at the foot of a file.
fn without_tests(text: &str) -> &str {
    text.split("\nmod tests {").next().unwrap_or(text)
}

/// `text` without line comments, block comments and the contents of string literals.
fn code_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (keep, skip) = if rest.starts_with("//") {
            ("", rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            ("", rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if let Some(length) = raw_string(rest) {
            ("\"\"", length)
        } else if c == '"' {
            ("\"\"", string_length(rest))
        } else if rest.starts_with("'\"'") {
            ("' '", 3)
        } else if rest.starts_with("'\\\"'") {
            ("' '", 4)
        } else {
            (&rest[..c.len_utf8()], c.len_utf8())
        };
        out.push_str(keep);
        rest = &rest[skip..];
    }
    out
}

/// The length of the string literal at the start of `rest`, quotes included.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the raw string literal at the start of `rest`, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|&byte| byte == b'#').count();
    after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = 1 + hashes + 1;
    Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// Everything in `code` that follows `crate::` (or `rateway::` in main.rs) as far as two names deep, with
/// `crate::{a, b::c}` taken apart: `["amqp"]`, `["gateway", "opcode"]`.
fn crate_paths(code: &str, head: &str) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices(head) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        tree(&code[at + head.len()..], &mut Vec::new(), &mut out);
    }
    out
}

/// Reads one use tree at the start of `text` into `out`; gives back what follows it.
fn tree<'a>(text: &'a str, prefix: &mut Vec<String>, out: &mut Vec<Vec<String>>) -> &'a str {
    let mut text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = inner.trim_start();
            if let Some(after) = inner.strip_prefix('}') {
                return after;
            }
            if inner.is_empty() {
                return inner;
            }
            let depth = prefix.len();
            let after = tree(inner, prefix, out);
            prefix.truncate(depth);
            // `name as other` and the comma; always moves forward, so that odd text cannot hang the test.
            let next = after.find([',', '}']).unwrap_or(after.len());
            inner = &after[next..];
            inner = inner.strip_prefix(',').unwrap_or(inner);
        }
    }
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        if text.starts_with('*') {
            out.push(prefix.clone());
        }
        return text;
    }
    text = &text[name.len()..];
    prefix.push(name);
    match text.strip_prefix("::") {
        Some(after) => tree(after, prefix, out),
        None => {
            out.push(prefix.clone());
            text
        }
    }
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources() {
        let Some(allowed) = table.get(source.module.as_str()) else {
            faults.push(format!("{}: module {} is not in the table", source.path, source.module));
            continue;
        };
        let head = if source.module == "main" { "rateway::" } else { "crate::" };
        for path in crate_paths(&source.code, head) {
            let to = path[0].as_str();
            // Names that are no module are items of lib.rs itself, such as a macro.
            if to == source.module || !table.contains_key(to) {
                continue;
            }
            if !allowed.contains(&to) {
                faults.push(format!("{} names crate::{}", source.path, path.join("::")));
            }
            let seen = path.get(1).map(String::as_str);
            if source.module == "sim"
                && to == "gateway"
                && !seen.is_some_and(|name| SIM_MAY_SEE_OF_GATEWAY.contains(&name))
            {
                faults.push(format!("{} names crate::{}", source.path, path.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    fn visit(at: &str, table: &BTreeMap<&str, &[&str]>, trail: &mut Vec<String>) {
        assert!(!trail.iter().any(|seen| seen == at), "{} -> {at}", trail.join(" -> "));
        trail.push(at.to_owned());
        table[at].iter().for_each(|to| visit(to, table, trail));
        trail.pop();
    }
    table.keys().for_each(|module| visit(module, &table, &mut Vec::new()));
}

#[test]
fn the_clock_is_read_in_its_place() {
    for source in sources() {
        if CLOCKS.contains(&source.path.as_str()) {
            continue;
        }
        // Tests may take a starting point from the real clock; they stand at the foot of a file or in tests.rs.
        let code = without_tests(&source.code);
        let in_tests = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
        assert!(in_tests || !code.contains("Instant::now"), "{} reads the clock", source.path);
    }
}

#[test]
fn unsafe_code_is_in_few_files() {
    let has =
        |code: &str| code.split(|c: char| c != '_' && !c.is_alphanumeric()).any(|word| word == "unsafe");
    let found: Vec<_> =
        sources().into_iter().filter(|source| has(&source.code)).map(|source| source.path).collect();
    let known: Vec<_> = UNSAFE.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, known, "each needs something that runs over it");
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = without_tests(&source.text);
        let lines = code.lines().count();
        let in_tests = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
        let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > LINES_MAX && !in_tests && !listed {
            faults.push(format!("{} has {lines} lines", source.path));
        }
    }
    assert!(
        faults.is_empty(),
        "split these or list them in LONG_FILES with a reason:\n{}",
        faults.join("\n")
    );
}

#[test]
fn long_files_are_still_long() {
    for (path, reason) in LONG_FILES {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let lines = without_tests(&text).lines().count();
        assert!(lines > LINES_MAX && !reason.is_empty(), "{path} need not be listed");
    }
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "contrib"] {
        for extension in ["rs", "sh", "py", "toml"] {
            let folder = root().join(folder);
            if folder.is_dir() {
                files_under(&folder, extension, &mut paths);
            }
        }
    }
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Makefile", "Cargo.toml", ".ci/run"] {
        paths.push(root().join(name));
    }
    // Put together here, so that this file passes its own test.
    let places = [["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"], ["/tm", "p/wt"]]
        .map(|p| p.concat());
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for place in &places {
            assert!(!text.contains(place.as_str()), "{} names {place}", path.display());
        }
    }
}

#[test]
fn the_reader_of_paths_reads_paths() {
    let paths = |code: &str| -> Vec<String> {
        crate_paths(&code_of(code), "crate::").iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(paths("use crate::base::Buf;"), ["base::Buf"]);
    assert_eq!(
        paths("use crate::{base::{Buf, Rng as R}, amqp, gateway::opcode::*};"),
        ["base::Buf", "base::Rng", "amqp", "gateway::opcode"]
    );
    assert_eq!(paths("let x = crate::amqp::frame(1); // crate::stream\n\"crate::queue\""), ["amqp::frame"]);
    assert_eq!(paths("r#\"crate::a \" crate::b\"# '\"' crate::base::x"), ["base::x"]);
    assert!(paths("mycrate::base::x").is_empty());
}
