//! What fuzzing starts from: payloads of `tests/corpus`, alone and one after the other, bytes that our own machines say to
//! each other, and lists of operations.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rateway::amqp::worker::{Event, Queue, Request, Worker};
use rateway::amqp::{Answer, Client, Event as ClientEvent, EventPublish, Options, frame_event};
use rateway::base::deflate::Deflate;
use rateway::base::{Buf, Rng, Secret};
use rateway::broker::{Broker, ConnectionId};
use rateway::queue::Snapshot;
use rateway::state::spool::{Entry, Record, Spool};
use rateway::state::{Folder, Kept, Sessions, Stamp};

use super::{files, root};

/// Target, name, bytes.
type Seed = (&'static str, String, Vec<u8>);

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    payloads(&mut seeds);
    amqp(&mut seeds);
    streams(&mut seeds);
    files_of_a_state_folder(&mut seeds);
    texts(&mut seeds);
    operations(&mut seeds);
    seeds
}

fn add(seeds: &mut Vec<Seed>, target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
    seeds.push((target, name.into(), bytes.into()));
}

/// The corpus by name, without what is large.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in files(&root().join("tests/corpus")) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let bytes = fs::read(&path).expect("a file");
        if name.ends_with(".json") && name != "story_expected.json" && bytes.len() < 6000 {
            all.insert(name.trim_end_matches(".json").to_owned(), bytes);
        }
    }
    all
}

/// Payloads of one kind of thing, one after the other, for the cache: created, changed, deleted.
fn payloads(seeds: &mut Vec<Seed>) {
    let corpus = corpus();
    for kind in [
        "CHANNEL",
        "GUILD_ROLE",
        "GUILD_MEMBER",
        "GUILD_BAN",
        "MESSAGE",
        "THREAD",
        "VOICE_STATE",
        "PRESENCE",
        "STAGE",
        "GUILD_SCHEDULED",
        "GUILD_EMOJIS",
        "GUILD_STICKERS",
        "USER",
        "GUILD_DELETE",
    ] {
        let of_kind: Vec<&[u8]> =
            corpus.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, bytes)| &bytes[..]).collect();
        add(seeds, "cache", format!("{kind}_and_so_on"), of_kind.join(&0xff));
    }
}

const GATEWAY_EXCHANGE: &str = "rateway-1";

/// What was said on a connection.
#[derive(Default)]
struct Said {
    by_client: Vec<u8>,
    by_broker: Vec<u8>,
}

/// Lets both sides of a connection speak until nothing is left to say.
fn converse(
    broker: &mut Broker,
    now: Instant,
    id: ConnectionId,
    said: &mut Said,
    client: &mut dyn FnMut(&mut Buf, &mut Vec<u8>),
) {
    let (mut to_client, mut to_broker, mut out) = (Buf::default(), Buf::default(), Vec::new());
    for _ in 0..12 {
        client(&mut to_client, &mut out);
        said.by_client.extend_from_slice(&out);
        to_broker.extend(&out);
        out.clear();
        broker.receive(now, id, &mut to_broker);
        broker.finish_turn(now);
        let bytes = broker.output(id).to_vec();
        broker.advance(now, id, bytes.len());
        said.by_broker.extend_from_slice(&bytes);
        to_client.extend(&bytes);
    }
}

fn event<'a>(seq: u64, body: &'a [u8]) -> EventPublish<'a> {
    EventPublish {
        exchange: GATEWAY_EXCHANGE.as_bytes(),
        routing_key: b"MESSAGE_CREATE",
        message_id: b"0-1234567890abcdef-7",
        timestamp_s: 1_700_000_000,
        shard_id: 0,
        seq,
        repeat: seq == 2,
        persistent: seq == 3,
        body,
    }
}

