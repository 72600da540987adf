// The full life of a worker with amqplib, against the broker at process.argv[2].
'use strict';
const assert = require('assert');
const amqp = require('amqplib');

async function refused(connection, words, action) {
  const channel = await connection.createChannel();
  const failed = new Promise((resolve) => channel.on('error', resolve));
  await Promise.race([Promise.resolve(action(channel)).catch((error) => error), failed]);
  const error = await failed;
  assert(String(error).includes(words), String(error));
}

async function main() {
  const connection = await amqp.connect(process.argv[2]);
  assert.strictEqual(connection.connection.serverProperties.product, 'rateway');
  const channel = await connection.createChannel();
  await channel.assertExchange('n.events', 'topic', { durable: true });
  await channel.assertExchange('n.tail', 'headers', { durable: false });
  await channel.bindExchange('n.tail', 'n.events', 'h.#');
  await channel.assertQueue('n.work', { durable: true });
  await channel.bindQueue('n.work', 'n.events', 'guild.*');
  await channel.assertQueue('n.matched', { exclusive: true });
  await channel.bindQueue('n.matched', 'n.tail', '', { 'x-match': 'any', a: 1, b: 'two' });

  const publisher = await connection.createConfirmChannel();
  const returned = [];
  publisher.on('return', (message) => returned.push(message.fields.replyCode));
  for (let n = 0; n < 20; n++) publisher.publish('n.events', `guild.${n}`, Buffer.from(String(n)), { headers: { n } });
  publisher.publish('n.events', 'nobody', Buffer.from('x'), { mandatory: true });
  publisher.publish('n.events', 'h.x', Buffer.from('h'), { headers: { b: 'two' } });
  publisher.publish('n.events', 'h.x', Buffer.from('h'), { headers: { b: 'three' } });
  await publisher.waitForConfirms();
  assert.deepStrictEqual(returned, [312]);
  assert.strictEqual((await channel.checkQueue('n.matched')).messageCount, 1);

  await channel.prefetch(4);
  const seen = [];
  await new Promise((resolve) => {
    channel.consume('n.work', (message) => {
      const text = message.content.toString();
      if (text === '5' && !message.fields.redelivered) return channel.nack(message, false, true);
      seen.push(Number(text));
      channel.ack(message);
      if (seen.length === 20) resolve();
    }, { consumerTag: 'n' });
  });
  await channel.cancel('n');
  assert.deepStrictEqual([...seen].sort((a, b) => a - b), [...Array(20).keys()]);

  // RPC over direct reply-to.
  const answer = new Promise((resolve) => {
    channel.consume('amq.rabbitmq.reply-to', (message) => resolve(message.content.toString()), { noAck: true });
  });
  channel.sendToQueue('n.work', Buffer.from('question'), { replyTo: 'amq.rabbitmq.reply-to' });
  let question = false;
  while (!question) question = await channel.get('n.work', { noAck: true });
  publisher.sendToQueue(question.properties.replyTo, Buffer.from('answer'));
  assert.strictEqual(await answer, 'answer');

  await refused(connection, "no queue 'n.none'", (c) => c.checkQueue('n.none'));
  await refused(connection, "no exchange 'n.none'", (c) => c.checkExchange('n.none'));
  await refused(connection, "inequivalent arg 'durable'", (c) => c.assertQueue('n.work', { durable: false }));
  await refused(connection, 'unknown delivery tag', (c) => c.ack({ fields: { deliveryTag: 99 } }));
  const other = await amqp.connect(process.argv[2]);
  await (await other.createChannel()).assertQueue('n.own', { exclusive: true });
  await refused(connection, 'RESOURCE_LOCKED', (c) => c.assertQueue('n.own', { exclusive: true }));
  await other.close();

  // A consumer whose queue goes is told with null.
  const gone = new Promise((resolve) => channel.consume('n.work', (message) => { if (message === null) resolve(); }));
  await publisher.deleteQueue('n.work');
  await gone;
  await channel.deleteExchange('n.events');
  await channel.deleteExchange('n.tail');
  await connection.close();
  console.log('lived');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
