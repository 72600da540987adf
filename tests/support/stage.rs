//! A whole scene: stand-in, virtual host, worker, rateway.

use rateway::base::Secret;
use rateway::sim::{Ledger, Options, Server, ServerOptions};

use super::{Gateway, KEYS, Message, TOKEN, Vhost, Worker, judge, wait_for, wait_until};

/// All intents, so that every generated event comes.
const INTENTS: &str = "53608447";

/// A scene to be started.
pub struct Setup {
    label: &'static str,
    shards: u32,
    per_cluster: u32,
    sim: ServerOptions,
    variables: Vec<(String, String)>,
    arguments: Vec<&'static str>,
    worker_queues: bool,
    keys: Vec<&'static str>,
}

impl Setup {
    /// `shards` shards in clusters of `per_cluster`, two guilds each; all may identify at once.
    pub fn new(label: &'static str, shards: u32, per_cluster: u32) -> Setup {
        let discord = Options {
            shards,
            // More than one, so that EXTRA_SHARDS stays out of it.
            max_concurrency: shards.max(16),
            guilds: 2 * shards,
            members: 5,
            token: Some(Secret::new(TOKEN.to_owned())),
            gateway_url: String::new(),
            ..Options::default()
        };
        let sim = ServerOptions { discord, ..ServerOptions::default() };
        Setup {
            label,
            shards,
            per_cluster,
            sim,
            variables: Vec::new(),
            arguments: Vec::new(),
            worker_queues: true,
            keys: KEYS.into(),
        }
    }

