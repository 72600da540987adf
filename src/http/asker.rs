//! Asks for `/gateway/bot` again while rateway runs, on a thread of its own, as the client blocks.
//!
//! One question at a time: who asks while one is under way is served by its answer. An answer may take hours, as
//! the client waits out Discord's limits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::client::{self, Error, Options};
use super::gateway_bot::GatewayBot;
use crate::base::Rng;

/// How often a thread without a question looks at the stop flag. Longer than the client's 50 ms: nobody waits for it.
const STOP_POLL: Duration = Duration::from_millis(200);

/// A thread that calls [`client::fetch_gateway_bot`] when asked. It ends when this is dropped or the stop flag is
/// raised; nobody waits for its end.
#[derive(Debug)]
pub struct Asker {
    questions: Sender<()>,
    under_way: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

impl Asker {
    /// Starts the thread, which gives each answer to `reply`. `seed` is for the jitter of the waits. A question
    /// under way when `stop` is raised or the asker is dropped is answered with [`Error::Stopped`].
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start(
        options: Options,
        seed: u64,
        stop: Arc<AtomicBool>,
        reply: impl FnMut(Result<GatewayBot, Error>) + Send + 'static,
    ) -> io::Result<Asker> {
        let (questions, receiver) = mpsc::channel();
        let under_way = Arc::new(AtomicBool::new(false));
        let dropped = Arc::new(AtomicBool::new(false));
        let (shared, gone) = (under_way.clone(), dropped.clone());
        // Ordering: the flags guard no other data; questions and answers travel through channels.
        let stopped = move || stop.load(Ordering::Relaxed) || gone.load(Ordering::Relaxed);
        thread::Builder::new()
            .name("gateway-bot".into())
            .spawn(move || serve(&options, seed, &receiver, &shared, &stopped, reply))?;
        Ok(Asker { questions, under_way, dropped })
    }

    /// Asks, unless a question is under way. Returns at once.
    pub fn ask(&self) {
        if !self.under_way.swap(true, Ordering::Relaxed) {
            // Fails where the thread has ended, and then there is nothing left to ask for.
            let _ = self.questions.send(());
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

fn serve(
    options: &Options,
    seed: u64,
    questions: &Receiver<()>,
    under_way: &AtomicBool,
    stopped: &dyn Fn() -> bool,
    mut reply: impl FnMut(Result<GatewayBot, Error>),
) {
    // Each question draws its own jitter.
    let mut rng = Rng::new(seed);
    loop {
        match questions.recv_timeout(STOP_POLL) {
            Ok(()) => {
                let answer = client::fetch_until(options, rng.next_u64(), stopped);
                // Before the reply, so that who is told may ask again at once.
                under_way.store(false, Ordering::Relaxed);
                reply(answer);
            }
            Err(RecvTimeoutError::Timeout) if !stopped() => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use crate::base::Secret;

    const LONG: Duration = Duration::from_secs(30);
    const GOOD: &str = r#"{"url":"wss://gateway.discord.gg","shards":9,"session_start_limit":{"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":1}}"#;

    fn listen() -> (TcpListener, Options) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api_url = format!("http://{}", listener.local_addr().unwrap());
        (listener, Options { api_url, token: Secret::new("abc.def"), ca_pem: None })
    }

    /// The next request's socket, its head read.
    fn accept(listener: &TcpListener) -> TcpStream {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut asked, mut byte) = (Vec::new(), [0]);
        while !asked.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        assert!(asked.starts_with(b"GET /gateway/bot HTTP/1.1\r\n"));
        socket
    }

    fn answer(mut socket: TcpStream, status: &str, body: &str) {
        write!(socket, "HTTP/1.1 {status}\r\nVia: 1.1 g\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
    }

    /// An asker, and its answers. The channel closes when the thread has ended, as the thread owns its other end.
    fn start(options: Options, stop: &Arc<AtomicBool>) -> (Asker, Receiver<Result<GatewayBot, Error>>) {
        let (sender, answers) = mpsc::channel();
        // A test that has seen enough may be gone.
        let reply = move |answer| drop(sender.send(answer));
        (Asker::start(options, 7, stop.clone(), reply).unwrap(), answers)
    }

    fn has_ended(answers: &Receiver<Result<GatewayBot, Error>>) -> bool {
        matches!(answers.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected))
    }

    #[test]
    fn asks_each_time_and_once_at_a_time() {
        let (listener, options) = listen();
        let (asker, answers) = start(options, &Arc::default());
        asker.ask();
        let socket = accept(&listener);
        // Both are dropped: the first question is under way.
        asker.ask();
        asker.ask();
        answer(socket, "200 OK", GOOD);
        assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap().shards, 9);
        // A refusal for good ends the question, not the thread.
        asker.ask();
        answer(accept(&listener), "401 Unauthorized", "{}");
        assert!(matches!(answers.recv_timeout(LONG).unwrap(), Err(Error::Fatal(_))));
        asker.ask();
        answer(accept(&listener), "200 OK", GOOD);
        assert!(answers.recv_timeout(LONG).unwrap().is_ok());
        // Nothing else was asked: a fourth request would be waiting here.
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(asker);
        assert!(has_ended(&answers));
    }

    #[test]
    fn a_stop_ends_a_wait_and_the_thread() {
        let (listener, options) = listen();
        let stop = Arc::new(AtomicBool::new(false));
        let (asker, answers) = start(options, &stop);
        asker.ask();
        answer(accept(&listener), "429 Too Many Requests", r#"{"retry_after":86400}"#);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(answers.recv_timeout(LONG).unwrap(), Err(Error::Stopped));
        assert!(has_ended(&answers));
        // Asking a thread that has ended is harmless.
        asker.ask();
        asker.ask();
    }

    #[test]
    fn dropping_ends_a_wait_too() {
        let (listener, options) = listen();
        let (asker, answers) = start(options, &Arc::default());
        asker.ask();
        answer(accept(&listener), "429 Too Many Requests", r#"{"retry_after":86400}"#);
        drop(asker);
        assert_eq!(answers.recv_timeout(LONG).unwrap(), Err(Error::Stopped));
        assert!(has_ended(&answers));
    }

    #[test]
    fn a_stop_ends_an_idle_thread() {
        let (_listener, options) = listen();
        let stop = Arc::new(AtomicBool::new(false));
        let (_asker, answers) = start(options, &stop);
        stop.store(true, Ordering::Relaxed);
        assert!(has_ended(&answers));
    }
}
