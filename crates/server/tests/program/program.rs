//! The binary as its users have it: commands that end, and a server that runs until it is told to stop.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// The longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A folder with an installation in it.
pub struct Place {
    parent: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    pub fn parent(&self) -> &Path {
        self.parent.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    /// A command of the binary, without the environment's own settings.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nephos"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NEPHOS_") || name == "CLOUD_API_KEY") {
            command.env_remove(name);
        }
        command.args(words).stdin(Stdio::null()).current_dir(self.parent.path()).env("NO_COLOR", "1");
        command
    }

    /// Runs a command on the folder to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        let dir = self.data_dir();
        let mut all = words.to_vec();
        all.extend(["--data-dir", dir.to_str().unwrap()]);
        Done::of(self.command(&all).output().unwrap())
    }

    /// Starts a server on a free port with the simulator and waits until it is ready.
    pub fn serve(&self, more: &[&str]) -> Server {
        self.serve_with(more, &[])
    }

    /// The same with variables of its environment set.
    pub fn serve_with(&self, more: &[&str], variables: &[(&str, &str)]) -> Server {
        let mut server = self.spawn_with(more, variables);
        let ready = server.wait_for_line("ready");
        let url = ready.split_once("url=").unwrap().1;
        url.split(' ').next().unwrap().clone_into(&mut server.url);
        server.details = ready.split_once("admin=").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
        server
    }

    /// Starts a server that may not become ready.
    pub fn spawn(&self, more: &[&str]) -> Server {
        self.spawn_with(more, &[])
    }

    /// The same with variables of its environment set.
    pub fn spawn_with(&self, more: &[&str], variables: &[(&str, &str)]) -> Server {
        let dir = self.data_dir();
        let mut words = vec!["serve", "--data-dir", dir.to_str().unwrap()];
        for (flag, default) in [("--driver", "simulator"), ("--listen", "127.0.0.1:0")] {
            if !more.contains(&flag) {
                words.extend([flag, default]);
            }
        }
        words.extend(more);
        let mut command = self.command(&words);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut kept = self.kept_log(child.id());
        // Reads on to the end, so that the server never waits for its reader.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(kept) = &mut kept {
                    writeln!(kept, "{line}").unwrap();
                }
                // A test that has heard enough is no reason to stop.
                _ = sender.send(line);
            }
        });
        Server { child, lines, seen: Vec::new(), url: String::new(), details: None }
    }

    /// Where the whole run's logs are searched for secrets (`NEPHOS_TEST_LOG_DIR`): this server's, and beside it the
    /// secrets of this folder.
    fn kept_log(&self, pid: u32) -> Option<File> {
        let folder = PathBuf::from(std::env::var_os("NEPHOS_TEST_LOG_DIR")?);
        let name = format!("{}-{pid}", std::process::id());
        if let Ok(master) = std::fs::read_to_string(self.data_dir().join("keys/master")) {
            std::fs::write(folder.join(format!("{name}.secrets")), master).unwrap();
        }
        Some(File::create(folder.join(format!("{name}.log"))).unwrap())
    }

    /// Makes the first workspace and returns its live key.
    pub fn init(&self) -> Value {
        let done = self.run(&[
            "init",
            "--workspace",
            "Acme",
            "--owner",
            "ann@example.com",
            "--plan",
            "unlimited",
            "--output",
            "json",
        ]);
        assert!(done.ok, "{}", done.err);
        done.json()
    }
}

/// A command that ended.
pub struct Done {
    pub ok: bool,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

/// A server that a test started.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    pub url: String,
    pub details: Option<String>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log lines that were waited for or passed over so far.
    #[allow(dead_code)] // for tests in other binaries
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// The next log line that holds `text`.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with {text:?}: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {text:?}: {:#?}", self.seen),
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end. Returns the exit code, `None` after a signal, and all log lines.
    pub fn end(mut self) -> (Option<i32>, String) {
        // The lines end when the process does.
        loop {
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end: {:#?}", self.seen),
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.seen).join("\n"))
    }

    /// Stops it and expects a clean end.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
        log
    }

    /// Asks by HTTP: status and body.
    pub fn get(&self, path: &str, key: Option<&str>) -> (u16, String) {
        get(&self.url, path, key)
    }

    /// Sends JSON by HTTP: status and body.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_MAX)).build().into();
        let request = agent.post(format!("{}{path}", self.url)).header("authorization", format!("Bearer {key}"));
        let mut response = request.send_json(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already is as good.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A command that is typed at while it runs.
pub struct Typed {
    child: Child,
    input: Option<Box<dyn Write>>,
    output: Receiver<Vec<u8>>,
    errors: Receiver<Vec<u8>>,
    seen: String,
}

impl Typed {
    /// Starts a command with a pipe on each side.
    pub fn piped(mut command: Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let input: Box<dyn Write> = Box::new(child.stdin.take().unwrap());
        let output = pump(child.stdout.take().unwrap());
        let errors = pump(child.stderr.take().unwrap());
        Self { child, input: Some(input), output, errors, seen: String::new() }
    }

    /// Starts a command on a terminal, of which this is the other end.
    pub fn on_terminal(mut command: Command, terminal: File, other_end: File) -> Self {
        let input = terminal.try_clone().unwrap();
        command.stdin(input).stdout(terminal).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let errors = pump(child.stderr.take().unwrap());
        let output = pump(other_end.try_clone().unwrap());
        Self { child, input: Some(Box::new(other_end)), output, errors, seen: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has written a text.
    pub fn see(&mut self, text: &str) {
        while !self.seen.contains(text) {
            match self.output.recv_timeout(WAIT_MAX) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("{why}: no {text:?} in {:?}; {}", self.seen, self.complaints()),
            }
        }
    }

    /// Waits until its standard error says something.
    pub fn hear(&mut self, text: &str) {
        let mut heard = String::new();
        while !heard.contains(text) {
            let bytes = self.errors.recv_timeout(WAIT_MAX).unwrap_or_else(|_| panic!("no {text:?} in {heard:?}"));
            heard.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    pub fn type_in(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).unwrap();
    }

    /// Its input ends.
    pub fn hang_up(&mut self) {
        self.input = None;
    }

    fn complaints(&self) -> String {
        self.errors.try_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// Waits for its end, and returns its status and what its standard error said.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut complaints = String::new();
        // They end with the command.
        loop {
            match self.errors.recv_timeout(WAIT_MAX) {
                Ok(bytes) => complaints.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => return (self.child.wait().unwrap(), complaints),
                Err(RecvTimeoutError::Timeout) => panic!("it did not end: {complaints}"),
            }
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        // Ended already is as good.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// What is read, as it comes.
fn pump(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = from.read(&mut buffer) {
            if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Asks `base` by HTTP: status and body.
pub fn get(base: &str, path: &str, key: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_MAX)).build().into();
    let mut request = agent.get(format!("{base}{path}"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let mut response = request.call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}
