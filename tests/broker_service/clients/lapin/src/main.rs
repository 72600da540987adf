//! The full life of a worker with lapin, against the broker in the first argument.

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind, publisher_confirm::Confirmation};

async fn open(uri: &str) -> Connection {
    Connection::connect(uri, ConnectionProperties::default()).await.expect("a connection")
}

async fn channel(connection: &Connection) -> Channel {
    connection.create_channel().await.expect("a channel")
}

fn refused<T: std::fmt::Debug>(words: &str, result: lapin::Result<T>) {
    let error = result.expect_err(words).to_string();
    assert!(error.contains(words), "{error}");
}

async fn life(uri: &str) {
    let connection = open(uri).await;
    let plain = FieldTable::default;
    let ch = channel(&connection).await;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    ch.exchange_declare("l.events".into(), ExchangeKind::Topic, durable, plain()).await.expect("an exchange");
    ch.exchange_declare("l.tail".into(), ExchangeKind::Fanout, Default::default(), plain()).await.expect("another");
    ch.exchange_bind("l.tail".into(), "l.events".into(), "#.tail".into(), Default::default(), plain()).await.expect("bound");
    for name in ["l.work", "l.last"] {
        ch.queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, plain())
            .await
            .expect("a queue");
    }
    ch.queue_bind("l.work".into(), "l.events".into(), "guild.*".into(), Default::default(), plain()).await.expect("bound");
    ch.queue_bind("l.last".into(), "l.tail".into(), "".into(), Default::default(), plain()).await.expect("bound");

    let publisher = channel(&connection).await;
    publisher.confirm_select(Default::default()).await.expect("confirms");
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    for n in 0..20u8 {
        let key = format!("guild.{n}");
        let confirm = publisher
            .basic_publish("l.events".into(), key.as_str().into(), mandatory, &[n], BasicProperties::default())
            .await
            .expect("published")
            .await
            .expect("confirmed");
        assert_eq!(confirm, Confirmation::Ack(None));
    }
    let confirm = publisher
        .basic_publish("l.events".into(), "nobody".into(), mandatory, b"x", BasicProperties::default())
        .await
        .expect("published")
        .await
        .expect("confirmed");
    assert!(matches!(confirm, Confirmation::Ack(Some(ref returned)) if returned.reply_code == 312), "{confirm:?}");

    ch.basic_qos(3, Default::default()).await.expect("a prefetch");
    let mut consumer =
        ch.basic_consume("l.work".into(), "l".into(), Default::default(), plain()).await.expect("a consumer");
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let delivery = consumer.next().await.expect("a delivery").expect("no error");
        if delivery.data == [5] && !delivery.redelivered {
            delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await.expect("put back");
            continue;
        }
        seen.extend_from_slice(&delivery.data);
        delivery.ack(Default::default()).await.expect("acknowledged");
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
    ch.basic_cancel("l".into(), Default::default()).await.expect("cancelled");

    publisher
        .basic_publish("l.events".into(), "a.b.tail".into(), Default::default(), b"there", BasicProperties::default())
        .await
        .expect("published")
        .await
        .expect("confirmed");
    let got = ch.basic_get("l.last".into(), BasicGetOptions { no_ack: true }).await.expect("an answer");
    assert_eq!(got.expect("a message").delivery.data, b"there");

    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    refused("no queue 'l.none'", channel(&connection).await.queue_declare("l.none".into(), passive, plain()).await);
    let transient = QueueDeclareOptions::default();
    refused("inequivalent arg 'durable'", channel(&connection).await.queue_declare("l.work".into(), transient, plain()).await);
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let other = open(uri).await;
    channel(&other).await.queue_declare("l.own".into(), exclusive, plain()).await.expect("a queue");
    refused("RESOURCE_LOCKED", channel(&connection).await.queue_declare("l.own".into(), exclusive, plain()).await);
    other.close(200, "".into()).await.expect("closed");
    let mut odd = plain();
    odd.insert("x-message-ttl".into(), AMQPValue::LongString("soon".into()));
    refused("invalid arg 'x-message-ttl'", channel(&connection).await.queue_declare("l.odd".into(), transient, odd).await);

    let last = channel(&connection).await;
    last.basic_qos(1, BasicQosOptions { global: true }).await.expect("a prefetch");
    for name in ["l.work", "l.last"] {
        last.queue_purge(name.into(), Default::default()).await.expect("purged");
        last.queue_delete(name.into(), Default::default()).await.expect("deleted");
    }
    for name in ["l.events", "l.tail"] {
        last.exchange_delete(name.into(), Default::default()).await.expect("deleted");
    }
    connection.close(200, "".into()).await.expect("closed");
}

fn main() {
    let uri = std::env::args().nth(1).expect("the broker's URI");
    futures_lite::future::block_on(life(&uri));
    println!("lived");
}
