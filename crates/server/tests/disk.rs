//! Disks that are full or read-only: a clear refusal, nothing half done, and all is well when there is room again.
//!
//! As root on small file systems in memory, mounted for the test. Others can't mount: what needs it is left out, and says so.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)] // all of it is a test

#[path = "program/program.rs"]
#[allow(dead_code)] // shared with tests that use more of it
mod program;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nephos_model::Timestamp;
use nephos_store::testing::broken;
use nephos_store::{SqliteOptions, Store};
use serde_json::{Value, json};

use program::{Place, Server};

const WAIT_MAX: Duration = Duration::from_secs(30);
/// Writes until a disk without room refuses one: the database has some room of its own.
const WRITES_MAX: u32 = 10_000;

/// A file system of its own at the place of a data folder; gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={size},mode=700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        let why = match done {
            Ok(done) if done.status.success() => return Some(Self(path.to_owned())),
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        println!("left out: no file system can be mounted here ({why})");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }

    /// Takes all the room there is. Returns the file that holds it.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [65_536, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
        assert_eq!(file.write_all(&[0]).unwrap_err().kind(), ErrorKind::StorageFull);
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left is ended later than this.
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn create(server: &Server, key: &str, number: u32) -> (u16, Value, bool) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_MAX)).build().into();
    let request = agent.post(format!("{}/v1/projects", server.url)).header("authorization", format!("Bearer {key}"));
    let body = json!({"name": format!("p-{number}")}).to_string();
    let mut answer = request.header("content-type", "application/json").send(body).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    let says_when = answer.headers().contains_key("retry-after");
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap(), says_when)
}

fn total(server: &Server, key: &str) -> u64 {
    let (status, body) = server.get("/v1/projects?limit=1", Some(key));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["meta"]["total"].as_u64().unwrap()
}

fn assert_sound(place: &Place) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(async {
        let store = Store::open_sqlite(place.data_dir().join("nephos.db"), SqliteOptions::default()).await.unwrap();
        let found = broken(&store, Timestamp::from_micros(i64::MAX)).await;
        store.close().await;
        found
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_disk_that_fills_up_refuses_writes_and_loses_none() {
    let place = Place::new();
    let Some(disk) = Mounted::at(&place.data_dir(), "8m") else { return };
    let key = place.init()["live_key"].as_str().unwrap().to_owned();
    let server = place.serve(&[]);
    let filler = disk.fill();
    let mut made = 1; // the default project
    let refused = (0..WRITES_MAX).find_map(|number| {
        let (status, body, says_when) = create(&server, &key, number);
        made += u64::from(status == 201);
        (status != 201).then_some((status, body, says_when))
    });
    let (status, body, says_when) = refused.expect("a full disk refuses sometime");
    assert_eq!((status, &body["code"]), (503, &json!("service_unavailable")), "{body}");
    assert!(says_when, "it says when to retry");
    assert_eq!(total(&server, &key), made, "what is read is what was acknowledged");
    let (status, ..) = create(&server, &key, WRITES_MAX);
    assert_eq!(status, 503, "it stays so, and the server stays");

    std::fs::remove_file(&filler).unwrap();
    let (status, body, _) = create(&server, &key, WRITES_MAX + 1);
    assert_eq!(status, 201, "there is room again: {body}");
    assert_eq!(total(&server, &key), made + 1);
    server.stop();
    assert_sound(&place);

    // A start without room: it says so, or does without.
    disk.fill();
    let mut server = place.spawn(&[]);
    server.wait_for_line("");
    server.signal("TERM");
    let (code, log) = server.end();
    assert!(code == Some(0) || log.contains("space"), "{code:?} {log}");
    std::fs::remove_file(&filler).unwrap();
    let server = place.serve(&[]);
    assert_eq!(total(&server, &key), made + 1);
    server.stop();
}

#[test]
fn a_first_start_without_room_is_refused() {
    let place = Place::new();
    let Some(_disk) = Mounted::at(&place.data_dir(), "32k") else { return };
    let (code, log) = place.spawn(&[]).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("space") && log.contains(place.data_dir().to_str().unwrap()), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_read_only_disk_is_refused() {
    let place = Place::new();
    let Some(disk) = Mounted::at(&place.data_dir(), "8m") else { return };
    place.init();
    disk.remount("ro");
    let (code, log) = place.spawn(&[]).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("read-only") && log.contains("--data-dir"), "{log}");
    let done = place.run(&["image", "remove", "x"]);
    assert!(!done.ok && done.err.contains("read-only"), "{}", done.err);
    disk.remount("rw");
    place.serve(&[]).stop();
}

#[test]
fn a_folder_of_another_mode_or_user_is_refused() {
    let place = Place::new();
    place.init();
    std::fs::set_permissions(place.data_dir(), PermissionsExt::from_mode(0o500)).unwrap();
    if rustix::process::geteuid().is_root() {
        println!("left out: a folder without the right to write, because root needs none");
        // Root meets the folder of somebody else instead.
        std::os::unix::fs::chown(place.data_dir(), Some(65_534), None).unwrap();
    }
    let (code, log) = place.spawn(&[]).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(place.data_dir().to_str().unwrap()) && log.contains("--data-dir"), "{log}");
}
