"""The full life of a worker with pika, against the broker at sys.argv[1]."""

import sys

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError, NackError

URI = sys.argv[1]
parameters = pika.URLParameters(URI)


def connect():
    return pika.BlockingConnection(parameters)


def refused(code, action):
    """`action` ends its channel with `code`."""
    channel = connection.channel()
    try:
        action(channel)
        # Waits for an answer, and gets the close.
        channel.basic_qos(prefetch_count=1)
    except ChannelClosedByBroker as error:
        assert error.reply_code == code, error
        return error.reply_text
    raise AssertionError(f"not refused with {code}")


connection = connect()
channel = connection.channel()
assert connection._impl.server_properties["product"] == b"rateway" or connection._impl.server_properties["product"] == "rateway"

# Topology, and a publisher with confirms.
channel.exchange_declare("p.events", "topic", durable=True)
channel.exchange_declare("p.events", passive=True)
channel.queue_declare("p.work", durable=True)
channel.queue_bind("p.work", "p.events", "guild.*.message")
publisher = connection.channel()
publisher.confirm_delivery()
for n in range(5):
    publisher.basic_publish("p.events", f"guild.{n}.message", str(n).encode(), mandatory=True)
try:
    publisher.basic_publish("p.events", "nobody", b"x", mandatory=True)
    raise AssertionError("an unroutable message was taken")
except UnroutableError as error:
    assert error.messages[0].method.reply_code == 312
assert channel.queue_declare("p.work", passive=True).method.message_count == 5

# Prefetch, acknowledgements, putting back.
channel.basic_qos(prefetch_count=2)
seen = []
for method, properties, body in channel.consume("p.work", inactivity_timeout=30):
    assert method is not None, "nothing came"
    seen.append((body, method.redelivered))
    if body == b"2" and not method.redelivered:
        channel.basic_nack(method.delivery_tag, requeue=True)
    elif body == b"3":
        channel.basic_reject(method.delivery_tag, requeue=False)
    else:
        channel.basic_ack(method.delivery_tag)
    if len(seen) == 6:
        break
channel.cancel()
assert (b"2", True) in seen and len([body for body, _ in seen]) == 6, seen
assert channel.queue_declare("p.work", passive=True).method.message_count == 0

# A headers exchange, and one bound to another.
channel.exchange_declare("p.headers", "headers")
channel.exchange_bind("p.headers", "p.events", "special")
channel.queue_declare("p.matched", exclusive=True)
channel.queue_bind("p.matched", "p.headers", "", {"x-match": "all", "kind": "x", "n": 1})
for headers in ({"kind": "x", "n": 1}, {"kind": "x", "n": 2}, {}):
    publisher.basic_publish("p.events", "special", b"h", pika.BasicProperties(headers=headers))
assert channel.queue_declare("p.matched", exclusive=True).method.message_count == 1
method, properties, body = channel.basic_get("p.matched", auto_ack=True)
assert properties.headers == {"kind": "x", "n": 1} and body == b"h"
assert channel.basic_get("p.matched", auto_ack=True)[0] is None

# RPC over a reply queue, and over direct reply-to.
asker = connect()
ask = asker.channel()
for reply_queue in (ask.queue_declare("", exclusive=True).method.queue, "amq.rabbitmq.reply-to"):
    answers = []
    ask.basic_consume(reply_queue, lambda ch, m, p, b: answers.append((p.correlation_id, b)), auto_ack=True)
    ask.basic_publish("", "p.work", b"question", pika.BasicProperties(reply_to=reply_queue, correlation_id="7"))
    question = None
    while question is None:
        method, question, body = channel.basic_get("p.work", auto_ack=True)
    channel.basic_publish("", question.reply_to, body[::-1], pika.BasicProperties(correlation_id=question.correlation_id))
    while not answers:
        asker.process_data_events(1)
    assert answers == [("7", b"noitseuq")], answers

# What is refused.
own = connect()
own.channel().queue_declare("p.own", exclusive=True)
assert "exclusive access" in refused(405, lambda c: c.queue_declare("p.own", exclusive=True))
own.close()
assert refused(404, lambda c: c.queue_declare("p.own", passive=True)) == "NOT_FOUND - no queue 'p.own' in vhost '/'"
assert refused(404, lambda c: c.exchange_declare("p.none", passive=True)).startswith("NOT_FOUND - no exchange 'p.none'")
refused(406, lambda c: c.queue_declare("p.work", durable=False))
refused(406, lambda c: c.basic_ack(99))
refused(403, lambda c: c.queue_declare("amq.mine"))
refused(404, lambda c: c.basic_publish("p.none", "", b""))

# A queue that is full refuses, with a nack to the publisher.
channel.queue_declare("p.full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
publisher.basic_publish("", "p.full", b"1")
try:
    publisher.basic_publish("", "p.full", b"2")
    raise AssertionError("a full queue took a message")
except NackError:
    pass

# Dead letters of rejected and of old messages.
channel.queue_declare("p.dead")
channel.queue_declare(
    "p.retry", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "p.dead", "x-message-ttl": 50}
)
publisher.basic_publish("", "p.retry", b"old")
dead = None
while dead is None:
    method, dead, body = channel.basic_get("p.dead", auto_ack=True)
assert body == b"old" and dead.headers["x-death"][0]["reason"] == "expired", dead.headers

# Purging, deleting, and a consumer that is told of it.
publisher.basic_publish("", "p.work", b"x")
assert channel.queue_purge("p.work").method.message_count == 1
told = []
cancelled = connection.channel()
cancelled.add_on_cancel_callback(lambda frame: told.append(frame.method.consumer_tag))
tag = cancelled.basic_consume("p.work", lambda *arguments: None)
channel.queue_delete("p.work")
while not told:
    connection.process_data_events(1)
assert told == [tag]
for name in ("p.full", "p.dead", "p.retry"):
    channel.queue_delete(name)
for name in ("p.events", "p.headers"):
    channel.exchange_delete(name)

# A large message in many frames comes back as it went.
large = bytes(range(256)) * 20_000
channel.queue_declare("p.large", exclusive=True)
publisher.basic_publish("", "p.large", large)
assert channel.basic_get("p.large", auto_ack=True)[2] == large
asker.close()
connection.close()
print("lived")
