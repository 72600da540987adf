//! Host names to addresses, on threads of their own, as the system's resolver blocks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock;

/// How long an answer is used again: a thousand shards that reconnect at once ask once.
const ANSWER_LIFETIME: Duration = Duration::from_secs(30);

/// How many names are remembered; all are forgotten when there are more. Discord's hosts are a handful.
const NAMES_MAX: usize = 256;

/// Threads that resolve. Two, so that a broker's dead name server does not keep shards waiting.
const THREADS: usize = 2;

type Reply = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

struct Question {
    host: String,
    port: u16,
    reply: Reply,
}

type Answers = Arc<Mutex<HashMap<(String, u16), (Instant, Vec<SocketAddr>)>>>;

/// Asks the system for addresses and calls back. One question per connecting socket is under way at most.
#[derive(Clone)]
pub struct Resolver {
    questions: Sender<Question>,
}

impl Resolver {
    /// Starts the threads. They end when the last clone is dropped.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start() -> io::Result<Resolver> {
        let (questions, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let answers = Answers::default();
        for _ in 0..THREADS {
            let (receiver, answers) = (receiver.clone(), answers.clone());
            thread::Builder::new().name("resolve".into()).spawn(move || serve(&receiver, &answers))?;
        }
        Ok(Resolver { questions })
    }

    /// Finds the addresses of `host` and gives them to `reply`, on another thread unless `host` is an address.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        reply: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) {
        if let Ok(address) = host.parse::<IpAddr>() {
            return reply(Ok(vec![SocketAddr::new(address, port)]));
        }
        let question = Question { host: host.to_owned(), port, reply: Box::new(reply) };
        if let Err(mpsc::SendError(question)) = self.questions.send(question) {
            (question.reply)(Err(io::Error::other("the resolver threads have ended")));
        }
    }
}

fn serve(questions: &Mutex<Receiver<Question>>, answers: &Answers) {
    loop {
        // The guard is dropped at the end of this statement, so that the other thread can wait meanwhile.
        let question = questions.lock().recv();
        let Ok(Question { host, port, reply }) = question else { return };
        let key = (host, port);
        let now = clock::read().now;
        let known =
            answers.lock().get(&key).filter(|(at, _)| now.duration_since(*at) < ANSWER_LIFETIME).cloned();
        if let Some((_, addresses)) = known {
            reply(Ok(addresses));
            continue;
        }
        let found = (key.0.as_str(), key.1).to_socket_addrs().map(Vec::from_iter);
        if let Ok(addresses) = &found {
            let mut answers = answers.lock();
            if answers.len() >= NAMES_MAX {
                answers.clear();
            }
            answers.insert(key, (now, addresses.clone()));
        }
        reply(found);
    }
}
