//! Workers' full lives, with the libraries that workers are written with. `contrib/install.sh clients-amqp` installs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::service::Service;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn script(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/broker_service/clients").join(name)
}

fn installed(path: &str) -> PathBuf {
    let path = Path::new(ROOT).join("target/clients").join(path);
    assert!(path.exists(), "{} is missing: run contrib/install.sh clients-amqp", path.display());
    path
}

/// Runs a client to its end, which it has reached when it says so.
fn lives(mut command: Command) {
    let Output { status, stdout, stderr } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run contrib/install.sh clients-amqp"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.trim() == "lived", "{command:?}: {status}\n{stdout}\n{stderr}");
}

/// A client's life on a broker of its own, which holds nothing afterwards.
fn life(mut command: Command, variables: &[(&str, &str)]) {
    let mut service = Service::start(variables);
    command.arg(service.uri());
    lives(command);
    service.assert_serves();
    assert_eq!(service.process.stop(), 0);
    service.process.wait_line("stopped; 0 messages");
}

fn program(path: impl AsRef<Path>, script: Option<PathBuf>) -> Command {
    let mut command = Command::new(path.as_ref());
    command.args(script);
    command
}

#[test]
fn pika() {
    life(program("/usr/bin/python3", Some(script("life_pika.py"))), &[]);
}

#[test]
fn aio_pika() {
    life(program(installed("python/bin/python"), Some(script("life_aio_pika.py"))), &[]);
}

#[test]
fn amqplib() {
    let modules = installed("node/node_modules");
    let mut command = program("node", Some(script("life_amqplib.js")));
    command.env("NODE_PATH", modules);
    life(command, &[]);
}

#[test]
fn lapin() {
    life(program(installed("lapin/debug/life-lapin"), None), &[]);
}

#[test]
fn a_publisher_is_blocked_and_goes_on() {
    life(program("/usr/bin/python3", Some(script("blocked.py"))), &[("BROKER_MEMORY", "4MiB")]);
}

#[test]
fn all_of_them_at_a_time() {
    let service = Service::start(&[]);
    let uri = service.uri();
    let modules = installed("node/node_modules");
    std::thread::scope(|scope| {
        let run = |mut command: Command| {
            command.arg(&uri);
            scope.spawn(move || lives(command))
        };
        run(program("/usr/bin/python3", Some(script("life_pika.py"))));
        run(program(installed("python/bin/python"), Some(script("life_aio_pika.py"))));
        run(program(installed("lapin/debug/life-lapin"), None));
        let mut node = program("node", Some(script("life_amqplib.js")));
        node.env("NODE_PATH", modules);
        run(node);
    });
    service.assert_serves();
}
