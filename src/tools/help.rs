//! What `--help` prints.

use super::Tool;

/// The exit statuses of all tools.
pub const EXIT_STATUS: &str = "\
Exit status: 0 done, 1 it could not be done or was refused, 2 arguments or configuration are wrong,
3 the cache does not hold it.";

const CONNECTION: &str = "\
The broker is at AMQP_URI (default amqp://127.0.0.1:5672; several, separated by commas, are tried in turn), with
AMQP_CA_FILE for amqps://. AMQP_URI_FILE reads the URI from a file. SHARDS_PER_CLUSTER (default 8) says which cluster
has a shard. The gateway's own file will do: -c FILE. No token is needed.";

const TAP: &str = "\
rateway tap shows events as they pass through the broker.

Usage: rateway tap [OPTIONS]

  --cluster N|all      the clusters to listen to; repeatable [the clusters of --shard, else 1]
  --event NAME         only these events; repeatable, or separated by commas [all that Discord documents, RATEWAY_GAP]
  --shard N            only these shards; repeatable [all]
  --count N            end after so many events
  --json               a JSON object per event, also on a terminal
  --raw                the event's d alone, a line each
  -c, --config FILE    the gateway's TOML file
  -h, --help           this text

In a pipe each line is {\"cluster\",\"shard\",\"seq\",\"event\",\"repeat\",\"at\",\"d\"}; at is when it was published, in
seconds since 1970. On a terminal a line is short. Other workers lose nothing by it: tap has a queue of its own, which
ends with it and holds 10000 events or 64 MiB at most; when the reader is too slow the oldest are left out, and tap says
so. Ctrl-C ends it, and so does a closed pipe.
";

const TAP_EXAMPLES: &str = "\
Examples:
  rateway tap
  rateway tap --cluster all --event MESSAGE_CREATE | jq -r '.d | \"\\(.author.username): \\(.content)\"'
  rateway tap --shard 3 --count 100 > events.jsonl
  rateway tap --event RATEWAY_GAP --raw
";

const CACHE: &str = "\
rateway cache asks the gateway for what it remembers, and prints Discord's object.

Usage: rateway cache TYPE [ID]... [OPTIONS]

  --cluster N          the cluster to ask; any answers for all that its process holds [1]
  --timeout-ms N       how long to wait for the answer [5000]
  -c, --config FILE    the gateway's TOML file
  -h, --help           this text

Types and their ids:
  CurrentUser, Stats                                            none
  Guild, GuildChannels, GuildRoles, GuildEmojis                 guild
  GuildMembers                                                  guild [after [limit]]
  GuildChannel, Thread, PrivateChannel, Group                   channel
  VoiceChannelStates                                            channel
  Role, Emoji, Sticker, User, StageInstance, ScheduledEvent     its own id
  Member, Presence                                              guild user
  Message                                                       channel message
  VoiceState                                                    user, then guild or channel

On a terminal the object is set in lines, in a pipe it is one line, as the gateway sent it.
";

const CACHE_EXAMPLES: &str = "\
Examples:
  rateway cache CurrentUser
  rateway cache Guild 81384788765712384 | jq .name
  rateway cache Member 81384788765712384 80351110224678912 || echo 'not held'
  rateway cache Stats --cluster 2
";

const SEND: &str = "\
rateway send sends a gateway command to Discord by one of the bot's shards, and prints the answer.

Usage: rateway send --shard N PAYLOAD [OPTIONS]
       rateway send --guild ID PAYLOAD [OPTIONS]

  PAYLOAD              a gateway payload, such as {\"op\":3,\"d\":{...}}; - reads it from standard input
  --shard N            the shard to send it by
  --guild ID           the guild whose shard is to send it
  --cluster N          the cluster of that shard [found by SHARDS_PER_CLUSTER, else by asking each]
  --timeout-ms N       how long to wait for the answer [5000]
  -c, --config FILE    the gateway's TOML file
  -h, --help           this text

The answer is {\"ok\":true}, or {\"ok\":false,\"error\":\"...\"} with status 1. A shard sends 120 payloads a minute; what is
above waits, and its answer with it.
";

const SEND_EXAMPLES: &str = "\
Examples:
  rateway send --shard 0 '{\"op\":3,\"d\":{\"since\":null,\"activities\":[],\"status\":\"idle\",\"afk\":false}}'
  rateway send --guild 81384788765712384 - < members.json
";

/// The help of a tool.
pub fn help(tool: Tool) -> String {
    let (text, examples) = match tool {
        Tool::Tap => (TAP, TAP_EXAMPLES),
        Tool::Cache => (CACHE, CACHE_EXAMPLES),
        Tool::Send => (SEND, SEND_EXAMPLES),
    };
    format!("{text}\n{CONNECTION}\n\n{EXIT_STATUS}\n\n{examples}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Question;

    #[test]
    fn every_type_is_explained() {
        let help = help(Tool::Cache);
        assert!(Question::types().all(|name| help.contains(name)));
    }
}
