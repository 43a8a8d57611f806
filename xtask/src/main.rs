//! The project's own chores: `cargo xtask CHORE`.
//!
//! Deliberately not here: anything a released binary needs.

mod openapi;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHORE

  openapi [--check]
          write the OpenAPI documents into openapi/; with --check only compare them
  openapi --breaking BASE
          fail on what breaks clients of the documents committed at BASE; openapi/breaks.toml admits what is meant
  tidy    check layering, sizes, bans, module headers, texts and links; ends with 1 when something is wrong";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["openapi"] => openapi::write(),
        ["openapi", "--check"] => openapi::check(),
        ["openapi", "--breaking", base] => openapi::breaking(base),
        ["tidy"] => tidy::run(),
        ["help" | "--help" | "-h"] | [] => {
            eprintln!("{USAGE}");
            return if words.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
        other => {
            eprintln!("xtask: there is no chore \"{}\"\n\n{USAGE}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::FAILURE
        }
    }
}
