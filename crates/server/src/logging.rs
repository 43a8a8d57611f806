//! Log lines, on the standard error.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};

/// Sends log lines to the standard error from here on. Lines of libraries begin at `warn`.
pub fn start(format: LogFormat, level: LogLevel) {
    let own = ["nephos", "nephos_control", "nephos_driver", "nephos_http", "nephos_store"];
    let directives: Vec<String> = own.iter().map(|target| format!("{target}={}", level.as_str())).collect();
    let filter = EnvFilter::new(format!("warn,{}", directives.join(",")));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    // Only a second call in the same process can fail, and then the first one's choice stays.
    _ = match format {
        LogFormat::Text => subscriber.with_ansi(colours).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
    };
}