    /// The worker listens to these routing keys too.
    pub fn keys(mut self, keys: &[&'static str]) -> Setup {
        self.keys.extend(keys);
        self
    }

    /// The worker declares and binds nothing: what then is in the broker is rateway's.
    pub fn without_worker_queues(mut self) -> Setup {
        self.worker_queues = false;
        self
    }

    /// Changes the stand-in.
    pub fn sim(mut self, change: impl FnOnce(&mut ServerOptions)) -> Setup {
        change(&mut self.sim);
        self
    }

    /// Changes what the stand-in's Discord is like.
    pub fn discord(self, change: impl FnOnce(&mut Options)) -> Setup {
        self.sim(|sim| change(&mut sim.discord))
    }

    /// Sets a variable of rateway's; the last one of a name counts.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument of rateway's.
    pub fn arg(mut self, argument: &'static str) -> Setup {
        self.arguments.push(argument);
        self
    }

    /// Starts the stand-in, the virtual host and the worker, not rateway itself.
    pub fn prepare(self) -> Prepared {
        let vhost = Vhost::new(self.label);
        let sim = Server::start(self.sim.clone()).expect("the stand-in starts");
        let count = if self.worker_queues { self.shards.div_ceil(self.per_cluster) } else { 0 };
        let clusters: Vec<u32> = (1..=count).collect();
        let worker = Worker::start_for(&vhost.uri(), None, &clusters, &self.keys);
        let mut variables: Vec<(String, String)> = [
            ("DISCORD_TOKEN", TOKEN),
            ("INTENTS", INTENTS),
            ("AMQP_URI", &vhost.uri()),
            ("DISCORD_API_URL", &sim.api_url()),
            ("SHARDS_PER_CLUSTER", &self.per_cluster.to_string()),
            ("THREADS", "2"),
            // Each test has a page of its own.
            ("HTTP_ADDR", "127.0.0.1:0"),
            // The more is said the more there is to search for secrets.
            ("LOG_LEVEL", "trace"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(self.variables);
        Prepared {
            worker,
            sim,
            vhost,
            variables,
            arguments: self.arguments,
            shards: self.shards,
            per_cluster: self.per_cluster,
        }
    }

    /// Starts everything and waits until every shard is up.
    pub fn start(self) -> Stage {
        let stage = self.prepare().start();
        stage.wait_up();
        stage
    }
}

/// A scene that lacks only rateway.
pub struct Prepared {
    pub worker: Worker,
    pub sim: Server,
    pub vhost: Vhost,
    variables: Vec<(String, String)>,
    arguments: Vec<&'static str>,
    shards: u32,
    per_cluster: u32,
}

impl Prepared {
    /// Sets a variable of rateway's.
    pub fn env(mut self, name: &str, value: &str) -> Prepared {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable of rateway's away.
    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// The variables of rateway, with one changed: for a second process.
    pub fn variables_with(&self, name: &str, value: &str) -> Vec<(String, String)> {
        let mut variables = self.variables.clone();
        variables.push((name.to_owned(), value.to_owned()));
        variables
    }

    /// Starts rateway, and waits for nothing.
    pub fn start(self) -> Stage {
        let gateway = Gateway::start(&self.variables, &self.arguments);
        Stage {
            gateway,
            variables: self.variables,
            arguments: self.arguments,
            worker: self.worker,
            sim: self.sim,
            vhost: self.vhost,
            shards: self.shards,
            per_cluster: self.per_cluster,
        }
    }
}

/// A scene that plays.
pub struct Stage {
    // Dropped in this order.
    pub gateway: Gateway,
    pub worker: Worker,
    pub sim: Server,
    pub vhost: Vhost,
    pub shards: u32,
    pub per_cluster: u32,
    variables: Vec<(String, String)>,
    arguments: Vec<&'static str>,
}

impl Stage {
    /// Starts rateway again after it has ended.
    pub fn restart(&mut self) {
        self.gateway = Gateway::start(&self.variables, &self.arguments);
    }

    /// Starts another rateway while this one runs, which is handed over.
    pub fn start_beside(&mut self) -> Gateway {
        let new = Gateway::start(&self.variables, &self.arguments);
        std::mem::replace(&mut self.gateway, new)
    }

    /// The same, with one variable changed.
    pub fn restart_with(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
        self.restart();
    }

    /// Waits until every shard has a session and its connection.
    pub fn wait_up(&self) {
        wait_until("every shard is up", || {
            self.sim.act(|discord, _| discord.connected_shards().len()) == self.shards as usize
        });
    }

    /// Generated events per second from now on.
    pub fn set_rate(&self, rate: f64) {
        self.sim.act(|discord, now| discord.set_rate(now, rate));
    }

    /// Lets a shard have an event of the test's own; says its `s`.
    pub fn emit(&self, shard: u32, event: &str, d: &str) -> u64 {
        self.sim.act(|discord, now| discord.emit(now, shard, event, d)).expect("the shard has a session")
    }

    /// Waits until the stand-in has made `count` events.
    pub fn wait_dispatches(&self, count: u64) {
        wait_until("events", || self.sim.act(|discord, _| discord.ledger().dispatches) >= count);
    }

    /// Ends the flow of events and waits until the worker has as many as were sent.
    pub fn settle(&self) -> (Ledger, Vec<Message>) {
        self.set_rate(0.0);
        let wanted = || self.sim.act(|discord, _| discord.ledger().dispatches);
        wait_until("all events at the worker", || {
            let (arrived, wanted) = (self.worker.unique_events() as u64, wanted());
            assert!(arrived <= wanted, "{arrived} events arrived, {wanted} were sent");
            arrived == wanted
        });
        (self.sim.ledger(), self.worker.messages())
    }

    /// Ends the flow, waits, and judges all that arrived. Returns how many came a second time.
    pub fn judge(&self) -> usize {
        let (ledger, messages) = self.settle();
        // A session that is gone is told, and nothing else is.
        let gaps = self.worker.find(|message| message.key == "RATEWAY_GAP").len();
        assert_eq!(gaps, ledger.sessions.len() - self.shards as usize, "gaps told, sessions lost");
        let repeats = judge(&ledger, &messages, self.per_cluster, Some(&self.gateway_url()));
        self.assert_well_behaved();
        repeats
    }

    /// Fails when rateway has done what Discord forbids.
    pub fn assert_well_behaved(&self) {
        self.assert_well_behaved_but_for(0);
    }

    /// The same where so many sessions had to be left alone: their part of the cache was torn.
    pub fn assert_well_behaved_but_for(&self, left: u64) {
        let ledger = self.sim.ledger();
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        assert!(
            ledger.identifies_on_live_session <= left,
            "{} sessions were thrown away",
            ledger.identifies_on_live_session
        );
        assert!(ledger.payloads_in_60_s_max <= 120, "{} payloads in 60 s", ledger.payloads_in_60_s_max);
    }

    /// The `resume_gateway_url` of the stand-in's READY.
    pub fn gateway_url(&self) -> String {
        self.sim.api_url().replacen("http", "ws", 1).replace("/api/v10", "")
    }

    /// Heartbeats that were answered so far.
    pub fn acks(&self) -> u64 {
        self.sim.act(|discord, _| discord.ledger().acks)
    }

    /// Commands of `op` that a shard has sent, of the last ones.
    pub fn commands(&self, shard: u32, op: u64) -> Vec<String> {
        let ledger = self.sim.ledger();
        let fits = |command: &&rateway::sim::Command| command.shard_id == Some(shard) && command.op == op;
        ledger.recent.iter().filter(fits).map(|command| command.d.clone()).collect()
    }

    /// Waits for a command whose `d` holds `part`.
    pub fn wait_command(&self, shard: u32, op: u64, part: &str) -> String {
        wait_for(&format!("op {op} with {part} on shard {shard}"), || {
            self.commands(shard, op).into_iter().find(|d| d.contains(part))
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let sessions = self.sim.ledger().sessions;
        self.gateway.secrets.extend(sessions.values().map(|session| session.session_id.to_string()));
    }
}
