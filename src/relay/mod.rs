//! Where stream, gateway and amqp meet: the flow of one payload, the task of one shard, the outbox of one
//! cluster, and the names that workers know.

pub mod command;
pub mod filter;
pub mod flow;
pub mod gap;
pub mod outbox;
pub mod query;
pub mod task;
pub mod topology;

pub use filter::EventFilter;
pub use flow::Framing;
pub use outbox::{Batch, Outbox, Progress};
pub use task::{ShardTask, TaskInput};
