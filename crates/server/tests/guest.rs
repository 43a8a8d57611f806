//! The whole program with real guests: made through the public API, logged into by SSH, kept over every end of the server,
//! and gone without a trace when they are deleted.
//!
//! The image is taken from `NEPHOS_TEST_IMAGE_DIR`, or made by `scripts/image` into the target folder, once.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // all of it is a test, of machines in real time

#[path = "program/program.rs"]
#[allow(dead_code)] // shared with tests that use more of it
mod program;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nephos_driver::qemu::Options;
use serde_json::{Value, json};

use program::{Done, Place, Server, Typed};

/// The longest wait for one thing that a guest on a busy machine does.
const PATIENCE: Duration = Duration::from_secs(90);
/// Long polls of 30 seconds for one operation at most.
const POLLS_MAX: u32 = 4;

/// An installation with the small image, and a client of it with an SSH key.
struct Cloud {
    place: Place,
    key: String,
    options: Options,
}

impl Cloud {
    fn new() -> Self {
        let place = Place::new();
        let key = place.init()["live_key"].as_str().unwrap().to_owned();
        let manifest = image_dir().join("small.toml");
        let added = place.run(&["image", "add", manifest.to_str().unwrap()]);
        assert!(added.ok, "{}", added.err);
        let options = Options::new(place.data_dir());
        let file = place.parent().join("laptop");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status().unwrap();
        assert!(made.success());
        Self { place, key, options }
    }

    /// With more disk promised than there may be free: the guests here fill nearly nothing of theirs, and a machine that runs
    /// tests can be short of it.
    fn serve(&self) -> Server {
        self.place.serve_with(&["--driver", "qemu"], &[("NEPHOS_DISK_OVERCOMMIT_PERCENT", "1000")])
    }

    fn public_key(&self) -> String {
        std::fs::read_to_string(self.place.parent().join("laptop.pub")).unwrap()
    }

