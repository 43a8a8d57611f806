//! Letters of the whole program: into files where there is no mail server, and to a real one on the loopback address.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Place, Server};

/// The longest wait for a letter.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// An SMTP server that tells its port and every letter as a line of JSON, and refuses some addresses.
const SMTP_SERVER: &str = r#"
import asyncio, email, email.policy, json
from aiosmtpd.smtp import SMTP
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"): return "550 5.1.1 no such person"
        if address.startswith("later@"): return "451 4.3.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        m = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "headers": dict(m.items()),
            "plain": m.get_body(("plain",)).get_content(), "html": m.get_body(("html",)).get_content()}), flush=True)
        return "250 OK"
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

struct MailServer {
    child: Child,
    lines: Receiver<String>,
    port: u64,
}

impl MailServer {
    fn start() -> Self {
        // The distribution's own interpreter, which has its packages, whatever else is on PATH.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", SMTP_SERVER]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Self { child, lines, port: 0 };
        server.port = server.next()["port"].as_u64().unwrap();
        server
    }

    fn next(&self) -> Value {
        let line =
            self.lines.recv_timeout(WAIT_MAX).expect("the SMTP server says something (package python3-aiosmtpd)");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn invite(server: &Server, key: &str, email: &str) {
    let (status, body) = server.post("/v1/invitations", key, &json!({"email": email, "role": "member"}));
    assert_eq!(status, 201, "{body}");
}

#[test]
fn without_a_mail_server_letters_are_files() {
    let place = Place::new();
    let made = place.init();
    let mut server = place.serve(&[]);
    invite(&server, made["live_key"].as_str().unwrap(), "bob@example.com");
    server.wait_for_line("letter sent");
    let folder = place.data_dir().join("mail");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let letter = std::fs::read_to_string(file).unwrap();
    assert!(letter.contains("To: bob@example.com") && letter.contains("/invitations/accept#"), "{letter}");
    assert!(!server.seen().iter().any(|line| line.contains("accept#")), "a log has no link");
}

#[test]
fn a_mail_server_gets_them() {
    let mail = MailServer::start();
    let place = Place::new();
    let made = place.init();
    let key = made["live_key"].as_str().unwrap();
    let url = format!("smtp://127.0.0.1:{}", mail.port);
    let variables = [("NEPHOS_MAIL_SMTP_URL", url.as_str()), ("NEPHOS_MAIL_FROM", "Our cloud <cloud@example.com>")];
    let mut server = place.serve_with(&[], &variables);
    invite(&server, key, "bob@example.com");
    let letter = mail.next();
    assert_eq!((&letter["from"], &letter["to"]), (&json!("cloud@example.com"), &json!(["bob@example.com"])));
    let headers = &letter["headers"];
    assert_eq!(headers["Subject"], "You are invited to the workspace “Acme”");
    assert_eq!(
        (&headers["From"], &headers["Auto-Submitted"]),
        (&json!("Our cloud <cloud@example.com>"), &json!("auto-generated"))
    );
    let id = headers["Message-ID"].as_str().unwrap();
    assert!(id.starts_with("<mail_") && id.ends_with("@example.com>"), "{id}");
    let (_, token) = letter["plain"].as_str().unwrap().split_once("/invitations/accept#").unwrap();
    let token = token.split_whitespace().next().unwrap();
    assert!(letter["html"].as_str().unwrap().contains(token));
    let (status, body) = server.post("/v1/invitations/accept", key, &json!({"token": token}));
    assert_eq!((status, &body["email"]), (201, &json!("bob@example.com")), "{body}");
    server.wait_for_line("letter sent");

    invite(&server, key, "nobody@example.com");
    let line = server.wait_for_line("letter given up");
    assert!(line.contains("no such person"), "{line}");
    invite(&server, key, "later@example.com");
    let line = server.wait_for_line("letter not sent; tried again");
    assert!(line.contains("come back later"), "{line}");

    let list = place.run(&["mail", "list", "--output", "json"]).json();
    let told: Vec<_> =
        list.as_array().unwrap().iter().map(|l| (&l["recipient"], &l["status"], &l["attempts"])).collect();
    let [later, nobody, bob] = ["later", "nobody", "bob"].map(|name| json!(format!("{name}@example.com")));
    let one = json!(1);
    assert_eq!(
        told,
        [(&later, &json!("waiting"), &one), (&nobody, &json!("failed"), &one), (&bob, &json!("sent"), &one)]
    );
    assert!(
        list[1]["last_error"].as_str().unwrap().contains("no such person") && !list.to_string().contains("accept#")
    );
}

#[test]
fn letters_do_not_cross_the_network_in_the_clear() {
    let place = Place::new();
    let mut command = place.command(&["config", "check"]);
    let done = command.env("NEPHOS_MAIL_SMTP_URL", "smtp://ann:secret@mail.example.com").output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && told.contains("mail_smtp_url") && told.contains("smtps://"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    let mut command = place.command(&["config", "check"]);
    let done = command.env("NEPHOS_MAIL_SMTP_URL", "smtps://ann:secret@mail.example.com").output().unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && told.contains("ann:***@mail.example.com") && !told.contains("secret"), "{told}");
}