/// The client of a cluster and one of a worker at the broker: an event, a request and its answer.
#[allow(clippy::disallowed_methods)] // Some point in time to begin with.
fn amqp(seeds: &mut Vec<Seed>) {
    let now = Instant::now();
    let mut broker = Broker::new(rateway::broker::Options::default(), 7, now, 0);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let connect = |broker: &mut Broker| broker.connect(now, address).expect("a connection");
    let options = Options {
        exchange: GATEWAY_EXCHANGE.to_owned(),
        queue: "rateway-incoming-1".to_owned(),
        binding_keys: vec!["gateway".to_owned()],
        ..Options::default()
    };
    let (gateway, tool) = (connect(&mut broker), connect(&mut broker));
    let (mut client, mut worker) = (Client::new(options, now), Worker::new(Options::default(), now));
    let (mut with_gateway, mut with_tool) = (Said::default(), Said::default());
    let mut is_new = true;
    let mut serve = |input: &mut Buf, out: &mut Vec<u8>| {
        client.receive(now, input).expect("a sound broker");
        let mut is_ready = false;
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::PublishReady { .. } => is_ready = std::mem::take(&mut is_new),
                ClientEvent::Delivery(delivery) => {
                    let answer = Answer {
                        exchange: b"",
                        routing_key: delivery.reply_to.as_deref().unwrap_or_default(),
                        correlation_id: delivery.correlation_id.as_deref(),
                        found: Some(true),
                        body: b"{\"id\":\"1\"}",
                    };
                    client.answer(&answer);
                    client.ack(delivery.delivery_tag);
                }
                _ => {}
            }
        }
        client.transmit(out);
        if is_ready {
            for seq in 1..=3 {
                frame_event(
                    out,
                    1,
                    client.frame_max(),
                    &event(seq, b"{\"content\":\"the raid starts at eight\"}"),
                )
                .expect("short names");
            }
        }
    };
    let (mut queue, mut steps) = (String::new(), 0);
    let mut work = |input: &mut Buf, out: &mut Vec<u8>| {
        worker.receive(now, input).expect("a sound broker");
        while let Some(event) = worker.poll_event() {
            match event {
                Event::Opened => worker.open_channel(1),
                Event::Done { .. } if steps == 0 => {
                    steps = 1;
                    worker.find_exchange(1, GATEWAY_EXCHANGE).expect("a short name");
                }
                Event::Done { .. } if steps == 1 => {
                    steps = 2;
                    worker
                        .declare_queue(1, Queue::Own { length_max: 9, bytes_max: 9000 })
                        .expect("a short name");
                }
                Event::Queue { name, .. } => {
                    worker.bind(1, &name, GATEWAY_EXCHANGE, "MESSAGE_CREATE").expect("short names");
                    worker.limit(1, 3);
                    worker.consume(1, &name).expect("a short name");
                    let request = Request {
                        exchange: GATEWAY_EXCHANGE,
                        routing_key: "gateway",
                        header: Some(("shard_id", "0")),
                        reply_to: &name,
                        correlation_id: "7",
                        body: b"{\"op\":3,\"d\":{}}",
                    };
                    worker.publish(1, &request).expect("short names");
                    queue = name;
                }
                Event::Message(message) => worker.ack_through(1, message.delivery_tag),
                _ => {}
            }
        }
        worker.transmit(out);
    };
    converse(&mut broker, now, gateway, &mut with_gateway, &mut serve);
    converse(&mut broker, now, tool, &mut with_tool, &mut work);
    converse(&mut broker, now, gateway, &mut with_gateway, &mut serve);
    let mut publishes = Vec::new();
    for seq in 1..=3 {
        frame_event(&mut publishes, 1, 4096, &event(seq, &vec![b'x'; 3000 * seq as usize]))
            .expect("short names");
    }
    converse(&mut broker, now, tool, &mut with_tool, &mut work);

    add(seeds, "amqp_client", "a_whole_session", [&[255], &with_gateway.by_broker[..]].concat());
    add(seeds, "amqp_client", "octet_by_octet", [&[1], &with_gateway.by_broker[..]].concat());
    add(seeds, "amqp_worker", "a_whole_session", [&[255], &with_tool.by_broker[..]].concat());
    add(seeds, "amqp_worker", "octet_by_octet", [&[1], &with_tool.by_broker[..]].concat());
    add(seeds, "amqp_repeat", "three_events", [&[0, 0], &publishes[..]].concat());
    add(seeds, "amqp_repeat", "frames_grow", [&[255, 0], &publishes[..]].concat());
    for (name, what, said) in [
        ("gateway_hears", 0, &with_gateway.by_broker),
        ("gateway_says", 1, &with_gateway.by_client[8..].to_vec()),
        ("worker_hears", 0, &with_tool.by_broker),
        ("worker_says", 1, &with_tool.by_client[8..].to_vec()),
        ("events", 1, &publishes),
    ] {
        add(seeds, "amqp_codec", name, [&[what, 0xff, 0xff], &said[..]].concat());
    }
    for (name, what, body) in [("no_body", 2, 0), ("one_frame", 2, 900), ("three_frames", 2 + 48, 9000)] {
        let text = |text: &[u8]| [&(text.len() as u16).to_be_bytes(), text].concat();
        let fields =
            [text(b"rateway-1"), text(b"MESSAGE_CREATE"), text(b"0-1f-7"), vec![1; 24], vec![b'x'; body]];
        add(seeds, "amqp_codec", name, [&[what, 0, 0, 1, 0], &fields.concat()[..]].concat());
    }
    // Arrays in arrays in the arguments of queue.declare, which a reader that calls itself ends by.
    let mut nested = Vec::new();
    for inner in (0..6000u32).rev() {
        nested.push(b'A');
        nested.extend_from_slice(&(inner * 5).to_be_bytes());
    }
    let declare =
        [&[0, 50, 0, 10, 0, 0, 1, b'q', 0][..], &(nested.len() as u32).to_be_bytes(), &nested].concat();
    let declare = [&[1, 0, 1][..], &(declare.len() as u32).to_be_bytes(), &declare, &[0xce]].concat();
    add(seeds, "amqp_codec", "nested_arrays", [&[1, 0xff, 0xff], &declare[..]].concat());
    let pieces = declare.chunks(255).flat_map(|piece| [&[2 << 2, piece.len() as u8], piece].concat());
    add(seeds, "broker", "nested_arrays", pieces.collect::<Vec<u8>>());
    for (name, said) in [("gateway", &with_gateway.by_client), ("worker", &with_tool.by_client)] {
        for (how, client, action) in [("in_pieces", 1, 2), ("slowly_read", 1, 3)] {
            let pieces = said.chunks(if action == 2 { 255 } else { 60 });
            let bytes: Vec<u8> = pieces
                .flat_map(|piece| [&[action << 2 | client, piece.len() as u8], piece].concat())
                .collect();
            add(seeds, "broker", format!("{name}_{how}"), bytes);
        }
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ ..126 => vec![short as u8],
        long => [&[126], &(long as u16).to_be_bytes()[..]].concat(),
    };
    [&[0x80 | opcode][..], &length, payload].concat()
}

