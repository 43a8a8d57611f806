//! The binary `nephos`: the server, its administration, and a client of its API.
//!
//! The composition root: here, and only here, are the machine's clock, its randomness, its files and its signals put
//! together with the parts that take them as arguments.

mod admin;
mod cli;
mod client;
mod config;
mod data_dir;
mod listen;
mod logging;
mod output;
mod system;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let clock = system::SystemClock::start();
    match client::run(cli.command, &clock, &system::SystemEntropy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(&format!("nephos: {failure}"));
            ExitCode::from(failure.exit_status())
        }
    }
}
