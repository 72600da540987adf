"""The full life of a worker with aio-pika, against the broker at sys.argv[1]."""

import asyncio
import sys

import aio_pika
from aio_pika.exceptions import ChannelClosed, ChannelInvalidStateError, DeliveryError
from aio_pika.patterns import RPC


async def refused(connection, words, action):
    channel = await connection.channel()
    try:
        await action(channel)
    except (ChannelClosed, ChannelInvalidStateError) as error:
        assert words in str(error), error
        return
    raise AssertionError(f"not refused: {words}")


async def main():
    connection = await aio_pika.connect_robust(sys.argv[1])
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.set_qos(prefetch_count=3)
    exchange = await channel.declare_exchange("a.events", aio_pika.ExchangeType.DIRECT, durable=True)
    queue = await channel.declare_queue("a.work", durable=True)
    await queue.bind(exchange, "MESSAGE_CREATE")
    await asyncio.gather(
        *(exchange.publish(aio_pika.Message(str(n).encode(), headers={"shard_id": n}), "MESSAGE_CREATE") for n in range(50))
    )
    try:
        await exchange.publish(aio_pika.Message(b"x"), "nobody", mandatory=True)
        raise AssertionError("an unroutable message was taken")
    except DeliveryError:
        pass
    seen, put_back = [], set()
    async with queue.iterator() as messages:
        async for message in messages:
            number = int(message.body)
            if number % 7 == 0 and number not in put_back:
                assert not message.redelivered
                put_back.add(number)
                await message.nack(requeue=True)
                continue
            assert message.headers["shard_id"] == number
            assert message.redelivered or number not in put_back
            seen.append(number)
            await message.ack()
            if len(seen) == 50:
                break
    assert sorted(seen) == list(range(50)), seen
    again = await channel.declare_queue("a.work", durable=True)
    assert again.declaration_result.message_count == 0

    # Topic, fanout, and an exchange bound to another.
    topic = await channel.declare_exchange("a.topic", aio_pika.ExchangeType.TOPIC, auto_delete=True)
    tail = await channel.declare_exchange("a.tail", aio_pika.ExchangeType.FANOUT)
    await tail.bind(topic, "a.#")
    last = await channel.declare_queue(exclusive=True)
    await last.bind(tail)
    await topic.publish(aio_pika.Message(b"there"), "a.b.c")
    assert (await last.get(no_ack=True)).body == b"there"
    assert await last.get(no_ack=True, fail=False) is None

    # aio-pika's own RPC: a reply queue, mandatory messages, a dead letter exchange, expirations.
    rpc = await RPC.create(channel)

    async def multiply(*, x, y):
        return x * y

    await rpc.register("multiply", multiply, auto_delete=True)
    assert await rpc.proxy.multiply(x=6, y=7) == 42
    await rpc.close()

    await refused(connection, "no queue 'a.none'", lambda c: c.declare_queue("a.none", passive=True))
    await refused(connection, "no exchange 'a.none'", lambda c: c.get_exchange("a.none"))
    await refused(connection, "inequivalent arg 'durable'", lambda c: c.declare_queue("a.work", durable=False))
    other = await aio_pika.connect(sys.argv[1])
    own = await (await other.channel()).declare_queue("a.own", exclusive=True)
    await refused(connection, "exclusive access", lambda c: c.declare_queue("a.own", exclusive=True))
    await own.delete()
    await other.close()

    await exchange.publish(aio_pika.Message(b"x"), "MESSAGE_CREATE")
    await queue.purge()
    await queue.unbind(exchange, "MESSAGE_CREATE")
    await queue.delete()
    await exchange.delete()
    await tail.delete()
    await connection.close()
    print("lived")


asyncio.run(asyncio.wait_for(main(), 80))
