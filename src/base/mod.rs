//! Small tools that every layer may use and that know nothing of any protocol.

pub mod buf;
#[cfg(feature = "program")]
pub mod deflate;
#[cfg(feature = "program")]
pub mod digest;
pub mod histogram;
pub mod loopback;
pub mod rng;
pub mod secret;
pub mod timers;

pub use buf::Buf;
#[cfg(feature = "program")]
pub use digest::{sha256_base64, sha256_hex};
pub use histogram::Histogram;
pub use rng::Rng;
pub use secret::Secret;
pub use timers::Timers;
