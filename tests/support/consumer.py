#!/usr/bin/env python3
"""A worker that writes down what it receives, with a client library that others wrote (pika).

Binds one durable queue per cluster to every routing key given and prints a JSON line per message. It comes back for as
long as it lives, so that a test may restart the broker under it. Lines on standard input are orders:

    {"publish": {"exchange": .., "key": .., "headers": {name: [type, value]}, "body": .., "reply": id or null, "id": message_id}}
    {"declare": {"queue": .., "durable": .., "arguments": {..}}}

Bodies travel as Latin-1, a character per byte. Header types are AMQP's letters, in both directions: pika hides them, and
rateway's contract names them. RATEWAY_WORKER_URI holds the broker's address, as an argument would show in `ps`.
"""
import argparse
import json
import os
import queue
import ssl
import struct
import sys
import threading
import time

import pika
import pika.data

INTEGERS = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">Q"}


class Typed:
    """A header's value with the letter of its type."""

    def __init__(self, kind, value):
        self.kind = kind
        self.value = value


def encode_value(pieces, value):
    if not isinstance(value, Typed):
        return encode_plain(pieces, value)
    if value.kind in INTEGERS:
        packed = value.kind.encode() + struct.pack(INTEGERS[value.kind], value.value)
        pieces.append(packed)
        return len(packed)
    return encode_plain(pieces, value.value)


def decode_value(encoded, offset):
    kind = encoded[offset:offset + 1].decode("latin-1")
    value, offset = decode_plain(encoded, offset)
    return Typed(kind, value), offset


encode_plain, pika.data.encode_value = pika.data.encode_value, encode_value
decode_plain, pika.data.decode_value = pika.data.decode_value, decode_value

arguments = argparse.ArgumentParser()
arguments.add_argument("--ca")
arguments.add_argument("--clusters", type=int, nargs="*", default=[])
arguments.add_argument("--keys", required=True, help="routing keys, separated by commas")
args = arguments.parse_args()

orders = queue.Queue()


def read_orders():
    for line in sys.stdin:
        orders.put(json.loads(line))
    orders.put(None)


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def told(value):
    return str(value.value) if isinstance(value.value, (bytes, Typed)) else value.value


def on_message(cluster):
    def write_down(channel, method, properties, body):
        say({
            "cluster": cluster,
            "key": method.routing_key,
            "redelivered": method.redelivered,
            "message_id": properties.message_id,
            "headers": {name: [value.kind, told(value)] for name, value in (properties.headers or {}).items()},
            "app_id": properties.app_id,
            "content_type": properties.content_type,
            "delivery_mode": properties.delivery_mode,
            "timestamp": properties.timestamp,
            "correlation_id": properties.correlation_id,
            "body": body.decode("latin-1"),
        })
        channel.basic_ack(method.delivery_tag)
    return write_down


def obey(connection, channel, replies, order):
    if "declare" in order:
        declare = order["declare"]
        channel.queue_declare(declare["queue"], durable=declare["durable"], arguments=declare.get("arguments"))
        say({"declared": declare["queue"]})
        return
    publish = order["publish"]
    headers = {name: Typed(kind, value) for name, (kind, value) in publish["headers"].items()}
    properties = pika.BasicProperties(headers=headers, message_id=publish.get("id"))
    if publish.get("reply") is not None:
        properties.reply_to = replies
        properties.correlation_id = publish["reply"]
    channel.basic_publish(publish["exchange"], publish["key"], publish["body"].encode("latin-1"), properties)


def run():
    parameters = pika.URLParameters(os.environ["RATEWAY_WORKER_URI"])
    if args.ca:
        parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(cafile=args.ca), "localhost")
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1000)
    replies = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(replies, on_message(0))
    for cluster in args.clusters:
        exchange, name = f"rateway-{cluster}", f"worker-{cluster}"
        # The same declaration as rateway's: it must not matter who comes first.
        channel.exchange_declare(exchange, "direct", durable=True)
        channel.queue_declare(name, durable=True)
        for key in args.keys.split(","):
            channel.queue_bind(name, exchange, key)
        channel.basic_consume(name, on_message(cluster))
    say({"ready": True})
    while True:
        connection.process_data_events(time_limit=0.02)
        while not orders.empty():
            order = orders.get()
            if order is None:
                connection.close()
                return
            obey(connection, channel, replies, order)


threading.Thread(target=read_orders, daemon=True).start()
while True:
    try:
        run()
        break
    except (pika.exceptions.AMQPError, OSError) as error:
        say({"disconnected": repr(error)})
        time.sleep(0.2)
