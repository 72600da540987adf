"""Publishes with pika until the broker at sys.argv[1] blocks it, takes everything, and goes on."""

import sys

import pika

told = []
parameters = pika.URLParameters(sys.argv[1])
publishing = pika.BlockingConnection(parameters)
publishing.add_on_connection_blocked_callback(lambda connection, method: told.append("blocked"))
publishing.add_on_connection_unblocked_callback(lambda connection, method: told.append("unblocked"))
channel = publishing.channel()
channel.queue_declare("b.work")
body = b"x" * 100_000
sent = 0
while not told:
    channel.basic_publish("", "b.work", body)
    publishing.process_data_events(0)
    sent += 1
    assert sent < 1000, "never blocked"
assert told[0] == "blocked"
# What another connection asks is answered meanwhile.
taking = pika.BlockingConnection(parameters)
taken = taking.channel()
count = 0
# What was on its way already may block it once more.
while told[-1] != "unblocked" or count < sent:
    method, properties, got = taken.basic_get("b.work", auto_ack=True)
    if method is not None:
        assert got == body
        count += 1
    publishing.process_data_events(0)
assert count == sent
channel.basic_publish("", "b.work", b"after")
while taken.basic_get("b.work", auto_ack=True)[0] is None:
    publishing.process_data_events(0)
taken.queue_delete("b.work")
publishing.close()
taking.close()
print("lived")
