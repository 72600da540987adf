//! What the world does to its connections: makes them, moves what is on them, breaks them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rateway::gateway::shard::Cause;
use rateway::sim::{self, ConnectionId};

use super::network::{Down, Link, Up};
use super::world::{Key, RESUME_HOST, World};

impl World {
    pub fn open(&mut self, index: usize, url: String) {
        assert!(self.shards[index].link.is_none(), "two links at once");
        let id = self.network.next_id;
        self.network.next_id += 1;
        let latency =
            self.plan.latency + self.rng.duration(Duration::from_micros(500), self.plan.latency_spread);
        let link = Link::new(self.now, index, latency, self.plan.jitter);
        self.network.links.insert(id, link);
        self.shards[index].link = Some(id);
        let mut wait = latency * 3;
        if self.network.slow > 0 {
            self.network.slow -= 1;
            wait = self.rng.duration(Duration::from_secs(1), Duration::from_secs(30));
        }
        self.dials.insert(id, url);
        self.timers.set(Key::Dial(id), Some(self.now + wait));
    }

    pub fn dialed(&mut self, id: ConnectionId) {
        let Some(url) = self.dials.remove(&id) else { return };
        let (base, query) = url.split_once("/?").expect("a query");
        assert!(matches!(base, "wss://gateway.test" | RESUME_HOST), "{base}");
        let now = self.now;
        let off = |until: Option<Instant>| until.is_some_and(|until| until > now);
        let fails = off(self.network.down_until)
            || (base == RESUME_HOST && off(self.network.resume_host_down_until))
            || self.network.failures > 0;
        self.network.failures = self.network.failures.saturating_sub(1);
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let index = link.shard;
        self.shards[index].connected = true;
        if fails {
            link.server_gone = true;
            link.unread.push_back(Down::Ended(Cause::ConnectFailed));
            return self.wake(index);
        }
        link.send_up(now, &mut self.rng, Duration::ZERO, Up::Accept(query.to_owned()));
        self.arm_link(id);
    }

    pub fn send_up(&mut self, index: usize, item: Up) {
        let Some(id) = self.shards[index].link else { return };
        if let Some(link) = self.network.links.get_mut(&id) {
            link.send_up(self.now, &mut self.rng, Duration::ZERO, item);
        }
        self.arm_link(id);
    }

    pub fn arm_link(&mut self, id: ConnectionId) {
        let Some(link) = self.network.links.get(&id) else { return };
        if link.is_over() {
            if link.tainted {
                self.tainted.insert(id);
            }
            self.network.links.remove(&id);
            return self.timers.set(Key::Link(id), None);
        }
        self.timers.set(Key::Link(id), link.next());
    }

    pub fn link_due(&mut self, id: ConnectionId) {
        let now = self.now;
        while let Some(link) = self.network.links.get_mut(&id)
            && let Some((at, _)) = link.up.front()
            && *at <= now
            && let Some((_, item)) = link.up.pop_front()
        {
            match item {
                Up::Accept(query) => {
                    // The answer to the upgrade goes before everything that is said on it.
                    link.send_down(now, &mut self.rng, Down::Opened);
                    self.discord.accept(now, id, &query);
                }
                Up::Text(payload) => self.discord.handle_text(now, id, &payload),
                Up::Close(code) => {
                    self.discord.handle_close(now, id, Some(code));
                    // The peer answers a close frame with its like.
                    link.send_down(now, &mut self.rng, Down::Closed(Some(code)));
                    link.server_gone = true;
                }
                Up::End => {
                    self.discord.handle_close(now, id, None);
                    link.server_gone = true;
                }
            }
            self.discord_acted();
        }
        if let Some(link) = self.network.links.get_mut(&id) {
            let mut arrived = false;
            if link.unread_bytes > self.plan.unread_bytes_max && !link.server_gone {
                // Too slow a reader: Discord's side gives up.
                link.server_gone = true;
                link.break_down(Cause::Ended);
                arrived = true;
                self.trace(|| format!("link {id}: too much unread"));
                self.discord.handle_close(now, id, None);
                self.discord_acted();
            }
            let Some(link) = self.network.links.get_mut(&id) else { return };
            while let Some((at, _)) = link.down.front()
                && *at <= now
                && let Some((_, item)) = link.down.pop_front()
            {
                link.arrive(item);
                arrived = true;
            }
            let (index, breaks) = (link.shard, link.breaks_at.is_some_and(|at| at <= now));
            if arrived && !link.client_gone {
                self.wake(index);
            }
            if breaks {
                self.reset_link(id);
            }
        }
        self.arm_link(id);
    }

    /// Takes what the stand-in does to its connections.
    pub fn discord_acted(&mut self) {
        let now = self.now;
        while let Some(output) = self.discord.poll_output() {
            let (id, item) = match output {
                sim::Output::Text { connection, payload } => (connection, Down::Text(payload)),
                sim::Output::Close { connection, code } => {
                    (connection, code.map_or(Down::Ended(Cause::Ended), |code| Down::Closed(Some(code))))
                }
                sim::Output::Recorded { .. } => unreachable!("nothing is recorded"),
            };
            let Some(link) = self.network.links.get_mut(&id) else { continue };
            link.server_gone |= !matches!(item, Down::Text(_));
            link.send_down(now, &mut self.rng, item);
            self.arm_link(id);
        }
        self.timers.set(Key::Discord, self.discord.poll_timeout());
        self.judge_violations();
    }

    /// The connection breaks; the stand-in learns of it now or later.
    pub fn reset_link(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(link) = self.network.links.get_mut(&id) else { return };
        link.breaks_at = None;
        if link.server_gone && link.client_gone {
            return self.arm_link(id);
        }
        link.break_down(Cause::Io(ErrorKind::ConnectionReset));
        link.up.clear();
        link.up_lost = false;
        let late = if self.rng.chance(1, 2) {
            Duration::ZERO
        } else {
            self.rng.duration(Duration::ZERO, Duration::from_secs(40))
        };
        link.send_up(now, &mut self.rng, late, Up::End);
        link.up_lost = true;
        self.tainted.insert(id);
        let index = link.shard;
        self.wake(index);
        self.arm_link(id);
    }
}
