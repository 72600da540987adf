//! Against small servers, each of which follows a script: one act per connection.

use super::*;
use crate::queue::wait;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::task::Wake;

const OURS: &str = r#"{"message": "You're free to connect now! :)"}"#;

type Act = Box<dyn FnOnce(TcpStream) + Send>;

fn act(act: impl FnOnce(TcpStream) + Send + 'static) -> Act {
    Box::new(act)
}

/// Answers with these bytes and closes.
fn says(bytes: impl Into<Vec<u8>>) -> Act {
    let bytes = bytes.into();
    act(move |mut stream| {
        let _ = stream.write_all(&bytes);
    })
}

fn permit() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{OURS}", OURS.len())
}

/// Serves one connection per act, after it has read the request, which it passes on.
fn serve(listener: TcpListener, script: Vec<Act>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for act in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => request.push(byte[0]),
                    _ => break,
                }
            }
            let _ = sender.send(String::from_utf8(request).unwrap());
            act(stream);
        }
    });
    receiver
}

/// A server and a queue that asks it again within milliseconds.
fn stage(script: Vec<Act>) -> (RemoteQueue, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (queue(port).build().unwrap(), serve(listener, script))
}

fn queue(port: u16) -> RemoteQueueBuilder {
    let times = Times { wait: Duration::from_millis(1), wait_max: Duration::from_millis(4), ..TIMES };
    RemoteQueueBuilder { times, ..RemoteQueue::builder(&format!("http://127.0.0.1:{port}/")) }
}

struct Bell(Mutex<mpsc::Sender<()>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

fn bell() -> (Waker, Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    (Arc::new(Bell(Mutex::new(sender))).into(), receiver)
}

/// Until the threads of all requests have ended.
fn until_alone(queue: &RemoteQueue) {
    for _ in 0..60_000 {
        if Arc::strong_count(&queue.shared) == 1 {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("a thread did not end within a minute");
}

#[test]
fn a_permit_is_a_permit() {
    let (queue, requests) = stage(vec![says(permit())]);
    wait(&queue, [5, 16]);
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /?shard=5 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
    until_alone(&queue);
}

#[test]
fn nothing_else_resolves() {
    let pieces = act(|mut stream| {
        for byte in permit().bytes() {
            // The permit is taken before the last of them.
            let _ = stream.write_all(&[byte]);
        }
    });
    let reset = act(|stream| SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap());
    let script = vec![
        says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        says("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
        says("HTTP/1.1 502 Bad Gateway\r\n\r\nYou're free to connect"),
        says("\x16\x03\x01 hello"),
        says(""),
        says("HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n{\"message\": \"You're fr"),
        reset,
        pieces,
    ];
    let failures = script.len() - 1;
    let (queue, requests) = stage(script);
    wait(&queue, [0, 1]);
    assert_eq!(requests.iter().count(), failures + 1, "only the last one was a permit");
    assert_eq!(queue.shared.complaints.lock().unwrap().left_out, failures as u64 - 1, "one line is enough");
}

#[test]
fn chunks_and_interim_answers_are_read() {
    let body = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{OURS}\r\n0\r\n\r\n",
        OURS.len()
    );
    let (queue, requests) = stage(vec![says(body), says(format!("HTTP/1.0 200 OK\r\n\r\n{OURS}"))]);
    wait(&queue, [0, 2]);
    wait(&queue, [1, 2]);
    assert_eq!(requests.iter().count(), 2);
}

#[test]
fn a_service_may_come_later() {
    // Bound and not listening: refused, and nobody else can have the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let builder = queue(port).max_concurrency(16).token_hash("abc");
    // By name, so that it is resolved too.
    let url = format!("http://localhost:{port}/{{token_hash}}?of={{shard_count}}");
    let queue = RemoteQueueBuilder { url, ..builder }.build().unwrap();
    let (waker, woken) = bell();
    let mut turn = queue.request([3, 64]);
    let mut poll = || turn.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    while queue.shared.complaints.lock().unwrap().left_out < 3 {
        thread::yield_now();
    }
    socket.listen(8).unwrap();
    let requests = serve(socket.into(), vec![says(permit())]);
    woken.recv().unwrap();
    assert!(poll().is_ready());
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /abc?of=64&shard=3&max_concurrency=16 HTTP/1.1\r\n"), "{request}");
}

#[test]
fn a_dropped_future_closes_its_connection() {
    let (sender, closed) = mpsc::channel();
    let holds = act(move |mut stream| {
        let _ = sender.send(stream.read(&mut [0]).map_err(|error| error.kind()));
    });
    let (queue, requests) = stage(vec![holds]);
    let mut turn = queue.request([0, 1]);
    assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    requests.recv().unwrap();
    // It waits in the line now.
    drop(turn);
    assert_eq!(closed.recv().unwrap(), Ok(0));
    until_alone(&queue);
}

#[test]
fn a_dropped_future_ends_its_backoff() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let day = Duration::from_secs(24 * 3600);
    let times = Times { wait: day, wait_max: day, ..TIMES };
    let queue = RemoteQueueBuilder { times, ..queue(port) }.build().unwrap();
    let _requests = serve(listener, vec![says("nonsense\r\n\r\n")]);
    let mut turn = queue.request([0, 1]);
    assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    while queue.shared.complaints.lock().unwrap().last.is_none() {
        thread::yield_now();
    }
    drop(turn);
    until_alone(&queue);
    // One that was never polled has asked nobody.
    drop(queue.request([0, 1]));
    assert_eq!(Arc::strong_count(&queue.shared), 1);
}

#[test]
fn a_permit_that_is_not_taken_in_time_is_asked_for_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let builder = queue(port);
    let times = Times { permit_life: Duration::from_secs(1), ..builder.times };
    let queue = RemoteQueueBuilder { times, ..builder }.build().unwrap();
    let requests = serve(listener, (0..20).map(|_| says(permit())).collect());
    let (waker, woken) = bell();
    let mut turn = queue.request([0, 1]);
    let mut poll = || turn.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    woken.recv().unwrap();
    thread::sleep(times.permit_life);
    assert!(poll().is_pending(), "too late");
    woken.recv().unwrap();
    // In time, unless the machine is very busy.
    while poll().is_pending() {
        woken.recv().unwrap();
    }
    assert!(requests.try_iter().count() >= 2);
}

#[test]
fn many_wait_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let queue = queue(port).build().unwrap();
    let requests = serve(listener, (0..50).map(|_| says(permit())).collect());
    thread::scope(|scope| {
        for id in 0..50 {
            let queue = &queue;
            scope.spawn(move || wait(queue, [id, 50]));
        }
    });
    assert_eq!(requests.iter().count(), 50);
    until_alone(&queue);
}

#[test]
fn settings_are_checked_and_secrets_are_not_printed() {
    assert_eq!(RemoteQueue::new("https://queue/").err(), Some(UrlError::Https));
    assert_eq!(RemoteQueue::new("http://queue/{token_hash}").err(), Some(UrlError::NoValue("token_hash")));
    let builder = RemoteQueue::builder("http://queue/{token_hash}?key=hunter2").token_hash("hunter2");
    assert!(!format!("{builder:?}").contains("hunter2"));
    let queue = builder.build().unwrap();
    assert_eq!(format!("{queue:?}"), "RemoteQueue(http://queue/{token_hash})");
    fn is<T: Queue + Clone + 'static>(_: &T) {}
    is(&queue);
}
