//! Terminals on consoles, with the command line on a pipe and on a terminal of its own.

use std::fs::File;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::program::{Place, Server, Typed};

/// An installation with a server, and the sandbox's key.
struct Cloud {
    place: Place,
    key: String,
}

impl Cloud {
    fn new() -> Self {
        let place = Place::new();
        let key = place.init()["test_key"].as_str().unwrap().to_owned();
        Self { place, key }
    }

    fn command(&self, server: &Server, words: &[&str]) -> std::process::Command {
        let mut command = self.place.command(words);
        command.env("CLOUD_API_KEY", &self.key).env("NEPHOS_URL", &server.url);
        command
    }

    fn run(&self, server: &Server, words: &[&str]) {
        let done = self.command(server, words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn attach(&self, server: &Server) -> std::process::Command {
        self.command(server, &["computes", "console", "web-1", "--attach"])
    }
}

/// A terminal, and its other end.
fn terminals() -> (File, File) {
    let other_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&other_end).unwrap();
    unlockpt(&other_end).unwrap();
    let name = ptsname(&other_end, Vec::new()).unwrap();
    let terminal = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (terminal.into(), other_end.into())
}

fn modes(terminal: &File) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}

#[test]
fn a_console_is_attached_to() {
    let cloud = Cloud::new();
    let server = cloud.place.serve(&[]);
    cloud.run(&server, &["computes", "create", "web-1"]);

    // Through a pipe: what is sent is answered, and the end of the input ends it.
    let mut piped = Typed::piped(cloud.attach(&server));
    piped.see("web-1 login: ");
    piped.type_in("one\x1dtwo\r");
    piped.see("simulated, not run: onetwo\r\n");
    piped.hang_up();
    let (status, complaints) = piped.end();
    assert!(status.success() && complaints.is_empty(), "{status}: {complaints}");

    // On a terminal: each key at once and none interpreted here, but for the one that leaves.
    for signal in [None, Some("TERM"), Some("HUP")] {
        let (terminal, other_end) = terminals();
        let before = modes(&terminal);
        let mut typed = Typed::on_terminal(cloud.attach(&server), terminal.try_clone().unwrap(), other_end);
        typed.hear("attached; Ctrl-] leaves");
        typed.see("web-1 login: ");
        let interprets = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(!tcgetattr(&terminal).unwrap().local_modes.intersects(interprets));
        typed.type_in("ab\x03\x1a\x7fc");
        typed.see("ab\x08 \x08c");
        match signal {
            None => typed.type_in("\r\x1d"),
            Some(name) => {
                let pid = typed.pid().to_string();
                assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
            }
        }
        let (status, complaints) = typed.end();
        assert!(status.success(), "{status}: {complaints}");
        assert_eq!(modes(&terminal), before, "{signal:?}: the terminal is put back");
    }

    // The server's end ends it, in time, and says how to go on.
    let (terminal, other_end) = terminals();
    let before = modes(&terminal);
    let mut left = Typed::on_terminal(cloud.attach(&server), terminal.try_clone().unwrap(), other_end);
    left.see("web-1 login: ");
    server.stop();
    let (status, complaints) = left.end();
    assert!(status.code() == Some(7) && complaints.contains("connect again (1001)"), "{status}: {complaints}");
    assert_eq!(modes(&terminal), before);

    // A refusal is one as of any command.
    let server = cloud.place.serve(&[]);
    cloud.run(&server, &["computes", "stop", "web-1"]);
    let refused = cloud.attach(&server).output().unwrap();
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(5) && complaint.contains("The compute is stopped"), "{complaint}");
    let mut elsewhere = cloud.attach(&server);
    elsewhere.env("CLOUD_API_KEY", "sk_test_wrong");
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(3));
    server.stop();
}
