//! Questions to a running gateway, and their answers against the oracle's.

use std::collections::{BTreeMap, HashMap};

use rateway::base::Rng;
use serde_json::{Value, json};

use super::oracle::{Kind, Oracle, Partition, id};
use super::scene::PER_CLUSTER;
use crate::support::{Message, Stage, wait_for};

/// Of one type so many questions that have answers, and so many of those that the oracle knows of that have none.
const EACH: usize = 30;

/// A question to a cluster.
#[derive(Clone, Debug)]
pub struct Ask {
    pub kind: &'static str,
    pub arguments: Vec<Value>,
    pub cluster: u32,
    /// It has to be a miss, whatever the oracle says.
    pub miss: bool,
}

impl Ask {
    pub fn new(kind: &'static str, arguments: Value, cluster: u32) -> Ask {
        let Value::Array(arguments) = arguments else { panic!("arguments are a list: {arguments}") };
        Ask { kind, arguments, cluster, miss: false }
    }
}

/// What came back for one question.
pub struct Answered {
    /// By `return_routing_key`.
    pub keyed: Message,
    /// By `reply_to`.
    pub reply: Message,
}

/// Waits for the answers to the questions `label-0` to `label-(count - 1)` by both ways.
pub fn answers(stage: &Stage, label: &str, count: usize) -> Vec<Answered> {
    let prefix = format!("{label}-");
    let ours = |message: &Message| {
        let answer = message.cluster == 0 || message.key == "cache-answer";
        answer && message.json["correlation_id"].as_str().is_some_and(|id| id.starts_with(&prefix))
    };
    wait_for("all answers by both ways", || {
        let come = stage.worker.count(ours);
        if come >= 2 * count { Ok(()) } else { Err(format!("({come} of {})", 2 * count)) }
    });
    let mut found: HashMap<(bool, String), Message> = HashMap::new();
    for message in stage.worker.find(ours) {
        let correlation_id = message.json["correlation_id"].as_str().expect("as filtered").to_owned();
        let again = found.insert((message.cluster == 0, correlation_id), message);
        assert!(again.is_none(), "answered twice: {again:?}");
    }
    let mut take = |reply: bool, n: usize| {
        found.remove(&(reply, format!("{label}-{n}"))).expect("as many answers as questions, each once")
    };
    (0..count).map(|n| Answered { keyed: take(false, n), reply: take(true, n) }).collect()
}

/// Asks all of it and fails unless every answer is one that the oracle finds right. Returns the bodies.
pub fn ask_all(stage: &mut Stage, oracle: &Oracle, asks: &[Ask], label: &str) -> Vec<Vec<u8>> {
    for (n, ask) in asks.iter().enumerate() {
        let query =
            json!({"type": ask.kind, "arguments": ask.arguments, "return_routing_key": "cache-answer"});
        stage.worker.query(ask.cluster, query.to_string().as_bytes(), Some(&format!("{label}-{n}")));
    }
    let answers = answers(stage, label, asks.len());
    let mut wrong = Vec::new();
    for (ask, Answered { keyed, reply }) in asks.iter().zip(&answers) {
        assert_eq!(keyed.cluster, ask.cluster, "on the exchange where it was asked: {ask:?}");
        assert_eq!(keyed.body, reply.body, "both ways say the same: {ask:?}");
        if let Err(what) = judge(oracle, ask, reply) {
            wrong.push(format!("{} {} on {}: {what}", ask.kind, json!(ask.arguments), ask.cluster));
        }
        let found = json!(!reply.body.is_empty());
        assert_eq!(
            (keyed.header("found"), reply.header("found")),
            (Some(("t", &found)), Some(("t", &found)))
        );
    }
    let shown = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} answers are wrong:\n{shown}", wrong.len(), asks.len());
    answers.into_iter().map(|answer| answer.reply.body).collect()
}

