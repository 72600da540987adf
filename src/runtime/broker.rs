//! The broker within the process, for those who set no AMQP_URI: a thread of its own, dialed like any other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::{self, JoinHandle};

use super::Error;
use crate::amqp::Uri;
use crate::base::Secret;
use crate::broker_server::{Options, Server, Stopper};
use crate::config::{BrokerSettings, Config};

/// A broker that runs.
pub(super) struct Embedded {
    uri: Uri,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

/// Starts the broker, if the configuration leaves it to this process.
///
/// # Errors
/// When it cannot listen, or the system refuses a thread.
pub(super) fn start(config: &Config) -> Result<Option<Embedded>, Error> {
    let Some(settings) = &config.broker else { return Ok(None) };
    let server = Server::bind(Options::from(settings)).map_err(Error::Broker)?;
    let (address, stopper) = (server.address(), server.stopper());
    log::info!(
        "AMQP_URI is not set: the broker of this process listens on amqp://{address}; it keeps messages in memory, {} MiB at \
         most",
        settings.memory_bytes >> 20
    );
    if config.clusters.is_some() {
        log::warn!(
            "CLUSTERS names a part of the bot: the workers of the other parts are at other processes' brokers"
        );
    }
    let body = move || {
        if let Err(error) = server.run() {
            log::error!("the broker of this process has ended: {error}");
        }
    };
    let thread = thread::Builder::new().name("broker".into()).spawn(body);
    let thread = thread.map_err(|error| Error::Io("the broker's thread", error))?;
    Ok(Some(Embedded { uri: uri(settings, address), stopper, thread }))
}

/// How many clients the broker of this process may have, if there is one.
pub(super) fn sockets(config: &Config) -> u64 {
    config.broker.as_ref().map_or(0, |settings| Options::from(settings).broker.connections_max as u64)
}

impl Embedded {
    /// How this process gets there.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Tells its clients that it stops, and waits until they know or have had their time.
    pub(super) fn stop(self) {
        self.stopper.stop();
        // What it has to say of its end it has logged.
        let _ = self.thread.join();
    }
}

fn uri(settings: &BrokerSettings, address: SocketAddr) -> Uri {
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    // The settings have one at least.
    let (user, password) =
        settings.users.first().cloned().unwrap_or_else(|| ("guest".to_owned(), Secret::new("guest")));
    Uri {
        tls: false,
        host: host.to_string(),
        port: address.port(),
        user,
        password,
        vhost: "/".to_owned(),
        heartbeat: None,
        connection_timeout: None,
        frame_max: None,
        channel_max: None,
    }
}
