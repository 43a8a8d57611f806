//! The `ssh` command for a compute: its host key is the one that the API names, kept in a file of its own, so that no
//! question is asked and no impostor is let through.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nephos_model::Clock;
use serde_json::Value;

use super::api::Failure;
use crate::output::{Progress, escape};
use crate::system::pause;

/// Seconds that a login waits for a guest that still boots. A compute runs from the moment its processors do.
pub const ANSWER_WAIT_S: u64 = 60;
/// Time for one try to reach the guest's SSH server.
const TRY_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// What is needed to log in.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    id: String,
    host: String,
    port: u16,
    host_key: String,
    user: String,
}

impl Login {
    /// From a compute as the API shows it.
    pub fn from_compute(compute: &Value, user: &str) -> Result<Self, Failure> {
        let name = escape(compute["name"].as_str().unwrap_or("it"));
        let status = compute["status"].as_str().unwrap_or("unknown");
        let text = |value: &Value| value.as_str().filter(|t| plain(t)).map(str::to_owned);
        let address = &compute["address"];
        let port = address["ssh_port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let (Some(id), Some(host), Some(port)) = (text(&compute["id"]), text(&address["ssh_host"]), port) else {
            return Err(Failure::Local(format!("{name} can't be reached by SSH: it is {}", escape(status))));
        };
        let key = compute["ssh_host_key"].as_str().filter(|k| !k.chars().any(char::is_control));
        let Some(host_key) = key else {
            return Err(Failure::Local(format!(
                "{name} has no known SSH host key, so nobody can tell it from an impostor"
            )));
        };
        if !plain(user) {
            return Err(Failure::Local(format!("{} is no user to log in as", escape(user))));
        }
        Ok(Self { id, host, port, host_key: host_key.to_owned(), user: user.to_owned() })
    }

    /// The line of the file with the host key, found by the compute's id whatever its address.
    fn known_host(&self) -> String {
        format!("{} {}\n", self.id, self.host_key)
    }

    /// The command's words, without a remote command.
    fn words(&self, known_hosts: &Path, identity: Option<&Path>) -> Vec<String> {
        let mut words = vec!["ssh".to_owned()];
        let options = [
            format!("UserKnownHostsFile={}", quoted_path(known_hosts)),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("HostKeyAlias={}", self.id),
            "StrictHostKeyChecking=yes".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "BatchMode=yes".to_owned(),
            "ConnectTimeout=10".to_owned(),
        ];
        words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        if let Some(file) = identity {
            words.extend([
                "-o".to_owned(),
                "IdentitiesOnly=yes".to_owned(),
                "-i".to_owned(),
                file.display().to_string(),
            ]);
        }
        words.extend(["-p".to_owned(), self.port.to_string(), format!("{}@{}", self.user, self.host)]);
        words
    }

    /// Waits until an SSH server answers, for at most `wait_s` seconds.
    pub fn await_answer(&self, clock: &dyn Clock, wait_s: u64) -> Result<(), Failure> {
        let start = clock.monotonic();
        let mut progress = Progress::default();
        loop {
            let error = match self.answers() {
                Ok(()) => break progress.end(),
                Err(error) => error,
            };
            let spent = clock.monotonic().saturating_sub(start);
            if spent >= Duration::from_secs(wait_s) {
                progress.end();
                let Self { id, host, port, .. } = self;
                return Err(Failure::Waiting(format!(
                    "no SSH server answered at {host} port {port} within {wait_s} s ({error}); `nephos computes console {id}` shows how far it is"
                )));
            }
            progress.show(&format!("waiting for SSH at {} port {}", self.host, self.port), spent.as_secs());
            pause(TRY_PAUSE);
        }
        Ok(())
    }

