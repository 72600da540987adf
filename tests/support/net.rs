//! Ports, a way round, certificates.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// A port where nobody listens.
pub fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Passes what comes on a port on to another address, until it is told to do worse. Its threads end with the process.
pub struct Forward {
    open: Arc<Mutex<Vec<TcpStream>>>,
    frozen: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
}

impl Forward {
    /// Starts to listen on `port`.
    pub fn start(port: u16, target: &str) -> Forward {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
        let target = target.to_owned();
        let forward = Forward { open: Arc::default(), frozen: Arc::default(), away: Arc::default() };
        let (open, frozen, away) = (forward.open.clone(), forward.frozen.clone(), forward.away.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if away.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let frozen = frozen.clone();
                    std::thread::spawn(move || pass(from, to, &frozen));
                }
                open.lock().extend([client, server]);
            }
        });
        forward
    }

    /// Ends all connections; new ones are taken.
    pub fn cut(&self) {
        for socket in self.open.lock().drain(..) {
            let _ = socket.shutdown(Shutdown::Both); // It may have ended by itself.
        }
    }

    /// Ends all connections, and new ones at once, until [`Forward::come_back`].
    pub fn leave(&self) {
        self.away.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub fn come_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    /// From now on nothing gets through, and nobody is told.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, frozen: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while frozen.load(Ordering::Relaxed) {
            std::thread::park();
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A CA of the test's own and a certificate of it for this machine: (CA, chain, key), all PEM.
pub fn certificate() -> (String, Vec<u8>, Vec<u8>) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "rateway test CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).expect("names");
    let cert = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).expect("a certificate");
    (ca_cert.pem(), cert.pem().into_bytes(), key.serialize_pem().into_bytes())
}
