//! The one name that means this machine wherever it is asked for.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses of `localhost`; `None` for every other name.
///
/// RFC 6761 6.3 wants it known without being asked for. In an empty root there is no /etc/hosts to say it, and musl's resolver
/// then asks a DNS server of this machine for five seconds, in vain.
pub fn addresses(host: &str, port: u16) -> Option<[SocketAddr; 2]> {
    let name = host.strip_suffix('.').unwrap_or(host);
    // IPv4 first: that is what programs listen on that listen on one of them.
    name.eq_ignore_ascii_case("localhost")
        .then(|| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_alone() {
        for host in ["localhost", "LocalHost", "localhost."] {
            let found = addresses(host, 7).expect("it is this machine");
            assert_eq!(found.map(|address| address.to_string()), ["127.0.0.1:7", "[::1]:7"]);
        }
        for host in ["", ".", "localhost..", "localhost.example", "127.0.0.1", "discord.com"] {
            assert_eq!(addresses(host, 7), None, "{host:?}");
        }
    }
}