    /// One request: status, the body's JSON, and the operation that the headers name.
    fn ask(&self, server: &Server, method: &str, path: &str, body: Option<&Value>) -> (u16, Value, Option<String>) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        let url = format!("{}/v1{path}", server.url);
        let bearer = format!("Bearer {}", self.key);
        let mut answer = match (method, body) {
            ("POST", body) => {
                let request = agent.post(url).header("authorization", bearer);
                match body {
                    Some(body) => request.header("content-type", "application/json").send(body.to_string()).unwrap(),
                    None => request.send_empty().unwrap(),
                }
            }
            ("DELETE", _) => agent.delete(url).header("authorization", bearer).call().unwrap(),
            _ => agent.get(url).header("authorization", bearer).call().unwrap(),
        };
        let operation = answer.headers().get("operation-id").map(|id| id.to_str().unwrap().to_owned());
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap(), operation)
    }

    fn get(&self, server: &Server, path: &str) -> Value {
        let (status, body, _) = self.ask(server, "GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body["data"].clone()
    }

    /// A report, which comes without an envelope.
    fn get_report(&self, server: &Server, path: &str) -> Value {
        let (status, body, _) = self.ask(server, "GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn compute(&self, server: &Server, id: &str) -> Value {
        self.get(server, &format!("/computes/{id}"))
    }

    /// Asks for a compute. Returns its id and its operation's.
    fn create(&self, server: &Server, body: &Value) -> (String, String) {
        let (status, made, _) = self.ask(server, "POST", "/computes", Some(body));
        assert_eq!(status, 201, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("operation_id"))
    }

    /// Waits for an operation and expects it to succeed.
    fn ended(&self, server: &Server, id: &str) {
        let mut operation = Value::Null;
        for _ in 0..POLLS_MAX {
            operation = self.get(server, &format!("/operations/{id}?wait=30"));
            if !operation["ended_at"].is_null() {
                break;
            }
        }
        assert_eq!(operation["status"], json!("succeeded"), "{operation}");
        assert_eq!(operation["progress"], json!(100), "{operation}");
    }

    /// Does an action to its end, and returns the compute after it.
    fn act(&self, server: &Server, id: &str, action: &str) -> Value {
        let (status, body, operation) = self.ask(server, "POST", &format!("/computes/{id}/{action}"), None);
        assert_eq!(status, 202, "{body}");
        self.ended(server, &operation.unwrap());
        self.compute(server, id)
    }

    fn delete(&self, server: &Server, id: &str) {
        let (status, body, operation) = self.ask(server, "DELETE", &format!("/computes/{id}"), None);
        assert_eq!(status, 200, "{body}");
        assert_eq!(self.ask(server, "GET", &format!("/computes/{id}"), None).0, 404);
        self.ended(server, &operation.unwrap());
    }

    /// One try to run a command in a guest, with its host key pinned.
    fn ssh(&self, compute: &Value, command: &str) -> Output {
        let (address, id) = (&compute["address"], compute["id"].as_str().unwrap());
        let known = self.place.parent().join(id);
        std::fs::write(&known, format!("{id} {}\n", compute["ssh_host_key"].as_str().unwrap())).unwrap();
        Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "ConnectTimeout=30", "-o", &format!("HostKeyAlias={id}")])
            .args(["-o", &format!("UserKnownHostsFile={}", known.display())])
            .arg("-i")
            .arg(self.place.parent().join("laptop"))
            .args(["-p", &address["ssh_port"].to_string()])
            .arg(format!("root@{}", address["ssh_host"].as_str().unwrap()))
            .arg(command)
            .output()
            .unwrap()
    }

    /// What a command in a guest says. A guest that has just booted may still be starting its SSH server.
    fn says(&self, compute: &Value, command: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.ssh(compute, command);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap().trim().to_owned();
            }
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!error.contains("Host key verification failed"), "{error}");
            assert!(Instant::now() < deadline, "{command}: {output:?}");
        }
    }

    /// A number that every boot of a guest has anew.
    fn boot(&self, compute: &Value) -> String {
        self.says(compute, "cat /proc/sys/kernel/random/boot_id")
    }

    /// Processes of this installation's machines, with their programs.
    fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("nephos-{}-", self.options.mark());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.split('\0').any(|word| word.starts_with(&mark)) {
                found.push((pid, line));
            }
        }
        found
    }

    /// The QEMU of a compute.
    fn qemu(&self, id: &str) -> Option<u32> {
        let name = format!("nephos-{}-{id}", self.options.mark());
        let is_its = |line: &str| {
            let mut words = line.split('\0');
            words.next().is_some_and(|program| program.contains("qemu-system")) && words.any(|word| word == name)
        };
        self.processes().into_iter().find(|(_, line)| is_its(line)).map(|(pid, _)| pid)
    }

    /// Ends a compute's QEMU as no guest would.
    fn kill_qemu(&self, id: &str) {
        kill(self.qemu(id).expect("its QEMU runs"));
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), []);
        let left = |dir: &Path| match std::fs::read_dir(dir) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        assert_eq!(left(&self.options.computes_dir()), Vec::<PathBuf>::new());
        assert_eq!(left(&self.options.runtime_dir), Vec::<PathBuf>::new());
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // A failed test must not leave its machines behind.
        for (pid, _) in self.processes() {
            kill(pid);
        }
        _ = std::fs::remove_dir_all(&self.options.runtime_dir);
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    // Gone already is as good.
    _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Waits until the log says `text` about a compute.
fn hear(server: &mut Server, text: &str, id: &str) -> String {
    loop {
        let line = server.wait_for_line(text);
        if line.contains(id) {
            return line;
        }
    }
}

fn image_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("NEPHOS_TEST_IMAGE_DIR") {
        return dir.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-image");
    // Tests run in processes of their own: one makes the image, the others wait for it.
    let made = Command::new("flock")
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .args(["sh", "-c", "test -e \"$1/small.toml\" || \"$0\" \"$1\" --yes"])
        .arg(root.join("scripts/image"))
        .arg(&dir)
        .status()
        .unwrap();
    assert!(made.success(), "scripts/image failed");
    dir
}

/// What must not change while a guest runs on.
fn lasting(compute: &Value) -> [&Value; 5] {
    ["status", "started_at", "address", "ssh_host_key", "reason"].map(|name| &compute[name])
}