    /// One try. Both sides name themselves: some user-mode networks pass nothing on until the client does.
    fn answers(&self) -> io::Result<()> {
        let address = (self.host.as_str(), self.port).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::other("the host has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, TRY_DEADLINE)?;
        stream.set_read_timeout(Some(TRY_DEADLINE))?;
        stream.set_write_timeout(Some(TRY_DEADLINE))?;
        stream.write_all(b"SSH-2.0-nephos\r\n")?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        if &greeting == b"SSH-" { Ok(()) } else { Err(io::Error::other("what answers there is no SSH server")) }
    }

    /// Writes the file with the host key and returns the command's words.
    pub fn prepare(&self, identity: Option<&Path>) -> Result<Vec<String>, Failure> {
        let folder = folder();
        let fail = |e: io::Error| Failure::Local(format!("{} can't be written: {e}", folder.display()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fail)?;
        let file = folder.join(&self.id);
        // Whole or not at all: another login may be reading it.
        let partial = folder.join(format!("{}.{}", self.id, std::process::id()));
        std::fs::write(&partial, self.known_host()).and_then(|()| std::fs::rename(&partial, &file)).map_err(fail)?;
        Ok(self.words(&file, identity))
    }
}

/// Becomes the command. Returns only when that failed.
pub fn become_command(words: &[String], remote: &[String]) -> Failure {
    let error = Command::new(&words[0]).args(&words[1..]).args(remote).exec();
    Failure::Local(format!("ssh can't be started: {error}; the package openssh-client has it"))
}

/// The words as a shell reads them.
pub fn shell_line(words: &[String]) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&b);
    words.iter().fold(String::new(), |mut line, word| {
        if !line.is_empty() {
            line.push(' ');
        }
        if !word.is_empty() && word.bytes().all(safe) {
            line.push_str(word);
        } else {
            // Writing to a String can't fail.
            _ = write!(line, "'{}'", word.replace('\'', "'\\''"));
        }
        line
    })
}

/// `UserKnownHostsFile` splits at spaces unless quoted, and expands percent signs.
fn quoted_path(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text.contains([' ', '"']) { format!("\"{}\"", text.replace('"', "\\\"")) } else { text }
}

/// No option, no control character, no space: safe as a word of the command.
fn plain(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic())
}

fn folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("nephos").join("known_hosts")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compute() -> Value {
        json!({"id": "cmp_1", "name": "web", "status": "running", "address": {"ssh_host": "127.0.0.1", "ssh_port": 2222},
            "ssh_host_key": "ssh-ed25519 AAAA"})
    }

    #[test]
    fn the_host_key_is_pinned() {
        let login = Login::from_compute(&compute(), "root").unwrap();
        assert_eq!(login.known_host(), "cmp_1 ssh-ed25519 AAAA\n");
        let line = shell_line(&login.words(Path::new("/a b/k"), Some(Path::new("/id"))));
        assert_eq!(
            line,
            "ssh -o 'UserKnownHostsFile=\"/a b/k\"' -o GlobalKnownHostsFile=/dev/null -o HostKeyAlias=cmp_1 -o \
             StrictHostKeyChecking=yes -o UpdateHostKeys=no -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes \
             -i /id -p 2222 root@127.0.0.1"
        );
    }

    #[test]
    fn a_guest_that_still_boots_is_waited_for() {
        let clock = crate::system::SystemClock::start();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut running = compute();
        running["address"]["ssh_port"] = json!(listener.local_addr().unwrap().port());
        let login = Login::from_compute(&running, "root").unwrap();
        let guest = std::thread::spawn(move || {
            // The network accepts and hangs up until the guest listens.
            drop(listener.accept().unwrap());
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            stream.write_all(b"SSH-2.0-dropbear\r\n").unwrap();
        });
        login.await_answer(&clock, ANSWER_WAIT_S).unwrap();
        guest.join().unwrap();
        let late = login.await_answer(&clock, 0).unwrap_err().to_string();
        assert!(late.contains("no SSH server answered") && late.contains("computes console cmp_1"), "{late}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut stopped = compute();
        stopped["address"] = Value::Null;
        stopped["status"] = json!("stopped");
        assert_eq!(
            Login::from_compute(&stopped, "root").unwrap_err().to_string(),
            "web can't be reached by SSH: it is stopped"
        );
        let mut keyless = compute();
        keyless["ssh_host_key"] = Value::Null;
        assert!(Login::from_compute(&keyless, "root").unwrap_err().to_string().contains("impostor"));
        let mut option = compute();
        option["address"]["ssh_host"] = json!("-oProxyCommand=x");
        assert!(Login::from_compute(&option, "root").is_err());
    }
}
