#!/usr/bin/env python3
"""A worker: shows the events of every shard as they arrive over AMQP, sends one gateway command and asks the cache.

    AMQP_URI=amqp://127.0.0.1:5672 python3 examples/worker.py [--all] [--once]

Needs pika (Debian: python3-pika). Every cluster has an exchange, rateway-1, rateway-2 and so on; an event's routing key
is its name, its body the `d` that Discord sent, and its headers say which shard it came from. Commands go to the same
exchange with the routing key `gateway` and the header shard_id, cache queries with the routing key `cache`. See README.md,
"How workers connect".
"""
import argparse
import collections
import json
import os
import signal
import sys
import time

import pika

# What to listen to. The exchange is direct, so every name wants a binding; a real worker binds what it handles.
EVENTS = """
READY RESUMED RATE_LIMITED APPLICATION_COMMAND_PERMISSIONS_UPDATE AUTO_MODERATION_RULE_CREATE AUTO_MODERATION_RULE_UPDATE
AUTO_MODERATION_RULE_DELETE AUTO_MODERATION_ACTION_EXECUTION CHANNEL_CREATE CHANNEL_UPDATE CHANNEL_DELETE
CHANNEL_PINS_UPDATE CHANNEL_INFO ENTITLEMENT_CREATE ENTITLEMENT_UPDATE ENTITLEMENT_DELETE GUILD_CREATE GUILD_UPDATE GUILD_DELETE
GUILD_AUDIT_LOG_ENTRY_CREATE GUILD_BAN_ADD GUILD_BAN_REMOVE GUILD_EMOJIS_UPDATE GUILD_STICKERS_UPDATE
GUILD_INTEGRATIONS_UPDATE GUILD_MEMBER_ADD GUILD_MEMBER_REMOVE GUILD_MEMBER_UPDATE GUILD_MEMBERS_CHUNK
GUILD_ROLE_CREATE GUILD_ROLE_UPDATE GUILD_ROLE_DELETE GUILD_SCHEDULED_EVENT_CREATE GUILD_SCHEDULED_EVENT_UPDATE
GUILD_SCHEDULED_EVENT_DELETE GUILD_SCHEDULED_EVENT_USER_ADD GUILD_SCHEDULED_EVENT_USER_REMOVE
GUILD_SOUNDBOARD_SOUND_CREATE GUILD_SOUNDBOARD_SOUND_UPDATE GUILD_SOUNDBOARD_SOUND_DELETE
GUILD_SOUNDBOARD_SOUNDS_UPDATE SOUNDBOARD_SOUNDS INTEGRATION_CREATE INTEGRATION_UPDATE INTEGRATION_DELETE
INTERACTION_CREATE INVITE_CREATE INVITE_DELETE MESSAGE_CREATE MESSAGE_UPDATE MESSAGE_DELETE MESSAGE_DELETE_BULK
MESSAGE_REACTION_ADD MESSAGE_REACTION_REMOVE MESSAGE_REACTION_REMOVE_ALL MESSAGE_REACTION_REMOVE_EMOJI
MESSAGE_POLL_VOTE_ADD MESSAGE_POLL_VOTE_REMOVE PRESENCE_UPDATE STAGE_INSTANCE_CREATE STAGE_INSTANCE_UPDATE
STAGE_INSTANCE_DELETE SUBSCRIPTION_CREATE SUBSCRIPTION_UPDATE SUBSCRIPTION_DELETE THREAD_CREATE THREAD_UPDATE
THREAD_DELETE THREAD_LIST_SYNC THREAD_MEMBER_UPDATE THREAD_MEMBERS_UPDATE TYPING_START USER_UPDATE
VOICE_CHANNEL_EFFECT_SEND VOICE_CHANNEL_START_TIME_UPDATE VOICE_CHANNEL_STATUS_UPDATE VOICE_STATE_UPDATE
VOICE_SERVER_UPDATE WEBHOOKS_UPDATE RATEWAY_GAP
""".split()

COMMAND = {"op": 3, "d": {"since": None, "activities": [{"name": "over AMQP", "type": 3}], "status": "online", "afk": False}}
REPORT_S = 2.0


def arguments():
    parser = argparse.ArgumentParser(description="Show events that rateway publishes, and send one command.")
    parser.add_argument("--all", action="store_true", help="a line per event instead of counts")
    parser.add_argument("--once", action="store_true", help="end when every shard was heard and the command answered")
    parser.add_argument("--shards", type=int, help="how many shards there are, for --once")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that --once may take")
    return parser.parse_args()


def connect():
    """Tries the URIs of AMQP_URI in turn, as rateway does."""
    uris = os.environ.get("AMQP_URI", "amqp://127.0.0.1:5672").split(",")
    for uri in uris:
        try:
            return pika.BlockingConnection(pika.URLParameters(uri.strip()))
        except pika.exceptions.AMQPError as error:
            # The URI holds a password: only the error is shown.
            print(f"worker: no connection: {error!r}", file=sys.stderr)
    sys.exit("worker: no broker at AMQP_URI")


