//! The page as a browser renders it: Chromium without a screen, light and dark, wide and as narrow as a phone.
//!
//! The pictures stay in `target/tmp/status-*.png` for people to look at.

#![allow(clippy::disallowed_methods, reason = "these tests wait, in real time")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::status::{address, get};
use crate::support::{Forward, Setup, dead_port, let_pass, wait_until};

/// Debian's name, or another one in `RATEWAY_TEST_BROWSER`.
fn browser() -> String {
    std::env::var("RATEWAY_TEST_BROWSER").unwrap_or_else(|_| "chromium".to_owned())
}

/// Runs the browser with a profile of its own and says what it prints.
fn run(label: &str, arguments: &[&str]) -> String {
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{label}"));
    let _ = std::fs::remove_dir_all(&profile);
    let out = profile.with_extension("out");
    let file = std::fs::File::create(&out).expect("a file");
    let mut child = Command::new(browser())
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; contrib/install.sh browser installs it", browser()));
    wait(&mut child);
    let _ = std::fs::remove_dir_all(&profile);
    let text = std::fs::read_to_string(&out).expect("what it printed");
    let _ = std::fs::remove_file(&out);
    text
}

fn wait(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().expect("our own child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the browser does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn picture(label: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("status-{label}.png"))
}

#[test]
fn the_page_in_a_browser() {
    let port = dead_port();
    let prepared = Setup::new("page", 12, 6).prepare();
    let forward = Forward::start(port, &prepared.vhost.address());
    let uri = prepared.vhost.uri_at(port);
    let stage = prepared.env("AMQP_URI", &uri).start();
    let address = address(&stage.gateway);
    stage.wait_up();
    stage.set_rate(400.0);
    forward.leave();
    stage.gateway.wait_line("trying again in");
    forward.come_back();
    wait_until("readiness", || get(&address, "/readyz").0 == 200);
    // Something to draw.
    let_pass(6.0);

    // The page stands still after so many updates; the browser's own time runs on only then.
    let page = format!("http://{address}/?updates=3");
    assert_rendered(&run("dom", &["--virtual-time-budget=3000", "--dump-dom", &page]));
    for (label, size, dark) in
        [("light", "1280,1250", false), ("dark", "1280,1250", true), ("phone", "412,2600", false)]
    {
        let file = picture(label);
        let _ = std::fs::remove_file(&file);
        let (shot, size) = (format!("--screenshot={}", file.display()), format!("--window-size={size}"));
        let mut arguments = vec!["--virtual-time-budget=3000", &shot, &size];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        arguments.push(&page);
        run(label, &arguments);
        let bytes = std::fs::read(&file).expect("a picture");
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000, "{label}: {} bytes", bytes.len());
    }
    assert_ne!(std::fs::read(picture("light")).ok(), std::fs::read(picture("dark")).ok());
    stage.judge();
}

/// Figures, and not just places for them.
fn assert_rendered(dom: &str) {
    let text_of = |id: &str| {
        let (_, rest) = dom.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {dom}"));
        let (_, rest) = rest.split_once('>').expect("a tag's end");
        rest.split('<').next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(text_of("verdict"), "ready");
    assert_eq!(text_of("shards-title"), "Shards: 12 of 12 up");
    assert_eq!(dom.matches("class=\"cell good\"").count(), 12, "cells of shards");
    assert!(dom.contains("aria-label=\"shard 11: active\""), "labels of cells");
    let rate: f64 = text_of("rate").replace(',', "").parse().expect("a rate");
    assert!(rate > 50.0, "{rate} events per second");
    assert!(dom.contains("class=\"line\" d=\"M"), "a line of rates");
    assert!(dom.matches("class=\"kind\"").count() >= 5, "kinds of the cache");
    assert!(dom.contains("broker lost"), "the incident");
    assert!(dom.matches(">publishing<").count() == 2, "brokers");
    assert!(text_of("starts").contains(" / "), "session starts");
}
