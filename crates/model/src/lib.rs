//! nephos.
