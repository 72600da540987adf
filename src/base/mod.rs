//! Small tools that every layer may use and that know nothing of any protocol.

pub mod buf;
#[cfg(feature = "program")]
pub mod deflate;
pub mod rng;
pub mod secret;
pub mod timers;

pub use buf::Buf;
pub use rng::Rng;
pub use secret::Secret;
pub use timers::Timers;