#[test]
fn a_guest_outlives_its_server() {
    let cloud = Cloud::new();
    let server = cloud.serve();
    let (status, key, _) =
        cloud.ask(&server, "POST", "/ssh-keys", Some(&json!({"name": "laptop", "public_key": cloud.public_key()})));
    assert_eq!(status, 201, "{key}");
    let (id, operation) = cloud.create(&server, &json!({"name": "web-1", "ssh_keys": ["laptop"]}));
    cloud.ended(&server, &operation);
    let running = cloud.compute(&server, &id);
    assert_eq!((&running["status"], &running["region"]), (&json!("running"), &json!("local")), "{running}");
    assert!(running["started_at"].is_string() && running["operation_id"].is_null(), "{running}");
    assert_eq!(cloud.says(&running, "hostname"), "web-1");
    let (boot, qemu) = (cloud.boot(&running), cloud.qemu(&id));
    let console = cloud.get(&server, &format!("/computes/{id}/console"));
    assert!(console["output"].as_str().unwrap().contains("nephos: ready"), "{console}");

    // An orderly stop.
    server.stop();
    assert_eq!(cloud.boot(&running), boot, "the guest answers while there is no server");
    let server = cloud.serve();
    assert_eq!(lasting(&cloud.compute(&server, &id)), lasting(&running));

    // A kill.
    server.signal("KILL");
    assert_eq!(server.end().0, None);
    let mut server = cloud.serve();
    assert_eq!(cloud.boot(&running), boot);
    assert_eq!(cloud.qemu(&id), qemu);
    assert_eq!(lasting(&cloud.compute(&server, &id)), lasting(&running));

    // The new server sees what happens to a machine that it did not start.
    cloud.kill_qemu(&id);
    hear(&mut server, "a compute settled", &id);
    let failed = cloud.compute(&server, &id);
    assert_eq!((&failed["status"], &failed["address"]), (&json!("failed"), &Value::Null), "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("QEMU")), "{failed}");
    let started = cloud.act(&server, &id, "start");
    assert_eq!((&started["status"], &started["reason"]), (&json!("running"), &Value::Null), "{started}");
    assert_ne!(cloud.boot(&started), boot);

    // What happened while no server watched is seen by the next.
    server.signal("KILL");
    assert_eq!(server.end().0, None);
    cloud.kill_qemu(&id);
    let mut server = cloud.serve();
    // It may have been seen before the server was ready.
    if !server.seen().iter().any(|line| line.contains("a compute settled")) {
        hear(&mut server, "a compute settled", &id);
    }
    assert_eq!(cloud.compute(&server, &id)["status"], json!("failed"));

    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_guest_is_used_at_its_console() {
    let cloud = Cloud::new();
    let mut server = cloud.serve();
    let (id, operation) = cloud.create(&server, &json!({"name": "web-4"}));
    cloud.ended(&server, &operation);
    for round in [6, 7] {
        let mut command = cloud.place.command(&["computes", "console", "web-4", "--attach"]);
        command.env("CLOUD_API_KEY", &cloud.key).env("NEPHOS_URL", &server.url);
        let mut typed = Typed::piped(command);
        // Attached while the guest boots, or when it has booted: the last output comes first.
        typed.see(if round == 6 { "Press Enter for a shell." } else { "42 on /dev/ttyS0" });
        typed.type_in("\r");
        typed.see("# ");
        typed.type_in(&format!("echo $(({round} * 7)) on $(tty)\r"));
        typed.see(&format!("{} on /dev/ttyS0", round * 7));
        if round == 6 {
            // The server goes, the guest does not: the same shell goes on.
            server.stop();
            let (status, complaints) = typed.end();
            assert_eq!(status.code(), Some(7), "{complaints}");
            server = cloud.serve();
        } else {
            typed.type_in("poweroff\r");
            let (status, complaints) = typed.end();
            assert!(status.success() && complaints.contains("the compute has stopped"), "{status}: {complaints}");
        }
    }
    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_guest_is_started_stopped_and_rebooted() {
    let cloud = Cloud::new();
    let mut server = cloud.serve();
    let wanted = json!({"name": "web-2", "ssh_keys": [cloud.public_key().trim()], "restart_policy": "on_failure"});
    let (id, operation) = cloud.create(&server, &wanted);
    cloud.ended(&server, &operation);
    let running = cloud.compute(&server, &id);
    let boot = cloud.boot(&running);

    // A death is made good by its policy, with another boot of the same disk.
    assert_eq!(cloud.says(&running, "echo kept >note && sync && cat note"), "kept");
    hear(&mut server, "a compute settled", &id);
    cloud.kill_qemu(&id);
    hear(&mut server, "a compute settled", &id);
    let restarted = cloud.compute(&server, &id);
    assert_eq!((&restarted["status"], &restarted["reason"]), (&json!("running"), &Value::Null), "{restarted}");
    let events = cloud.get(&server, "/events?limit=10");
    let why = |event: &Value| event["data"]["reason"].as_str().unwrap_or_default().to_owned();
    let starting = |event: &&Value| event["type"] == json!("compute.starting");
    let told = events.as_array().unwrap().iter().find(starting).map(why).unwrap_or_default();
    assert!(told.contains("QEMU") && told.contains("restarted by its policy"), "{events}");
    let boot_again = cloud.boot(&restarted);
    assert_ne!(boot_again, boot);
    assert_eq!(cloud.says(&restarted, "cat note"), "kept");

    let stopped = cloud.act(&server, &id, "stop");
    assert_eq!((&stopped["status"], &stopped["address"]), (&json!("stopped"), &Value::Null), "{stopped}");
    assert_eq!(cloud.qemu(&id), None);
    let (status, refused, _) = cloud.ask(&server, "POST", &format!("/computes/{id}/reboot"), None);
    assert!(status == 409 && refused["message"].as_str().unwrap().contains("stopped"), "{refused}");

    let started = cloud.act(&server, &id, "start");
    let boot = cloud.boot(&started);
    assert_ne!(boot, boot_again);
    let rebooted = cloud.act(&server, &id, "reboot");
    assert_ne!(cloud.boot(&rebooted), boot);
    assert_eq!(cloud.says(&rebooted, "cat note"), "kept");

    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_guest_is_stopped_in_its_boot_and_outlives_its_image() {
    let cloud = Cloud::new();
    let server = cloud.serve();
    let wanted = json!({"name": "web-3", "ssh_keys": [cloud.public_key().trim()]});
    let (id, operation) = cloud.create(&server, &wanted);
    cloud.ended(&server, &operation);

    // Nobody listens to the power button yet: it is pressed until somebody does, and no disk loses its power.
    let stopped = cloud.act(&server, &id, "stop");
    assert_eq!(stopped["status"], json!("stopped"), "{stopped}");
    let console = cloud.get(&server, &format!("/computes/{id}/console"));
    assert!(console["output"].as_str().unwrap().contains("nephos: poweroff"), "{console}");

    let removed = cloud.place.run(&["image", "remove", "small"]);
    assert!(removed.ok, "{}", removed.err);
    let started = cloud.act(&server, &id, "start");
    assert_eq!(cloud.says(&started, "hostname"), "web-3");

    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_disk_that_is_lost_is_not_replaced_by_an_empty_one() {
    let cloud = Cloud::new();
    let server = cloud.serve();
    let (id, operation) = cloud.create(&server, &json!({"name": "db-1"}));
    cloud.ended(&server, &operation);
    cloud.act(&server, &id, "stop");
    let home = cloud.options.computes_dir().join(&id);
    let (disk, away) = (home.join("disk.qcow2"), cloud.place.parent().join("away"));
    let refused = |server: &Server| {
        let (status, body, operation) = cloud.ask(server, "POST", &format!("/computes/{id}/start"), None);
        assert_eq!(status, 202, "{body}");
        let operation = cloud.get(server, &format!("/operations/{}?wait=30", operation.unwrap()));
        let why = operation["error"]["message"].as_str().unwrap_or_default();
        assert!(operation["status"] == json!("failed") && why.contains("disk of this compute is gone"), "{operation}");
        assert_eq!(cloud.compute(server, &id)["status"], json!("failed"));
        assert!(!disk.exists());
    };

    std::fs::rename(&disk, &away).unwrap();
    refused(&server);
    server.stop();
    // All of them, as when their file system was not mounted.
    let all = cloud.place.parent().join("all");
    std::fs::rename(cloud.options.computes_dir(), &all).unwrap();
    let server = cloud.serve();
    refused(&server);
    server.stop();

    // Put back, it boots.
    std::fs::remove_dir_all(cloud.options.computes_dir()).unwrap();
    std::fs::rename(&all, cloud.options.computes_dir()).unwrap();
    std::fs::rename(&away, &disk).unwrap();
    let server = cloud.serve();
    assert_eq!(cloud.act(&server, &id, "start")["status"], json!("running"));
    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_guest_is_resized_and_rebuilt() {
    let cloud = Cloud::new();
    let server = cloud.serve();
    let user_data = "#!/bin/sh\necho \"made for $(hostname)\" > /greeting\n";
    let wanted =
        json!({"name": "web-4", "size": "nano", "ssh_keys": [cloud.public_key().trim()], "user_data": user_data});
    let (id, operation) = cloud.create(&server, &wanted);
    cloud.ended(&server, &operation);
    let running = cloud.compute(&server, &id);
    let sectors = "cat /sys/block/vda/size";
    let gib = |n: u64| (n << 21).to_string();
    assert_eq!(cloud.says(&running, sectors), gib(1));
    assert_eq!(
        cloud.says(&running, "while ! cat /greeting; do sleep 1; done; echo kept >note; sync"),
        "made for web-4"
    );
    let memory_kib = |compute: &Value| {
        cloud.says(compute, "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").parse::<u64>().unwrap()
    };
    assert!(memory_kib(&running) < 128 * 1024);

    // Another size, by a server that is killed twice on the way.
    let path = |action: &str| format!("/computes/{id}/{action}");
    let (status, begun, operation) = cloud.ask(&server, "POST", &path("resize"), Some(&json!({"size": "micro"})));
    assert_eq!(status, 202, "{begun}");
    server.signal("KILL");
    assert_eq!(server.end().0, None);
    let server = cloud.serve();
    std::thread::sleep(Duration::from_millis(700));
    server.signal("KILL");
    assert_eq!(server.end().0, None);
    let server = cloud.serve();
    cloud.ended(&server, &operation.unwrap());
    let resized = cloud.compute(&server, &id);
    let facts = ["status", "size", "memory_mib", "disk_gib"].map(|name| &resized[name]);
    assert_eq!(facts, [&json!("running"), &json!("micro"), &json!(512), &json!(5)], "{resized}");
    assert_eq!(resized["ssh_host_key"], running["ssh_host_key"]);
    assert_eq!(cloud.says(&resized, sectors), gib(5));
    assert_eq!(cloud.says(&resized, "cat note"), "kept");
    assert!(memory_kib(&resized) > 400 * 1024);
    // The file system grows while the guest is up.
    let grown = "while [ $(df -k / | awk 'NR == 2 {print $2}') -lt 4000000 ]; do sleep 1; done; echo grown";
    assert_eq!(cloud.says(&resized, grown), "grown");
    let (status, refused, _) = cloud.ask(&server, "POST", &path("resize"), Some(&json!({"size": "nano"})));
    assert_eq!((status, &refused["details"][0]["code"]), (409, &json!("disk_would_shrink")), "{refused}");

    // A fresh disk, under the same name, address and host key.
    let rebuilt = cloud.act(&server, &id, "rebuild");
    assert_eq!((&rebuilt["status"], &rebuilt["address"]), (&json!("running"), &resized["address"]), "{rebuilt}");
    assert_eq!(rebuilt["ssh_host_key"], running["ssh_host_key"]);
    assert_eq!(cloud.says(&rebuilt, "test -e note && echo kept || echo gone"), "gone");
    assert_eq!(cloud.says(&rebuilt, "while ! cat /greeting; do sleep 1; done"), "made for web-4");
    assert_eq!(cloud.says(&rebuilt, sectors), gib(5));

    cloud.delete(&server, &id);
    cloud.assert_nothing_left();
    server.stop();
}

#[test]
fn a_guest_that_is_half_made_is_finished_or_gone() {
    let cloud = Cloud::new();
    let server = cloud.serve();
    let wanted = |name: &str| json!({"name": name, "ssh_keys": [cloud.public_key().trim()]});
    let (kept, operation) = cloud.create(&server, &wanted("kept"));
    let (gone, _) = cloud.create(&server, &wanted("gone"));
    server.signal("KILL");
    assert_eq!(server.end().0, None);

    let server = cloud.serve();
    cloud.delete(&server, &gone);
    assert_eq!(cloud.qemu(&gone), None);
    assert!(!cloud.options.computes_dir().join(&gone).exists());
    cloud.ended(&server, &operation);
    assert_eq!(cloud.says(&cloud.compute(&server, &kept), "hostname"), "kept");

    // A deletion that is cut short is finished.
    let (status, body, operation) = cloud.ask(&server, "DELETE", &format!("/computes/{kept}"), None);
    assert_eq!(status, 200, "{body}");
    server.signal("KILL");
    assert_eq!(server.end().0, None);
    let server = cloud.serve();
    cloud.ended(&server, &operation.unwrap());
    cloud.assert_nothing_left();
    server.stop();
}

/// A Prometheus that scrapes one server each second, with a key.
struct Prometheus {
    child: std::process::Child,
    url: String,
}

impl Prometheus {
    fn start(folder: &Path, server: &Server, key: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = |name: &str| folder.join(name);
        std::fs::create_dir(folder).unwrap();
        std::fs::write(file("key"), key).unwrap();
        let target = server.url.strip_prefix("http://").unwrap();
        let config = format!(
            "scrape_configs:\n  - job_name: nephos\n    scrape_interval: 1s\n    metrics_path: /v1/telemetry/openmetrics\n    \
             authorization:\n      credentials_file: {}\n    static_configs:\n      - targets: [\"{target}\"]\n",
            file("key").display()
        );
        std::fs::write(file("prometheus.yml"), config).unwrap();
        let log = std::fs::File::create(file("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", file("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus is there: scripts/lib/packages need metrics");
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// What a query answers, once it answers something.
    fn found(&self, query: &str) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let query = query
                .replace('{', "%7B")
                .replace('}', "%7D")
                .replace('"', "%22")
                .replace('[', "%5B")
                .replace(']', "%5D")
                .replace('>', "%3E");
            let asked = ureq::get(format!("{}/api/v1/query?query={query}", self.url)).call();
            let text = asked.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default();
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            match answer["data"]["result"].as_array() {
                Some(found) if !found.is_empty() => return found.clone(),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
            assert!(Instant::now() < deadline, "{query}: {text}");
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_guest_uses_is_told_to_its_tenants_prometheus() {
    let mut cloud = Cloud::new();
    let server = cloud.serve();
    let body = json!({"name": "web-1", "size": "nano", "ssh_keys": [cloud.public_key()]});
    let (id, operation) = cloud.create(&server, &body);
    cloud.ended(&server, &operation);
    let compute = cloud.compute(&server, &id);
    cloud.says(&compute, "dd if=/dev/urandom of=/data bs=1M count=2 2>/dev/null && sync");
    let narrow = json!({"name": "prometheus", "scopes": ["telemetry:read"]});
    let (status, made, _) = cloud.ask(&server, "POST", "/api-keys", Some(&narrow));
    assert_eq!(status, 201, "{made}");
    let key = made["secret"].as_str().or(made["key"].as_str()).unwrap();
    let prometheus = Prometheus::start(&cloud.place.parent().join("prometheus"), &server, key);
    assert_eq!(prometheus.found("up")[0]["value"][1], json!("1"));

    // At the end of this minute it is looked at, and Prometheus reads that in a second.
    let cpu = prometheus.found("nephos_compute_cpu_seconds_total");
    let labels = &cpu[0]["metric"];
    assert_eq!((&labels["compute"], &labels["name"]), (&json!(id), &json!("web-1")), "{cpu:?}");
    assert!(cpu[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap() > 0.5, "{cpu:?}");
    // What it wrote may be of the next minute already.
    let written = prometheus.found("nephos_compute_disk_written_bytes_total>2097151");
    assert_eq!(written[0]["metric"]["compute"], json!(id), "{written:?}");
    let outside = prometheus.found("nephos_compute_network_received_bytes_total{network=\"outside\"}");
    assert!(outside[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap() > 1_000.0, "{outside:?}");

    let metrics = cloud.get_report(&server, &format!("/computes/{id}/metrics?step=1m"));
    let points: Vec<&Value> =
        metrics["points"].as_array().unwrap().iter().filter(|p| !p["cpu_seconds"].is_null()).collect();
    let wrote: i64 = points.iter().filter_map(|p| p["disk_written_bytes"].as_i64()).sum();
    assert!(!points.is_empty() && wrote >= 2 << 20, "{metrics}");
    assert!(points[0]["measured_seconds"].as_f64().unwrap() <= 61.0, "{}", points[0]);
    let summed = cloud.get_report(&server, "/telemetry?group_by=region&step=1m");
    assert_eq!(summed["groups"][0]["key"], json!("local"), "{summed}");

    // The key can do nothing else.
    let whole = std::mem::replace(&mut cloud.key, key.to_owned());
    assert_eq!(cloud.ask(&server, "GET", "/computes", None).0, 403);
    drop(prometheus);
    cloud.key = whole;
    cloud.delete(&server, &id);
    server.stop();
    cloud.assert_nothing_left();
}

#[test]
fn images_that_no_guest_can_use_are_refused() {
    let place = Place::new();
    place.init();
    let file = |name: &str| place.parent().join(name).to_str().unwrap().to_owned();
    let qemu_img = |words: &[&str]| assert!(Command::new("qemu-img").args(words).status().unwrap().success());
    std::fs::write(file("garbage.qcow2"), vec![0x5a; 65_536]).unwrap();
    std::fs::write(file("empty.qcow2"), "").unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", &file("good.qcow2"), "64M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &file("good.qcow2"), &file("backed.qcow2")]);
    let outside = format!("data_file={}", file("outside.raw"));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &outside, &file("split.qcow2"), "1M"]);
    let good = std::fs::read(file("good.qcow2")).unwrap();
    std::fs::write(file("cut.qcow2"), &good[..good.len() / 4]).unwrap();
    std::fs::write(file("broken.toml"), "format = 1\nname = 7\n").unwrap();

    let none = "0".repeat(64);
    let cases: [(&str, &[&str], &str); 10] = [
        ("absent.qcow2", &[], "absent.qcow2"),
        ("garbage.qcow2", &[], "qcow2"),
        ("empty.qcow2", &[], "qcow2"),
        ("backed.qcow2", &[], "backing"),
        ("split.qcow2", &[], "external file"),
        ("cut.qcow2", &[], "cut.qcow2"),
        ("broken.toml", &[], "manifest"),
        ("good.qcow2", &["--checksum", &none], "checksum"),
        ("good.qcow2", &["--name", "Not A Name"], "--name"),
        ("good.qcow2", &["--login-user", "../root"], "--login-user"),
    ];
    let add = |name: &str, more: &[&str]| -> Done {
        let file = file(name);
        let mut words = vec!["image", "add", &file];
        words.extend(more);
        place.run(&words)
    };
    let refuse_all = || {
        for (name, more, says) in cases {
            let done = add(name, more);
            assert!(!done.ok && done.err.contains(says) && !done.err.contains("panicked"), "{name}: {}", done.err);
        }
        let list = place.run(&["image", "list", "--output", "json"]);
        assert_eq!(list.json(), json!([]));
        let left: Vec<_> = std::fs::read_dir(place.data_dir().join("images")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    };
    refuse_all();
    let server = place.serve(&[]);
    refuse_all();
    assert!(add("good.qcow2", &[]).ok);
    let again = add("good.qcow2", &[]);
    assert!(!again.ok && again.err.contains("already"), "{}", again.err);
    server.stop();
}

#[test]
fn without_qemu_the_region_says_so_and_takes_no_guest() {
    let cloud = Cloud::new();
    let server = cloud.place.serve_with(&["--driver", "qemu"], &[("PATH", "/nonexistent")]);
    assert_eq!(server.get("/readyz", None).0, 200);
    let regions = cloud.get(&server, "/regions");
    assert_eq!((&regions[0]["name"], &regions[0]["available"]), (&json!("local"), &json!(false)), "{regions}");
    assert!(regions[0]["reason"].as_str().unwrap().contains("qemu"), "{regions}");
    let (status, refused, _) = cloud.ask(&server, "POST", "/computes", Some(&json!({"name": "web-1"})));
    assert_eq!((status, &refused["code"]), (422, &json!("capacity_unavailable")), "{refused}");
    assert!(refused["details"].as_array().unwrap().iter().any(|d| d["pointer"] == json!("/region")), "{refused}");
    assert_eq!(cloud.get(&server, "/computes"), json!([]));
    server.stop();

    let mut doctor = cloud.place.command(&["doctor", "--output", "json", "--data-dir"]);
    let report = doctor.arg(cloud.place.data_dir()).env("PATH", "/nonexistent").output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("qemu-system-x86"), "it names the package: {report}");
    cloud.assert_nothing_left();
}