fn judge(oracle: &Oracle, ask: &Ask, answer: &Message) -> Result<(), String> {
    let mut right = oracle.candidates(ask.kind, &ask.arguments).into_iter().filter_map(|answer| answer.hit());
    if answer.body.is_empty() {
        return match right.next().filter(|_| !ask.miss) {
            None => Ok(()),
            Some(right) => Err(format!("a miss, expected {right}")),
        };
    }
    let found: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    if ask.miss {
        return Err(format!("expected a miss, found {found}"));
    }
    let right: Vec<Value> = right.collect();
    let fits = |right: &Value| match ask.kind {
        // There may be more counts than the oracle has.
        // Of members of threads the cache keeps the bot's own alone, in the thread.
        "Stats" => right
            .as_object()
            .is_some_and(|counts| counts.iter().all(|(key, n)| key == "thread_members" || found[key] == *n)),
        _ => *right == found,
    };
    if right.iter().any(fits) { Ok(()) } else { Err(format!("found {found}, right are {}", json!(right))) }
}

/// Questions of every type: some that have answers, drawn by lot from all that the oracle knows, and some that have
/// none. Each goes to a cluster that does not own the guild, with its ids as integers or strings by turns.
pub fn every_kind_of_ask(oracle: &Oracle, clusters: u32, seed: u64) -> Vec<Ask> {
    let mut random = Rng::new(seed);
    let mut all: Vec<(&'static str, Vec<u64>, u32)> = Vec::new();
    for (shard, partition) in &oracle.partitions {
        // The one after the owner's.
        let cluster = (shard / PER_CLUSTER + 1) % clusters + 1;
        known(partition, &mut |kind, ids| all.push((kind, ids.to_vec(), cluster)));
    }
    for (n, (kind, needed)) in super::TYPES.into_iter().enumerate() {
        let cluster = n as u32 % clusters + 1;
        match needed {
            0 => (1..=clusters).for_each(|cluster| all.push((kind, vec![], cluster))),
            _ => [0, 1, u64::MAX].iter().for_each(|id| all.push((kind, vec![*id; needed], cluster))),
        }
    }
    // In an order by lot, then the first of each.
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut taken: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let mut asks = Vec::new();
    for (kind, ids, cluster) in all {
        let arguments: Vec<Value> = ids
            .iter()
            .map(|id| if random.chance(1, 2) { json!(id) } else { json!(id.to_string()) })
            .collect();
        let hit = !oracle.candidates(kind, &arguments).is_empty();
        let taken = taken.entry((kind, hit)).or_default();
        if *taken < EACH {
            *taken += 1;
            asks.push(Ask { kind, arguments, cluster, miss: false });
        }
    }
    asks
}

/// Every question that what a partition holds gives rise to.
fn known(p: &Partition, ask: &mut dyn FnMut(&'static str, &[u64])) {
    for guild in p.guilds.keys() {
        for kind in ["Guild", "GuildChannels", "GuildRoles", "GuildEmojis", "GuildMembers", "Role", "User"] {
            ask(kind, &[*guild]);
        }
        ask("GuildMembers", &[*guild, 0, 3]);
    }
    for channel in p.channels.keys() {
        for kind in ["GuildChannel", "Thread", "PrivateChannel", "Group", "VoiceChannelStates"] {
            ask(kind, &[*channel]);
        }
    }
    for (kind, child) in p.children.keys() {
        match kind {
            Kind::Role => ask("Role", &[*child]),
            Kind::Emoji => ask("Emoji", &[*child]),
            Kind::Sticker => ask("Sticker", &[*child]),
            Kind::StageInstance => ask("StageInstance", &[*child]),
            Kind::ScheduledEvent => ask("ScheduledEvent", &[*child]),
            // Sounds and integrations have no query.
            _ => {}
        }
    }
    for (guild, user) in p.members.keys().chain(p.presences.keys()) {
        ask("Member", &[*guild, *user]);
        ask("Presence", &[*guild, *user]);
        ask("VoiceState", &[*user, *guild]);
        ask("User", &[*user]);
    }
    for ((guild, user), state) in &p.voice_states {
        ask("VoiceState", &[*user, *guild]);
        if let Some(channel) = id(state, "channel_id") {
            ask("VoiceState", &[*user, channel]);
            ask("VoiceChannelStates", &[channel]);
        }
    }
    for (channel, ring) in &p.rings {
        ring.messages.iter().for_each(|(message, _)| ask("Message", &[*channel, *message]));
    }
    p.users.keys().for_each(|user| ask("User", &[*user]));
}
