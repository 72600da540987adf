#!/usr/bin/env node
// A worker with amqplib: handles events in order within each shard, sends a command, asks the cache, comes back.
//
//     cd examples/node && npm ci && AMQP_URI=amqp://127.0.0.1:5672 node worker.js [CLUSTER]
//
// docs/guide.md says why it does what it does.
'use strict';

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const amqp = require('amqplib');

const EVENTS = ['READY', 'GUILD_CREATE', 'MESSAGE_CREATE', 'RATEWAY_GAP'];
const PRESENCE = { op: 3, d: { since: null, activities: [], status: 'idle', afk: false } };
const PREFETCH = 100;
const SEEN_MAX = 10_000;
const BACKOFF_MAX_MS = 30_000;

const cluster = Number(process.argv[2] ?? 1);
const exchange = `rateway-${cluster}`;

// Ids of events that were handled, the newest ones. Several workers on a queue share such a set, in Redis say.
const seen = new Set();
let greeted = false;
let asked = false;

// One connection, until it ends.
async function run(uri) {
  const connection = await amqp.connect(uri);
  const closed = new Promise((resolve) => connection.once('close', resolve));
  connection.on('error', (error) => console.error(`worker: ${error.message}`));
  const channel = await connection.createChannel();
  channel.on('error', (error) => console.error(`worker: ${error.message}`));
  // A closed channel is of no use: begin anew, as after a lost connection.
  channel.once('close', () => connection.close().catch(() => {}));
  await channel.prefetch(PREFETCH);
  // The same declaration as rateway's, so that it does not matter who comes first.
  await channel.assertExchange(exchange, 'direct', { durable: true });
  const { queue } = await channel.assertQueue(`worker-node-${cluster}`, {
    durable: true,
    arguments: { 'x-max-length-bytes': 256 * 1024 * 1024, 'x-overflow': 'drop-head' },
  });
  for (const event of EVENTS) await channel.bindQueue(queue, exchange, event);
  const request = await requests(channel);
  console.log(`worker: listening to ${exchange}`);

  // Shards run side by side, and one shard's events in order.
  const shards = new Map();
  await channel.consume(queue, (message) => {
    if (message === null) return void channel.close().catch(() => {}); // The queue was deleted.
    const shard = message.properties.headers.shard_id;
    const before = shards.get(shard) ?? Promise.resolve();
    shards.set(shard, before.then(() => handleOnce(channel, message, request)).catch((error) => {
      // An event that cannot be handled must not stop its shard.
      console.error(`worker: ${message.fields.routingKey}: ${error.message}`);
      try { channel.nack(message, false, false); } catch { /* The channel is gone, and the message comes again. */ }
    }));
  });
  await closed;
}

async function handleOnce(channel, message, request) {
  const { messageId, headers } = message.properties;
  if ((headers.repeat || message.fields.redelivered) && seen.has(messageId)) {
    console.log(`worker: dropped the repeat ${messageId}`);
  } else {
    await handle(message.fields.routingKey, headers, JSON.parse(message.content), request);
    seen.add(messageId);
    if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value);
  }
  // Only now: should the worker die before, the broker sends it again.
  channel.ack(message);
}

async function handle(event, headers, d, request) {
  if (event === 'RATEWAY_GAP') {
    console.log(`worker: shard ${headers.shard_id} lost events after seq ${d.last_seq}: ${d.reason}`);
    return;
  }
  console.log(`shard ${headers.shard_id} seq ${headers.seq} ${event}`);
  // Not awaited: the shard goes on while an answer is on its way.
  if (!greeted) {
    greeted = true;
    setPresence(headers.shard_id, request).catch((error) => console.error(`worker: ${error.message}`));
  }
  if (event === 'GUILD_CREATE' && !asked) {
    asked = true;
    askGuild(d.id, request).catch((error) => console.error(`worker: ${error.message}`));
  }
}

// Gives back a function that publishes a request and waits for the answer on a queue of our own.
async function requests(channel) {
  const waiting = new Map();
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
  await channel.consume(replyTo, (message) => {
    waiting.get(message?.properties.correlationId)?.(message.content);
  }, { noAck: true });
  return async (routingKey, body, headers = {}, timeoutMs = 10_000) => {
    const correlationId = randomUUID();
    try {
      return await new Promise((resolve, reject) => {
        waiting.set(correlationId, resolve);
        setTimeout(() => reject(new Error(`no answer to ${routingKey}`)), timeoutMs).unref();
        channel.publish(exchange, routingKey, Buffer.from(JSON.stringify(body)), { headers, replyTo, correlationId });
      });
    } finally {
      waiting.delete(correlationId);
    }
  };
}

async function setPresence(shard, request) {
  const answer = await request('gateway', PRESENCE, { shard_id: shard });
  console.log(`worker: answer to the command: ${answer}`);
}

async function askGuild(guildId, request) {
  const query = { type: 'Guild', arguments: [guildId], return_routing_key: 'unused' };
  const answer = await request('cache', query);
  // Zero bytes: not held.
  const name = answer.length > 0 ? JSON.parse(answer).name : null;
  console.log(`worker: the cache has guild ${guildId}: ${name}`);
}

async function main() {
  const uris = (process.env.AMQP_URI ?? 'amqp://127.0.0.1:5672').split(',');
  for (let backoffMs = 1000; ; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
    for (const uri of uris) {
      const started = Date.now();
      try {
        await run(uri.trim());
      } catch (error) {
        // The URI holds a password: only the error is shown.
        console.error(`worker: no connection: ${error.code ?? error.name}`);
      }
      if (Date.now() - started > BACKOFF_MAX_MS) backoffMs = 1000;
    }
    console.error(`worker: trying again in ${backoffMs} ms`);
    await sleep(backoffMs * (0.5 + Math.random() / 2));
  }
}

main();
