//! What can be known to be wrong at the start stops the start, names the thing and the way out.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::program::Place;

fn refused(place: &Place, more: &[&str]) -> (Option<i32>, String) {
    place.spawn(more).end()
}

#[test]
fn an_unknown_key_names_the_file_the_line_and_the_nearest_key() {
    let place = Place::new();
    let file = place.parent().join("nephos.toml");
    std::fs::write(&file, "log = 'text'\nstop_deadlin_s = 3\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = format!("nephos: {file}, line 2: there is no key `stop_deadlin_s`; did you mean `stop_deadline_s`?");
    let (code, log) = refused(&place, &["--config", file]);
    assert_eq!((code, log), (Some(2), expected.clone()));
    let check = place.run(&["config", "check", "--config", file]);
    assert_eq!((check.code, check.err.trim_end()), (Some(2), expected.as_str()));
    assert!(!place.data_dir().exists(), "a refused start leaves nothing behind");
}

#[test]
fn a_port_in_use_names_the_address_and_the_flag() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) = refused(&place, &["--listen", &address, "--admin-listen", "off"]);
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("the address {address} is in use")) && log.contains("--listen"), "{log}");
    let (code, log) = refused(&place, &["--admin-listen", &address]);
    assert_eq!(code, Some(1));
    assert!(log.contains(&address) && log.contains("--admin-listen"), "{log}");
}

#[test]
fn a_listener_that_others_reach_is_refused_without_a_word() {
    let (code, log) = refused(&Place::new(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert!(log.contains("--behind-proxy") && log.contains("--insecure"), "{log}");
}

#[test]
fn a_bad_database_address_is_refused_and_its_password_stays_hidden() {
    let place = Place::new();
    let (code, log) = refused(&place, &["--database", "mysql://db/nephos"]);
    assert_eq!(code, Some(2));
    assert!(log.contains("postgres://"), "{log}");
    // Nobody listens on port 1 of the loopback address.
    let (code, log) = refused(&place, &["--database", "postgres://nephos:s3cr3t@127.0.0.1:1/nephos"]);
    assert_eq!(code, Some(1));
    assert!(log.contains("127.0.0.1:1") && log.contains("--database") && !log.contains("s3cr3t"), "{log}");
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let place = Place::new();
    std::fs::write(place.data_dir(), "").unwrap();
    let (code, log) = refused(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("is a file, not a folder") && log.contains("--data-dir"), "{log}");
}

#[test]
fn a_folder_that_others_can_read_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).unwrap();
    std::fs::set_permissions(place.data_dir(), PermissionsExt::from_mode(0o755)).unwrap();
    let (code, log) = refused(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("chmod 700"), "{log}");
}

#[test]
fn a_folder_that_can_not_be_made_is_refused() {
    // Nothing can be made in /proc, by root either.
    let place = Place::new();
    let dir = "/proc/nephos-data";
    let done = place.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", dir]).output().unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(log.contains(dir), "{log}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let place = Place::new();
    place.serve(&[]).stop();
    let file = place.data_dir().join("nephos.db");
    for companion in ["nephos.db-wal", "nephos.db-shm"] {
        _ = std::fs::remove_file(place.data_dir().join(companion));
    }
    let junk = vec![0x5a; 8192];
    std::fs::write(&file, &junk).unwrap();
    let (code, log) = refused(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("nephos.db") && log.contains("not a database"), "{log}");
    assert_eq!(std::fs::read(&file).unwrap(), junk);
}

#[test]
fn another_master_key_is_refused() {
    let place = Place::new();
    place.serve(&[]).stop();
    let key = place.data_dir().join("keys/master");
    let good = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "11".repeat(32)).unwrap();
    let (code, log) = refused(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("master key"), "{log}");
    std::fs::write(&key, &good).unwrap();
    place.serve(&[]).stop();

    // A lost key is not replaced by another one, which could open nothing.
    std::fs::remove_file(&key).unwrap();
    let (code, log) = refused(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("keys/master") && log.contains("put"), "{log}");
    assert!(!key.exists(), "{log}");
}

#[test]
fn the_client_says_what_is_missing() {
    let place = Place::new();
    let done = place.command(&["me"]).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8(done.stderr).unwrap().contains("CLOUD_API_KEY"));
    let done =
        place.command(&["me", "--url", "http://127.0.0.1:1"]).env("CLOUD_API_KEY", "sk_live_x").output().unwrap();
    assert_eq!(done.status.code(), Some(7));
    assert!(String::from_utf8(done.stderr).unwrap().contains("NEPHOS_URL"));
}
