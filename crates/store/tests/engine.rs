//! What both engines must do alike, and what each must do by itself.

mod engine {
    mod both;
    mod postgres;
    mod sqlite;
    pub mod statements;
}
