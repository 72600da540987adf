//! Who makes the trouble: the network, Discord, the brokers and the workers, each at random times.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rateway::gateway::envelope;
use rateway::gateway::shard::Input;
use rateway::sim::{ConnectionId, Fault};

use super::plan::{BrokerFault, DiscordFault, DiskFault, NetworkFault, Plan, ProcessFault};
use super::world::{Key, World};

/// Payloads that are refused, or mean nothing, wherever they arrive. Those of the corpus that pass for an event are
/// left out: their made-up `s` would be Discord's lie about its own count.
static BAD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/bad");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let read = |path| std::fs::read(path).expect("a readable file");
    files.iter().map(read).filter(|bytes| envelope::scan(bytes).map_or(true, |e| e.op != 0)).collect()
});

/// READYs without what is needed of them.
const BAD_READIES: [&str; 3] = [
    r#"{"t":"READY","s":1,"op":0,"d":[]}"#,
    r#"{"t":"READY","s":1,"op":0,"d":{"session_id":"x"}}"#,
    r#"{"t":"READY","s":1,"op":0,"d":{"session_id":null,"resume_gateway_url":"wss://x"}}"#,
];

const PRESENCE: &str = r#"{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}"#;
const VOICE: &str =
    r#"{"op":4,"d":{"guild_id":"759134000000000000","channel_id":null,"self_mute":false,"self_deaf":true}}"#;
