#!/usr/bin/env python3
"""A worker with aio-pika: handles events in order within each shard, sends a command, asks the cache, comes back.

    AMQP_URI=amqp://127.0.0.1:5672 python3 examples/worker_aio.py [CLUSTER]

Needs aio-pika (pip install -r examples/requirements.txt). docs/guide.md says why it does what it does.
"""
import asyncio
import collections
import json
import os
import random
import sys
import uuid

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message

EVENTS = ["READY", "GUILD_CREATE", "MESSAGE_CREATE", "RATEWAY_GAP"]
PRESENCE = {"op": 3, "d": {"since": None, "activities": [], "status": "idle", "afk": False}}
PREFETCH = 100
SEEN_MAX = 10_000
BACKOFF_MAX_S = 30


def say(text):
    print(text, flush=True)


class Seen:
    """Ids of events that were handled, the newest ones. Several workers on a queue share such a set, in Redis say."""

    def __init__(self):
        self.ids = collections.OrderedDict()

    def add(self, message_id):
        self.ids[message_id] = None
        if len(self.ids) > SEEN_MAX:
            self.ids.popitem(last=False)

    def __contains__(self, message_id):
        return message_id in self.ids


class Worker:
    def __init__(self, cluster):
        self.cluster = cluster
        self.seen = Seen()
        self.shards = {}
        self.waiting = {}
        self.tasks = set()
        self.greeted = self.asked = False

    async def run(self, uri):
        """One connection, until it ends."""
        connection = await aio_pika.connect(uri)
        async with connection:
            # What a lost connection left waits for nobody: unacknowledged messages come again.
            self.shards, self.waiting = {}, {}
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            # The same declaration as rateway's, so that it does not matter who comes first.
            self.exchange = await channel.declare_exchange(
                f"rateway-{self.cluster}", ExchangeType.DIRECT, durable=True)
            queue = await channel.declare_queue(f"worker-aio-{self.cluster}", durable=True, arguments={
                "x-max-length-bytes": 256 * 1024 * 1024, "x-overflow": "drop-head"})
            for event in EVENTS:
                await queue.bind(self.exchange, event)
            self.replies = await channel.declare_queue(exclusive=True)
            await self.replies.consume(self.on_reply, no_ack=True)
            say(f"worker: listening to rateway-{self.cluster}")
            closed = asyncio.get_running_loop().create_future()
            connection.close_callbacks.add(lambda *_: closed.done() or closed.set_result(None))
            await queue.consume(self.on_message)
            await closed

    async def on_message(self, message):
        """Puts a message behind those of its shard: shards run side by side, and one shard's events in order."""
        shard = message.headers.get("shard_id")
        before = self.shards.get(shard)
        task = asyncio.create_task(self.after(before, message))
        self.shards[shard] = task

    async def after(self, before, message):
        if before is not None:
            await asyncio.wait([before])
        try:
            await self.handle_once(message)
        except Exception as error:  # An event that cannot be handled must not stop its shard.
            print(f"worker: {message.routing_key}: {error!r}", file=sys.stderr)
            await message.reject(requeue=False)

    async def handle_once(self, message):
        may_have_come = message.headers.get("repeat") or message.redelivered
        if may_have_come and message.message_id in self.seen:
            say(f"worker: dropped the repeat {message.message_id}")
        else:
            self.handle(message.routing_key, message.headers, json.loads(message.body))
            self.seen.add(message.message_id)
        # Only now: should the worker die before, the broker sends it again.
        await message.ack()

    def handle(self, event, headers, d):
        shard = headers["shard_id"]
        if event == "RATEWAY_GAP":
            say(f"worker: shard {shard} lost events after seq {d['last_seq']}: {d['reason']}")
            return
        say(f"shard {shard} seq {headers['seq']} {event}")
        if not self.greeted:
            self.greeted = True
            self.start(self.set_presence(shard))
        if event == "GUILD_CREATE" and not self.asked:
            self.asked = True
            self.start(self.ask_guild(d["id"]))

    def start(self, coroutine):
        """Lets the shard go on while an answer is awaited."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def request(self, routing_key, body, headers=None, timeout_s=10):
        """Publishes a request and waits for the answer on our own queue."""
        correlation_id = uuid.uuid4().hex
        answer = asyncio.get_running_loop().create_future()
        self.waiting[correlation_id] = answer
        message = Message(
            json.dumps(body).encode(), headers=headers, reply_to=self.replies.name,
            correlation_id=correlation_id, delivery_mode=DeliveryMode.NOT_PERSISTENT)
        try:
            await self.exchange.publish(message, routing_key)
            return await asyncio.wait_for(answer, timeout_s)
        finally:
            self.waiting.pop(correlation_id, None)

    def on_reply(self, message):
        answer = self.waiting.get(message.correlation_id)
        if answer and not answer.done():
            answer.set_result(message)

    async def set_presence(self, shard):
        answer = await self.request("gateway", PRESENCE, headers={"shard_id": shard})
        say(f"worker: answer to the command: {answer.body.decode()}")

    async def ask_guild(self, guild_id):
        query = {"type": "Guild", "arguments": [guild_id], "return_routing_key": "unused"}
        answer = await self.request("cache", query)
        # Zero bytes: not held.
        name = json.loads(answer.body)["name"] if answer.body else None
        say(f"worker: the cache has guild {guild_id}: {name}")


async def main():
    worker = Worker(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    uris = os.environ.get("AMQP_URI", "amqp://127.0.0.1:5672").split(",")
    backoff_s = 1
    while True:
        for uri in uris:
            started = asyncio.get_running_loop().time()
            try:
                await worker.run(uri.strip())
            except (aio_pika.exceptions.AMQPError, OSError) as error:
                # The URI holds a password: only the kind of error is shown.
                print(f"worker: no connection: {type(error).__name__}", file=sys.stderr)
            if asyncio.get_running_loop().time() - started > BACKOFF_MAX_S:
                backoff_s = 1
        print(f"worker: trying again in {backoff_s} s", file=sys.stderr)
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1))
        backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
