//! The binary `nephos`: the server, its administration, and a client of its API.
//!
//! The composition root: here, and only here, are the machine's clock, its randomness, its files and its signals put
//! together with the parts that take them as arguments.

mod admin;
mod cli;
mod client;
mod config;
mod data_dir;
mod doctor;
mod installation;
mod listen;
mod logging;
mod mail;
mod metrics;
mod operator;
mod output;
mod restore;
mod serve;
mod system;
mod telemetry;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};
use nephos_model::{Clock, Entropy};

use cli::{Cli, Command, ConfigCommand};
use config::{Config, ConfigError, KEYS, Loaded, LogFormat, LogLevel, Sources};
use logging::Logging;
use telemetry::Exporter;

/// Requests allocate on one thread and are often freed on another, which this allocator takes lightly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status of wrong usage and wrong configuration, the same as the parser's of the command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The same whoever starts it: the data folder's own mode keeps others out, and what is handed to the hypervisor's
    // users must be readable for them.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o022));
    let clock: Arc<dyn Clock> = Arc::new(system::SystemClock::start());
    let entropy: Arc<dyn Entropy> = Arc::new(system::SystemEntropy);
    match dispatch(cli.command, clock, entropy) {
        Ok(code) => match output::lost() {
            Some(error) => {
                output::say(&format!("nephos: it is done, but the result could not be printed: {error}"));
                ExitCode::FAILURE
            }
            None => code,
        },
        Err(error) => {
            output::say(&format!("nephos: {}", output::chain(error.as_ref())));
            ExitCode::from(if error.is::<ConfigError>() { USAGE } else { 1 })
        }
    }
}

fn dispatch(command: Command, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<ExitCode> {
    if let Some((place, request, output)) = operator::request(&command)? {
        logging::start(QUIET, None);
        run_one(operator::run(&place, request, output, clock, entropy))?;
        return Ok(ExitCode::SUCCESS);
    }
    match command {
        Command::Serve(settings) => {
            let loaded = Loaded::read(&Sources::of_process(settings.place.config.clone(), settings.flags()))?;
            let exporter = start_telemetry(&loaded.config, &clock, &*entropy)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.context("the runtime can't be started")?.block_on(serve::run(loaded, clock, entropy, exporter))?;
        }
        Command::Config(ConfigCommand::Check(settings)) => {
            let loaded = Loaded::read(&Sources::of_process(settings.place.config.clone(), settings.flags()))?;
            output::raw(&loaded.to_toml());
        }
        Command::Config(ConfigCommand::Keys) => {
            for key in KEYS {
                output::line(&format!(
                    "{}\n   {}\n    takes {}; or {}",
                    key.name,
                    key.about,
                    key.expects,
                    key.variable()
                ));
            }
        }
        Command::Doctor(a) => {
            let sources = Sources::of_process(a.settings.place.config.clone(), a.settings.flags());
            let loaded = Loaded::read(&sources)?;
            let is_fit = run_one(doctor::run(&loaded, clock, a.printed.output))?;
            return Ok(if is_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Restore(a) => {
            logging::start(QUIET, None);
            let loaded = operator::load(&a.place)?;
            let done = run_one(restore::restore(&loaded.config, &a.file, a.force, clock, entropy))?;
            match a.printed.output {
                output::Output::Json => output::json(&done),
                output::Output::Table => output::raw(&output::record(&done)),
            }
        }
        Command::Completions(a) => {
            let mut text = Vec::new();
            clap_complete::generate(a.shell, &mut Cli::command(), "nephos", &mut text);
            output::raw(&String::from_utf8_lossy(&text));
        }
        command => {
            return Ok(match client::run(command, &*clock, &*entropy) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    output::say(&format!("nephos: {failure}"));
                    ExitCode::from(failure.exit_status())
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Log lines of a command.
const QUIET: Logging = Logging { format: LogFormat::Text, level: LogLevel::Warn, access: false };

/// Log lines of a server from here on, and its traces to whoever is to have them.
fn start_telemetry(config: &Config, clock: &Arc<dyn Clock>, entropy: &dyn Entropy) -> Result<Option<Arc<Exporter>>> {
    let logging = Logging { format: config.log, level: config.log_level, access: config.access_log };
    let endpoint = config.telemetry_otlp_endpoint.as_ref().map(|endpoint| endpoint.0.as_str());
    let percent = config.telemetry_sample_percent.0;
    let settings = telemetry::Settings::read(endpoint, percent, |name| std::env::var(name).ok());
    let Some(settings) = settings else {
        logging::start(logging, None);
        return Ok(None);
    };
    let (url, notes) = (settings.url.clone(), settings.notes.clone());
    let (exporter, spans) = Exporter::start(settings, Arc::clone(clock), entropy)?;
    logging::start(logging, Some(spans));
    tracing::info!(url, "traces are sent");
    for note in notes {
        tracing::warn!("{note}");
    }
    Ok(Some(Arc::new(exporter)))
}

/// Runs one piece of work to its end, on this thread.
fn run_one<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the runtime can't be started")?.block_on(work)
}
