//! What both engines must do alike, and what each must do by itself.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod engine {
    mod both;
    mod postgres;
    mod sqlite;
    pub mod statements;
}
