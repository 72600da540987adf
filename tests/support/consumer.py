#!/usr/bin/env python3
"""A worker that writes down what it receives, with a client library that others wrote (pika).

Binds one queue per cluster to every event name given and prints a JSON line per message: cluster, key, id,
headers, properties and the body in base64. Reconnects for as long as it lives, so that a test may restart the
broker under it. Lines on standard input are commands: {"cluster": 1, "key": "gateway", "headers": {..},
"body": "..", "reply": true} publishes to rateway; an answer is printed as a line with "answer".
"""
import argparse
import base64
import json
import queue
import ssl
import sys
import threading
import time

import pika

arguments = argparse.ArgumentParser()
arguments.add_argument("--uri", required=True)
arguments.add_argument("--ca")
arguments.add_argument("--clusters", type=int, nargs="+", default=[1])
arguments.add_argument("--queue", required=True, help="prefix of the queue names")
arguments.add_argument("--events", required=True, help="event names, separated by commas")
arguments.add_argument("--answer-keys", default="", help="routing keys of cache answers, separated by commas")
args = arguments.parse_args()

commands = queue.Queue()


def read_commands():
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def headers_of(properties):
    return {key: value for key, value in (properties.headers or {}).items()}


def run():
    parameters = pika.URLParameters(args.uri)
    if args.ca:
        parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(cafile=args.ca), "localhost")
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=2000)
    reply_queue = channel.queue_declare("", exclusive=True).method.queue

    def on_answer(_channel, method, properties, body):
        say({
            "answer": body.decode(),
            "correlation_id": properties.correlation_id,
            "headers": headers_of(properties),
        })

    channel.basic_consume(reply_queue, on_answer, auto_ack=True)
    for cluster in args.clusters:
        exchange = f"rateway-{cluster}"
        # The same declaration as rateway's: it must not matter who comes first.
        channel.exchange_declare(exchange, "direct", durable=True)
        name = f"{args.queue}-{cluster}"
        channel.queue_declare(name, durable=True, arguments={"x-expires": 600000})
        for event in filter(None, args.events.split(",") + args.answer_keys.split(",")):
            channel.queue_bind(name, exchange, event)

        def on_message(channel, method, properties, body, cluster=cluster):
            say({
                "cluster": cluster,
                "key": method.routing_key,
                "id": properties.message_id,
                "headers": headers_of(properties),
                "app_id": properties.app_id,
                "content_type": properties.content_type,
                "delivery_mode": properties.delivery_mode,
                "timestamp": properties.timestamp,
                "correlation_id": properties.correlation_id,
                "body": base64.b64encode(body).decode(),
            })
            channel.basic_ack(method.delivery_tag)

        channel.basic_consume(name, on_message)
    say({"ready": True})
    while True:
        connection.process_data_events(time_limit=0.05)
        while not commands.empty():
            command = commands.get()
            if command is None:
                connection.close()
                return
            properties = pika.BasicProperties(headers=command.get("headers"))
            if command.get("reply"):
                properties.reply_to = reply_queue
                properties.correlation_id = command.get("correlation_id", "c1")
            channel.basic_publish(f"rateway-{command['cluster']}", command["key"], command["body"], properties)


threading.Thread(target=read_commands, daemon=True).start()
while True:
    try:
        run()
        break
    except (pika.exceptions.AMQPError, OSError) as error:
        say({"disconnected": repr(error)})
        time.sleep(0.2)