const MEMBERS: &str = r#"{"op":8,"d":{"guild_id":"759134000000000000","query":"a","limit":3}}"#;
const REFUSED: [&str; 5] =
    [r#"{"op":2,"d":{}}"#, r#"{"op":4,"d":null}"#, "[8,{}]", r#"{"op":1,"d":7}"#, "{\"op\":8"];

impl World {
    pub fn begin_trouble(&mut self) {
        let Plan { network, discord, brokers, process, disk, .. } = &self.plan;
        let quiet = network.is_empty() && discord.is_empty() && brokers.is_empty() && process.is_empty();
        if !(quiet && disk.is_empty()) {
            self.next_trouble();
        }
        if self.plan.commands {
            self.timers.set(Key::Worker, Some(self.now + Duration::from_secs(3)));
        }
    }

    /// Nobody makes trouble any more; what is broken stays so until somebody finds out.
    pub fn calm_down(&mut self) {
        self.trace(|| "the trouble is over".to_owned());
        self.calm = true;
        self.timers.set(Key::Chaos, None);
        self.timers.set(Key::Worker, None);
        self.network.down_until = None;
        self.network.resume_host_down_until = None;
        (self.network.failures, self.network.slow) = (0, 0);
        (self.kill_in, self.plan.dies_at_start) = (None, false);
        for index in 0..self.clusters.len() {
            let cluster = &mut self.clusters[index];
            (cluster.dead_until, cluster.deaf_until, cluster.silent_until) = (None, None, None);
            if let Some(disk) = &cluster.disk {
                disk.heal();
                disk.with(|disk| disk.calls_left = None);
            }
            self.arm_cluster(index);
        }
        self.discord.set_rate(self.now, 0.0);
        self.discord_acted();
    }

    fn soon(&mut self, most_s: u64) -> Duration {
        self.rng.duration(Duration::from_millis(1), Duration::from_secs(most_s))
    }

    fn next_trouble(&mut self) {
        let unit = 1.0 - self.rng.unit();
        let wait = self.plan.fault_gap.mul_f64((-unit.ln()).min(10.0));
        self.timers.set(Key::Chaos, Some(self.now + wait));
    }

    pub fn make_trouble(&mut self) {
        let Plan { network, discord, brokers, process, disk, .. } = &self.plan;
        let (n, d, b) = (network.len(), discord.len(), brokers.len());
        let (p, all) = (process.len(), n + d + b + process.len() + disk.len());
        let pick = self.rng.below(all as u64) as usize;
        if pick < n {
            self.network_fault(self.plan.network[pick]);
        } else if pick < n + d {
            self.discord_fault(self.plan.discord[pick - n]);
        } else if pick < n + d + b {
            self.broker_fault(self.plan.brokers[pick - n - d]);
        } else if pick < n + d + b + p {
            self.process_fault(self.plan.process[pick - n - d - b]);
        } else {
            self.disk_fault(self.plan.disk[pick - n - d - b - p]);
        }
        self.next_trouble();
    }

    fn any_shard(&mut self) -> usize {
        self.rng.below(self.shards.len() as u64) as usize
    }

    fn any_link(&mut self) -> Option<ConnectionId> {
        let index = self.any_shard();
        self.shards[index].link.filter(|id| self.network.links.contains_key(id))
    }

    fn network_fault(&mut self, fault: NetworkFault) {
        let now = self.now;
        let link = self.any_link();
        self.trace(|| format!("network: {fault:?} {link:?}"));
        match (fault, link) {
            (NetworkFault::Reset, Some(id)) => self.reset_link(id),
            (NetworkFault::HalfOpen, Some(id)) => {
                self.taint(id);
                let (both, breaks, wait) = (self.rng.chance(1, 2), self.rng.chance(2, 3), self.soon(120));
                let down = self.rng.chance(1, 2);
                if let Some(link) = self.network.links.get_mut(&id) {
                    link.tainted = true;
                    if both || down {
                        link.lose_down();
                    }
                    if both || !down {
                        link.up_lost = true;
                        link.up.clear();
                    }
                    link.breaks_at = breaks.then_some(now + wait);
                }
                self.arm_link(id);
            }
            (NetworkFault::Stall, Some(id)) => {
                let wait = self.soon(25);
                self.taint(id);
                if let Some(link) = self.network.links.get_mut(&id) {
                    link.stall(now, wait);
                }
                self.arm_link(id);
            }
            (NetworkFault::ConnectFailures, _) => self.network.failures += 1 + self.rng.below(6) as u32,
            (NetworkFault::SlowConnects, _) => self.network.slow += 1 + self.rng.below(3) as u32,
            (NetworkFault::ResumeHostDown, _) => {
                self.network.resume_host_down_until = Some(now + self.soon(60));
            }
            (NetworkFault::Outage, _) => {
                self.network.down_until = Some(now + self.soon(90));
                let ids: Vec<ConnectionId> = self.network.links.keys().copied().collect();
                for id in ids {
                    self.reset_link(id);
                }
            }
            (NetworkFault::Reset | NetworkFault::HalfOpen | NetworkFault::Stall, None) => {}
        }
    }

    fn discord_fault(&mut self, fault: DiscordFault) {
        let index = self.any_shard();
        let shard = index as u32;
        self.trace(|| format!("discord: {fault:?} shard {shard}"));
        let connection = self.discord.connection_of(shard);
        let injected = match fault {
            DiscordFault::Op7 => Fault::Op7 { shard },
            DiscordFault::Op9Resumable => {
                self.unseat_all(connection);
                Fault::Op9 { shard, resumable: true }
            }
            DiscordFault::Op9Final => {
                self.unseat_all(connection);
                Fault::Op9 { shard, resumable: false }
            }
            DiscordFault::Close => {
                const CODES: [u16; 13] =
                    [1000, 1001, 1006, 4000, 4001, 4002, 4003, 4005, 4006, 4007, 4008, 4009, 4999];
                Fault::Close { shard, code: CODES[self.rng.below(CODES.len() as u64) as usize] }
            }
            DiscordFault::Drop => Fault::Drop { shard },
            DiscordFault::StopAcks => Fault::StopAcks { shard },
            DiscordFault::StopSending => {
                self.taint_all(connection);
                Fault::StopSending { shard }
            }
            DiscordFault::StopReading => {
                self.taint_all(connection);
                Fault::StopReading { shard }
            }
            DiscordFault::HeartbeatRequests => {
                for _ in 0..self.rng.below(30) {
                    self.discord.inject(self.now, Fault::HeartbeatRequest { shard });
                }
                Fault::HeartbeatRequest { shard }
            }
            DiscordFault::BadPayload => {
                let bytes = BAD[self.rng.below(BAD.len() as u64) as usize].clone();
                self.bad_payloads.insert(bytes.clone());
                Fault::Payload { shard, bytes }
            }
            DiscordFault::BadReady => {
                let text = BAD_READIES[self.rng.below(BAD_READIES.len() as u64) as usize];
                self.bad_payloads.insert(text.as_bytes().to_vec());
                Fault::Payload { shard, bytes: text.as_bytes().to_vec() }
            }
            DiscordFault::HelloOp7 => Fault::HelloIsOp7 { count: 1 + self.rng.below(3) as u32 },
            DiscordFault::RefuseIdentify => {
                // Those that stand eat session starts after the trouble too, and a day has only so many.
                let most = if self.plan.is_tight() { 3 } else { 30 };
                let count = (1 + self.rng.below(2) as u32).min(most - self.refusals.min(most));
                self.refusals += count;
                Fault::RefuseIdentify { count }
            }
            DiscordFault::Invalidate => {
                self.unseat_all(connection);
                // Discord would not keep a connection for long on which there is nothing to say.
                if let Some(id) = connection {
                    let at = self.now + self.soon(60);
                    self.timers.set(Key::Break(id), Some(at));
                }
                Fault::InvalidateSession { shard }
            }
            DiscordFault::Duplicate => Fault::Duplicate { shard },
            DiscordFault::UnknownEvent => Fault::UnknownEvent { shard },
            DiscordFault::GuildOutage => Fault::GuildOutage { shard },
            DiscordFault::Burst => {
                let large = self.rng.chance(1, 4);
                for n in 0..1 + self.rng.below(30) {
                    let length =
                        if large && n % 8 == 0 { self.rng.below(30_000) } else { self.rng.below(200) };
                    let d = format!(r#"{{"n":{n},"text":"{}"}}"#, "é".repeat(length as usize));
                    self.discord.emit(self.now, shard, "MESSAGE_CREATE", &d);
                }
                Fault::Duplicate { shard }
            }
        };
        self.discord.inject(self.now, injected);
        self.discord_acted();
    }

    fn taint_all(&mut self, connection: Option<ConnectionId>) {
        if let Some(id) = connection {
            self.taint(id);
        }
    }

    fn unseat_all(&mut self, connection: Option<ConnectionId>) {
        if let Some(id) = connection {
            self.unseat(id);
        }
    }

    fn broker_fault(&mut self, fault: BrokerFault) {
        let now = self.now;
        let index = self.rng.below(self.clusters.len() as u64) as usize;
        self.trace(|| format!("broker {index}: {fault:?}"));
        let wait = self.soon(60);
        let nacks = 1 + self.rng.below(5) as u32;
        let cluster = &mut self.clusters[index];
        match fault {
            BrokerFault::Die => {
                cluster.dead_until = Some(now + wait);
                cluster.break_link(now);
            }
            BrokerFault::CloseChannel => cluster.close_channel(now),
            BrokerFault::Nack => cluster.broker.nacks += nacks,
            BrokerFault::Block => cluster.block(now, now + wait),
            BrokerFault::HoldConfirms => cluster.silent_until = Some(now + wait),
            BrokerFault::StopReading => cluster.deaf_until = Some(now + wait / 2),
        }
        self.arm_cluster(index);
    }

    fn process_fault(&mut self, fault: ProcessFault) {
        // A day's session starts are not many: the world would wait for weeks.
        if self.plan.is_tight() && self.process > 4 {
            return;
        }
        self.trace(|| format!("process: {fault:?}"));
        match fault {
            ProcessFault::Kill => self.kill_in = Some(self.rng.below(40)),
            ProcessFault::KillInCall => {
                let index = self.rng.below(self.clusters.len() as u64) as usize;
                let calls = self.rng.below(12);
                if let Some(disk) = &self.clusters[index].disk {
                    disk.with(|disk| disk.calls_left = Some(calls));
                }
            }
            ProcessFault::Restart => self.begin_stop(false),
        }
    }

    fn disk_fault(&mut self, fault: DiskFault) {
        let index = self.rng.below(self.clusters.len() as u64) as usize;
        self.trace(|| format!("disk {index}: {fault:?}"));
        let (one_in, room, wait) = (1 + self.rng.below(60), self.rng.below(20_000), self.soon(30));
        if let Some(disk) = &self.clusters[index].disk {
            disk.with(|disk| match fault {
                DiskFault::Eio => disk.eio_in = one_in.max(2),
                DiskFault::Short => disk.short_in = one_in,
                DiskFault::Full => disk.bytes_max = disk.bytes() + room,
            });
            self.timers.set(Key::Heal(index), Some(self.now + wait));
        }
    }

    /// Workers ask for things, now and then for far too many.
    pub fn worker(&mut self) {
        let count = if self.plan.floods && self.rng.chance(1, 6) { self.rng.below(400) } else { 1 };
        let index = self.any_shard();
        // Nobody takes it from the broker while there is no process.
        for _ in 0..if self.down { 0 } else { count } {
            let (json, valid) = match self.rng.below(8) {
                0 => (PRESENCE.to_owned(), true),
                1..4 => (VOICE.to_owned(), true),
                4..6 => (MEMBERS.to_owned(), true),
                6 => (REFUSED[self.rng.below(REFUSED.len() as u64) as usize].to_owned(), false),
                _ => {
                    // About the largest that Discord takes, and beyond.
                    let length = 4000 + self.rng.below(120) as usize;
                    let json = format!(
                        r#"{{"op":4,"d":{{"guild_id":"1","channel_id":null}}{}}}"#,
                        " ".repeat(length)
                    );
                    let valid = json.len() <= 4096;
                    (json, valid)
                }
            };
            let id = self.audit.command(json.as_bytes(), valid);
            self.shards[index].inputs.push(Input::Command { id, json: json.into_bytes().into() });
        }
        self.wake(index);
        let wait = self.soon(4);
        self.timers.set(Key::Worker, Some(self.now + wait));
    }
}
