//! Host names to addresses, on a thread of its own, as the system's resolver blocks.
//!
//! A thousand shards that reconnect at once ask one question: who asks for a name that is being looked up waits for
//! the same answer, and answers are used again for a while, failures for a moment.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock;
use crate::base::loopback;

/// How long an answer is used again.
const ANSWER_LIFETIME: Duration = Duration::from_secs(30);

/// How long a failure is.
const FAILURE_LIFETIME: Duration = Duration::from_secs(2);

/// How many names are remembered; all are forgotten when there are more. Discord's hosts are a handful.
const NAMES_MAX: usize = 256;

type Name = (String, u16);
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;
type Reply = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

#[derive(Default)]
struct Names {
    answers: HashMap<Name, (Instant, Found)>,
    /// Who waits for the answer of a question under way. One entry per connecting socket at most.
    waiting: HashMap<Name, Vec<Reply>>,
}

/// Asks the system for addresses and calls back.
#[derive(Clone)]
pub struct Resolver {
    names: Arc<Mutex<Names>>,
    questions: Sender<Name>,
}

impl Resolver {
    /// Starts the thread. It ends when the last clone is dropped.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start() -> io::Result<Resolver> {
        let (questions, receiver) = mpsc::channel();
        let names = Arc::new(Mutex::new(Names::default()));
        let shared = names.clone();
        thread::Builder::new().name("resolve".into()).spawn(move || serve(&receiver, &shared))?;
        Ok(Resolver { names, questions })
    }

    /// Finds the addresses of `host` and gives them to `reply`: at once where they are known, else on the
    /// resolver's thread.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        reply: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) {
        if let Ok(address) = host.parse::<IpAddr>() {
            return reply(Ok(vec![SocketAddr::new(address, port)]));
        }
        if let Some(addresses) = loopback::addresses(host, port) {
            return reply(Ok(addresses.to_vec()));
        }
        let name = (host.to_owned(), port);
        let now = clock::read().now;
        let mut names = self.names.lock();
        if let Some((at, found)) = names.answers.get(&name) {
            let lifetime = if found.is_ok() { ANSWER_LIFETIME } else { FAILURE_LIFETIME };
            if now.duration_since(*at) < lifetime {
                let found = found.clone();
                drop(names);
                return reply(told(found));
            }
        }
        let waiting = names.waiting.entry(name.clone()).or_default();
        waiting.push(Box::new(reply));
        if waiting.len() == 1 {
            // The thread lives as long as this sender does.
            let _ = self.questions.send(name);
        }
    }
}

fn told(found: Found) -> io::Result<Vec<SocketAddr>> {
    found.map_err(|(kind, text)| io::Error::new(kind, text))
}

fn serve(questions: &Receiver<Name>, names: &Mutex<Names>) {
    while let Ok(name) = questions.recv() {
        let found: Found = (name.0.as_str(), name.1)
            .to_socket_addrs()
            .map(Vec::from_iter)
            .map_err(|error| (error.kind(), error.to_string()));
        let now = clock::read().now;
        let replies = {
            let mut names = names.lock();
            if names.answers.len() >= NAMES_MAX {
                names.answers.clear();
            }
            names.answers.insert(name.clone(), (now, found.clone()));
            names.waiting.remove(&name).unwrap_or_default()
        };
        for reply in replies {
            reply(told(found.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_this_machine_are_answered_at_once() {
        let resolver = Resolver::start().expect("a thread");
        let (sender, answers) = mpsc::channel();
        for host in ["127.0.0.1", "::1", "localhost"] {
            let sender = sender.clone();
            resolver.resolve(host, 7, move |found| sender.send(found).expect("the test listens"));
        }
        for _ in 0..3 {
            let found = answers.try_recv().expect("an answer").expect("addresses");
            assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        }
        assert!(resolver.names.lock().answers.is_empty());
    }

    #[test]
    fn a_name_is_asked_for_once_and_without_addresses_it_is_an_error() {
        let resolver = Resolver::start().expect("a thread");
        let (sender, answers) = mpsc::channel();
        for _ in 0..3 {
            let sender = sender.clone();
            let reply = move |found| sender.send(found).expect("the test listens");
            resolver.resolve("no such name.invalid", 7, reply);
        }
        for _ in 0..3 {
            assert!(answers.recv_timeout(Duration::from_secs(60)).expect("an answer").is_err());
        }
        assert!(resolver.names.lock().waiting.is_empty());
        assert_eq!(resolver.names.lock().answers.len(), 1);
    }
}