/// The bytes of a session in all three compressions, framed as a server does and not.
fn streams(seeds: &mut Vec<Seed>) {
    let corpus = corpus();
    let session: Vec<&[u8]> =
        ["HELLO", "READY", "GUILD_CREATE.small", "MESSAGE_CREATE", "MESSAGE_CREATE", "HEARTBEAT_ACK"]
            .iter()
            .filter_map(|name| corpus.get(*name).map(|bytes| &bytes[..]))
            .chain([&br#"{"t":null,"s":null,"op":11,"d":null}"#[..], br#"{"op":7,"d":null}"#])
            .collect();
    let (mut deflate, mut zstd) = (Deflate::zlib(6).expect("memory"), zstd_safe::CCtx::create());
    let mut flush = |payload: &[u8]| {
        let (mut input, mut room) = (zstd_safe::InBuffer::around(payload), vec![0; payload.len() + 1024]);
        let mut output = zstd_safe::OutBuffer::around(&mut room[..]);
        let directive = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
        assert_eq!(zstd.compress_stream2(&mut output, &mut input, directive), Ok(0));
        let length = output.pos();
        room.truncate(length);
        room
    };
    let deflated: Vec<Vec<u8>> = session
        .iter()
        .map(|payload| {
            let mut out = Vec::new();
            deflate.compress(payload, &mut out);
            out
        })
        .collect();
    let zstd: Vec<Vec<u8>> = session.iter().map(|payload| flush(payload)).collect();
    let plain: Vec<Vec<u8>> = session.iter().map(|payload| payload.to_vec()).collect();
    let close = frame(8, b"\x0f\xa0a reason");
    for (what, name, messages) in [(0, "plain", &plain), (1, "zlib", &deflated), (2, "zstd", &zstd)] {
        let mut bytes: Vec<u8> = messages.iter().flat_map(|message| frame(2, message)).collect();
        bytes.extend_from_slice(&close);
        for (how, cut) in [("whole", 255), ("cut", 7)] {
            add(seeds, "transport", format!("{name}_{how}"), [&[what, cut], &bytes[..]].concat());
        }
        let with_lengths: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&(message.len() as u16).to_be_bytes()[..], message].concat())
            .collect();
        match what {
            0 => {
                for (what, name) in [(2, "ours"), (3, "theirs"), (4, "zstd")] {
                    for cut in [0, 5] {
                        let bytes = [&[what, cut], &with_lengths[..]].concat();
                        add(seeds, "inflate", format!("{name}_cut_by_{cut}"), bytes);
                    }
                }
            }
            _ => {
                for limit in [1, 3] {
                    add(
                        seeds,
                        "inflate",
                        format!("{name}_limit_{limit}"),
                        [&[what - 1, limit], &with_lengths[..]].concat(),
                    );
                }
            }
        }
    }
    // Three MiB in three KiB.
    let bomb = vec![0; 3 << 20];
    let mut deflated = Vec::new();
    Deflate::zlib(9).expect("memory").compress(&bomb, &mut deflated);
    add(seeds, "transport", "zlib_bomb", [&[1, 255], &frame(2, &deflated)[..]].concat());
    add(
        seeds,
        "inflate",
        "zlib_bomb",
        [&[0, 3], &(deflated.len() as u16).to_be_bytes()[..], &deflated].concat(),
    );
    let mut room = vec![0; 4096];
    let length = zstd_safe::compress(&mut room[..], &bomb, 3).expect("room");
    add(seeds, "transport", "zstd_bomb", [&[2, 255], &frame(2, &room[..length])[..]].concat());
    add(
        seeds,
        "inflate",
        "zstd_bomb",
        [&[1, 3], &(length as u16).to_be_bytes()[..], &room[..length]].concat(),
    );
    let upgrade = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    add(seeds, "transport", "refused", [&[0x80, 255], &upgrade[..]].concat());
    let frames = [
        frame(1, b"one"),
        frame(9, b"ping"),
        vec![0x01, 2, b'a', b'b'],
        frame(10, b""),
        vec![0x80, 2, b'c', b'd'],
        frame(2, &[b'x'; 300]),
        close,
    ];
    add(seeds, "websocket", "frames", [&[0, 3], &frames.concat()[..]].concat());
    add(seeds, "websocket", "masked", [0, 1, 0x81, 0x81, 1, 2, 3, 4, 5]);
    add(seeds, "websocket", "too_large", [0, 1, 0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]);
    let talk =
        [0, 40, 16, 200, 2, 9, 3, 50, 3, 20, 67, 9, 4, 30, 6, 255, 8, 255, 4, 255, 5, 1, 6, 255, 8, 255];
    add(seeds, "websocket", "a_conversation", [&[1, 4], &talk[..]].concat());
    add(seeds, "websocket", "the_server_closes", [1, 1, 0, 9, 4, 9, 5, 250, 0, 9, 4, 9, 6, 255, 8, 255]);
}