class Worker:
    def __init__(self, options):
        self.options = options
        self.connection = connect()
        self.clusters = 0
        self.heard = set()
        self.counts = collections.Counter()
        self.answer = None
        self.command_sent = False
        self.guild = None
        self.guild_asked = False
        self.channel = self.connection.channel()
        # Of this worker alone and gone with it; a worker that must not miss events while it restarts declares a
        # durable queue with a name instead.
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.replies = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.queue, self.on_event, auto_ack=True)
        self.channel.basic_consume(self.replies, self.on_reply, auto_ack=True)

    def find_clusters(self):
        """Binds to the exchanges that exist by now: rateway-1, rateway-2 and so on."""
        while True:
            exchange = f"rateway-{self.clusters + 1}"
            probe = self.connection.channel()
            try:
                probe.exchange_declare(exchange, passive=True)
                probe.close()
            except pika.exceptions.ChannelClosedByBroker:
                return
            for event in EVENTS:
                self.channel.queue_bind(self.queue, exchange, event)
            self.clusters += 1
            print(f"worker: listening to {exchange}", flush=True)

    def on_event(self, channel, method, properties, body):
        headers = properties.headers or {}
        shard, name = headers.get("shard_id"), method.routing_key
        self.counts[(shard, name)] += 1
        if shard is not None and shard not in self.heard:
            self.heard.add(shard)
            print(f"worker: first event of shard {shard}: {name} seq {headers.get('seq')}, {len(body)} bytes, "
                  f"from {method.exchange}", flush=True)
            if not self.command_sent:
                self.send_command(method.exchange, shard)
        if name == "GUILD_CREATE" and not self.guild_asked:
            self.ask_guild(method.exchange, json.loads(body)["id"])
        if self.options.all:
            again = " (repeat)" if headers.get("repeat") else ""
            print(f"shard {shard} seq {headers.get('seq')} {name} {len(body)} bytes{again}", flush=True)

    def send_command(self, exchange, shard):
        self.command_sent = True
        print(f"worker: asking shard {shard} to update the presence", flush=True)
        properties = pika.BasicProperties(headers={"shard_id": shard}, reply_to=self.replies, correlation_id="presence")
        self.channel.basic_publish(exchange, "gateway", json.dumps(COMMAND).encode(), properties)

    def ask_guild(self, exchange, guild_id):
        self.guild_asked = True
        print(f"worker: asking the cache for guild {guild_id}", flush=True)
        query = {"type": "Guild", "arguments": [guild_id], "return_routing_key": "answers-of-the-example"}
        properties = pika.BasicProperties(reply_to=self.replies, correlation_id="guild")
        self.channel.basic_publish(exchange, "cache", json.dumps(query).encode(), properties)

    def on_reply(self, channel, method, properties, body):
        if properties.correlation_id == "guild":
            # No bytes: not held.
            self.guild = json.loads(body) if body else {}
            name = self.guild.get("name") or "nothing"
            print(f"worker: the cache has {name!r}, {len(body)} bytes of JSON", flush=True)
            return
        self.answer = json.loads(body)
        print(f"worker: answer to {properties.correlation_id}: {self.answer}", flush=True)

    def report(self):
        if not self.options.all and self.counts:
            by_shard = collections.defaultdict(collections.Counter)
            for (shard, name), count in self.counts.items():
                by_shard[shard][name] += count
            for shard in sorted(by_shard, key=str):
                names = ", ".join(f"{name} {count}" for name, count in by_shard[shard].most_common(4))
                print(f"shard {shard}: {sum(by_shard[shard].values())} events: {names}", flush=True)
        self.counts.clear()

    def done(self):
        every = self.options.shards is None or self.heard >= set(range(self.options.shards))
        answered = self.answer is not None and (self.guild is not None or not self.guild_asked)
        return self.heard and every and answered

    def run(self):
        start = last_report = time.monotonic()
        self.find_clusters()
        while True:
            self.connection.process_data_events(time_limit=0.5)
            now = time.monotonic()
            if now - last_report >= REPORT_S:
                last_report = now
                self.report()
                self.find_clusters()
            if self.options.once and self.done():
                self.report()
                print(f"worker: heard {len(self.heard)} shards and had the command answered", flush=True)
                return 0 if self.answer.get("ok") else 1
            if self.options.once and now - start > self.options.timeout:
                print(f"worker: in {self.options.timeout:.0f} s heard shards {sorted(self.heard)}, "
                      f"answer to the command: {self.answer}", file=sys.stderr)
                return 1


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        return Worker(arguments()).run()
    except KeyboardInterrupt:
        return 0
    except pika.exceptions.AMQPError as error:
        print(f"worker: the connection ended: {error!r}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
