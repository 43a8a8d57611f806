//! Short-lived subprocesses (`qemu-img`, `--version`), bounded in time and output.

use std::process::{Command, Stdio};
use std::time::Duration;

use nephos_model::Clock;
use tokio::io::AsyncReadExt;

use super::sys::{Cage, confine};

/// Bytes of output that are read of a subprocess; more is an error.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// What a subprocess that ended said.
#[derive(Debug)]
pub struct Output {
    /// Whether it ended with status 0.
    pub success: bool,
    /// Its status, unless a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Why a subprocess gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("{program} could not be started")]
    Start {
        /// What was run.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {deadline_ms} ms and was ended")]
    Late {
        /// What was run.
        program: String,
        /// Milliseconds it had.
        deadline_ms: u64,
    },
    /// It said more than it may.
    #[error("{program} wrote more than {OUTPUT_BYTES_MAX} bytes and was ended")]
    Loud {
        /// What was run.
        program: String,
    },
    /// Its output could not be read.
    #[error("the output of {program} could not be read")]
    Output {
        /// What was run.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs `command` in `cage` with no input and waits at most `deadline_ms`; it is killed when it is late, too loud, or
/// when the caller loses interest.
pub async fn run(mut command: Command, cage: Cage, deadline_ms: u64, clock: &dyn Clock) -> Result<Output, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    confine(&mut command, cage);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let start = |source| RunError::Start { program: program.clone(), source };
    let mut child = command.spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let read = |source| RunError::Output { program: program.clone(), source };
        let (stdout, stderr) = tokio::try_join!(read_bounded(stdout), read_bounded(stderr)).map_err(read)?;
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(RunError::Loud { program: program.clone() });
        };
        let status = child.wait().await.map_err(read)?;
        Ok(Output { success: status.success(), code: status.code(), stdout, stderr })
    };
    tokio::select! {
        output = work => output,
        () = clock.sleep(Duration::from_millis(deadline_ms)) => Err(RunError::Late { program: program.clone(), deadline_ms }),
    }
}

/// The whole stream as text, or `None` when it is longer than allowed.
async fn read_bounded(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Option<String>> {
    let Some(stream) = stream else { return Ok(Some(String::new())) };
    let mut bytes = Vec::new();
    stream.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    let fits = bytes.len() as u64 <= OUTPUT_BYTES_MAX;
    Ok(fits.then(|| String::from_utf8_lossy(&bytes).into_owned()))
}