/// What a process leaves behind.
fn files_of_a_state_folder(seeds: &mut Vec<Seed>) {
    let path = std::env::temp_dir().join(format!("rateway-seeds-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    let folder = Folder::open(&path, "state").expect("a folder");
    let identity = [7; 32];
    let (mut sessions, _) = Sessions::open(&folder, "sessions", 0..1, identity, 0).expect("a file");
    let kept = Kept {
        id: Secret::new("0123456789abcdef0123456789abcdef"),
        resume_url: Some("wss://gateway-us-east1-b.discord.gg".into()),
        shard_count: 1,
        seq: 12_345,
    };
    let at = Stamp {
        boot: "2f7c9b1e-0000-4000-8000-000000000000".to_owned(),
        uptime_ms: 5000,
        wall_ms: 1_700_000_000_000,
    };
    sessions.set(0, Some(&kept), &at);
    sessions.write().expect("a file");
    add(seeds, "state_records", "a_session", fs::read(folder.path().join("sessions")).expect("a file"));
    let snapshot = Snapshot {
        max_concurrency: 16,
        total: 2000,
        told: Some((7, Duration::from_secs(3600))),
        spent: vec![(Duration::from_secs(9), 3), (Duration::from_secs(1), 1)],
        busy: true,
    };
    folder.write_identify("identify", &snapshot, at.wall_ms).expect("a file");
    let text = fs::read_to_string(folder.path().join("identify")).expect("a file");
    // Without its checksum, and without the times of this machine.
    let mut written: serde_json::Value =
        serde_json::from_str(text.lines().next().unwrap_or_default()).expect("JSON");
    written["at"] = serde_json::json!({"boot": at.boot, "uptime_ms": at.uptime_ms, "wall_ms": at.wall_ms});
    add(seeds, "state_records", "the_identify_queue", written.to_string());

    let options = rateway::state::spool::Options { boot: 1, segment_bytes: 4096, ..Default::default() };
    let (mut spool, _) = Spool::open(&path.join("spool"), options).expect("a folder");
    let bytes = vec![b'x'; 300];
    for session in 0..4 {
        let records = (1..=3).map(|seq| Record { seq, session, end: seq as usize * 100 });
        let entry =
            Entry { shard: 1, frame_max: 4096, maybe_published: session == 2, records, bytes: &bytes };
        spool.append(entry, |_| None).expect("room");
    }
    spool.confirmed(4).expect("a disk");
    drop(spool);
    let mut content = Vec::new();
    for path in files(&path.join("spool")) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let bytes = fs::read(&path).expect("a file");
        if name == "cursor" {
            content.splice(0..0, bytes.into_iter().chain(std::iter::repeat(0)).take(128));
        } else {
            content.extend_from_slice(&bytes);
        }
    }
    // With a cursor (2), with heads of their own (4), and as one file or two.
    add(seeds, "spool_segment", "as_written", [&[4], &content[..]].concat());
    add(seeds, "spool_segment", "without_a_cursor", [&[6], &content[128..]].concat());
    fs::remove_dir_all(&path).expect("our own folder");
}

fn texts(seeds: &mut Vec<Seed>) {
    let permit = "You are free to connect now! :)";
    for (name, head) in [
        ("by_length", format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{permit}", permit.len())),
        ("to_the_end", format!("HTTP/1.1 200 OK\r\n\r\n{permit}")),
        (
            "in_chunks",
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{permit}\r\n0\r\n\r\n",
                permit.len()
            ),
        ),
        (
            "continued",
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nrateway-permit: 7\r\n\r\n{permit}"),
        ),
        ("refused", "HTTP/1.1 503 Busy\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("success", "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"success\":true}".to_owned()),
    ] {
        add(seeds, "queue_answer", name, [&[9], head.as_bytes()].concat());
    }
    let body = r#"{"shard_id":3,"shard_count":16,"max_concurrency":16,"token_hash":"0aF-_"}"#;
    let posted = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for (name, text) in [
        ("a_page", "GET / HTTP/1.1\r\nHost: localhost:9980\r\n\r\n"),
        (
            "two_pages",
            "GET /shards/1 HTTP/1.1\r\nHost: [::1]\r\n\r\nGET /shards HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        ),
        ("metrics", "HEAD /metrics?shards=1 HTTP/1.0\r\n\r\n"),
        (
            "a_change",
            "POST /shards/0/reconnect HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-of-some-length\r\n\r\n",
        ),
        ("a_permit", "GET /?shard=7 HTTP/1.1\r\nHost: queue\r\nConnection: close\r\n\r\n"),
        (
            "a_key",
            "GET /k/0aF-_/?shard=7&max_concurrency=16&total=2000&remaining=9&reset_after=7&age=1&feedback=true HTTP/1.1\r\nHost: q\r\n\r\n",
        ),
        ("a_report", "GET /k/abc/identified?permit=7 HTTP/1.1\r\nHost: q\r\n\r\n"),
        ("sandwich", posted.as_str()),
        (
            "chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n0\r\ntrailer: 1\r\n\r\n",
        ),
        (
            "smuggling",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("whole_target", "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        add(seeds, "requests", name, text);
        add(seeds, "http_request", name, [&[3], text.as_bytes()].concat());
    }
    for (name, arguments) in [
        ("CurrentUser", ""),
        ("Guild", r#""1""#),
        ("Member", r#""1","2""#),
        ("GuildMembers", r#""1",100,"7""#),
        ("Stats", ""),
        ("VoiceState", "1,2"),
        ("Message", r#""18446744073709551615","0""#),
    ] {
        let body = format!(r#"{{"type":"{name}","arguments":[{arguments}],"return_routing_key":"answers"}}"#);
        add(seeds, "query", name, body);
    }
    add(
        seeds,
        "query",
        "no_arguments",
        r#"{"return_routing_key":"\u0061","type":"CurrentUser","more":[{}]}"#,
    );
    for (name, d) in [
        ("op_3", r#"{"since":null,"activities":[{"name":"x","type":0}],"status":"online","afk":false}"#),
        ("op_4", r#"{"guild_id":"1","channel_id":null,"self_mute":false,"self_deaf":true}"#),
        ("op_8", r#"{"guild_id":"1","query":"","limit":0,"nonce":"n"}"#),
        ("op_2", r#"{"token":"x"}"#),
    ] {
        add(seeds, "worker_message", name, format!(r#"{{"{}":{},"d":{d}}}"#, "op", &name[3..]));
    }
    let (mut lines, mut file) = (String::new(), "# All of it.\n".to_owned());
    for setting in rateway::config::settings::all() {
        let rateway::config::settings::Preset::Value(value) = setting.preset else { continue };
        let is_bare = value.parse::<i64>().is_ok() || matches!(value, "true" | "false");
        lines.push_str(&format!("{}={value}\n", setting.name));
        let value = if is_bare { value.to_owned() } else { format!("{value:?}") };
        file.push_str(&format!("{} = {value}\n", setting.key));
    }
    add(seeds, "configuration", "lines", lines);
    add(seeds, "configuration", "file", file);
    add(
        seeds,
        "configuration",
        "wrong",
        "SHARD_COUNT=-1\nAMQP_URI=amqp://\nCACHE_MEMORY=1ZiB\nCOMPRESSION=lz4\nINTENTS=all\n",
    );
    for (name, bytes) in [
        ("one_any", [1, 0, 2, 3, 4, 5]),
        ("two_any", [3, 0, 2, 5, 1, 2]),
        ("words", [2, 1, 1, 0, 0, 0]),
        ("empty_words", [2, 4, 4, 4, 4, 4]),
    ] {
        add(seeds, "routing_pattern", name, bytes);
    }
}

/// Lists of operations that are as good as any others.
fn operations(seeds: &mut Vec<Seed>) {
    let mut rng = Rng::new(7);
    for (target, count, length) in [
        ("shard", 4, 200),
        ("queue", 4, 200),
        ("broker_operations", 6, 800),
        ("amqp_pair", 4, 200),
        ("websocket", 2, 200),
        ("routing_pattern", 2, 40),
        ("spool_segment", 3, 300),
    ] {
        for number in 0..count {
            // Small numbers too: many choices are made by them.
            let most = if number % 2 == 0 { 256 } else { 16 };
            let bytes: Vec<u8> = (0..length).map(|_| rng.below(most) as u8).collect();
            add(seeds, target, format!("random_{number}"), bytes);
        }
    }
    // Hello, a permit, READY, an event, a command, an INVALID_SESSION, waits.
    let session =
        [3, 0, 0, 0, 9, 0, 6, 0, 0, 1, 0, 8, 7, 3, 9, 2, 0, 7, 8, 2, 0, 3, 9, 0, 6, 0, 4, 2, 9, 200];
    add(seeds, "shard", "a_session", session);
    add(seeds, "queue", "in_order", [1, 100, 0, 0, 0, 1, 0, 2, 2, 0, 3, 0, 4, 0, 2, 0, 1, 2, 4, 255]);
    // A queue, a binding, a publish, a consumer, an acknowledgement.
    let steps = [
        [0x21, 3, 0, 0],
        [1, 5, 8, 1],
        [1, 18, 0, 0],
        [0x21, 20, 9, 33],
        [0x21, 11, 0, 1],
        [0x21, 15, 1, 1],
        [1, 22, 10, 11],
    ];
    add(seeds, "broker_operations", "there_and_back", steps.concat());
    // What settles in between, with much memory and little.
    let steps = [
        15, 0, 0, 10, 15, 0, 2, 9, 0x51, 200, 3, 99, 9, 0, 8, 99, 15, 0, 12, 250, 13, 0, 15, 0, 14, 0, 15, 0,
        14, 255, 0, 1,
    ];
    for what in [0, 1, 14, 29] {
        add(seeds, "amqp_pair", format!("all_of_it_{what}"), [&[what], &steps[..]].concat());
    }
    for (name, changes) in [
        ("nothing", vec![]),
        ("header", vec![[8, 0, 0, 0x81, 1]]),
        ("record", vec![[16, 2, 0, 0x80, 9]]),
        ("pages", vec![[0, 32, 0, 1, 255], [8, 48, 0, 2, 3], [0, 80, 1, 0x82, 9]]),
        ("cut_off", vec![[0, 16, 0, 3, 0]]),
    ] {
        add(seeds, "cache_file", name, changes.concat());
    }
}
