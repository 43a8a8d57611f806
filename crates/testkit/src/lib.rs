//! What tests are made of: a clock that they move, randomness that they choose, and durations that read as prose.
//!
//! Nothing here is part of the product, and nothing here sleeps.

pub mod clock;
pub mod duration;
pub mod entropy;
mod invoice;
mod keys;
mod mailbox;
mod measured;
pub mod receiver;
pub mod world;

pub use clock::WorldClock;
pub use duration::Durations;
pub use entropy::SeededEntropy;
pub use mailbox::Mailbox;
pub use measured::{MEASURED, Measured};
pub use nephos_store::Engine;
pub use receiver::{Received, Receiver, Reply};
pub use world::World;
