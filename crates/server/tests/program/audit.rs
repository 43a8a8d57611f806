//! The audit log from the outside: read by a client, copied and checked by the operator, altered by somebody else.

use std::process::Command;

use serde_json::{Value, json};

use crate::program::Place;

#[test]
fn the_operator_copies_the_log_and_finds_who_altered_it() {
    let place = Place::new();
    let made = place.init();
    let key = made["live_key"].as_str().unwrap();
    let server = place.serve(&[]);
    assert_eq!(server.post("/v1/projects", key, &json!({"name": "shop"})).0, 201);
    assert_eq!(server.get("/v1/projects/prj_0000000000000000000000000f", Some(key)).0, 404);
    assert_eq!(server.get("/v1/projects", Some("sk_live_wrong")).0, 401);

    let mut list = place.command(&["audit", "list", "--action", "project.create", "--output", "json"]);
    let listed = list.env("CLOUD_API_KEY", key).env("NEPHOS_URL", &server.url).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let online = place.run(&["audit", "verify", "--output", "json"]).json();
    assert!(online.as_array().unwrap().iter().all(|log| log["is_whole"] == json!(true)), "{online}");

    // An end in order writes what was refused up to then.
    server.stop();
    let copied = place.run(&["audit", "export", "--workspace", made["workspace_id"].as_str().unwrap()]);
    let rows: Vec<Value> = copied.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        rows.iter().map(|row| (row["action"].as_str().unwrap(), row["status"].as_i64().unwrap())).collect();
    assert!(told.contains(&("project.create", 201)) && told.contains(&("project.get", 404)), "{told:?}");
    let after = rows[0]["id"].as_str().unwrap();
    let rest = place.run(&["audit", "export", "--workspace", made["workspace_id"].as_str().unwrap(), "--after", after]);
    assert_eq!(rest.out.lines().count(), rows.len() - 1);
    let own = place.run(&["audit", "export"]);
    let counted: Value = serde_json::from_str(own.out.lines().last().unwrap()).unwrap();
    assert_eq!((&counted["status"], &counted["after"]["requests"]), (&json!(401), &json!(1)), "{counted}");

    assert!(place.run(&["audit", "verify"]).ok);
    let alter = "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1])\n\
        where = ' WHERE action = ? AND actor_kind = ?'\n\
        n = d.execute('UPDATE audit_log SET address = NULL' + where, ('project.create', 'api_key')).rowcount\n\
        d.commit()\nprint(n)";
    let altered = Command::new("python3").args(["-c", alter]).arg(place.data_dir().join("nephos.db")).output().unwrap();
    assert_eq!(String::from_utf8(altered.stdout).unwrap().trim(), "1");
    let found = place.run(&["audit", "verify"]);
    assert!(!found.ok && found.out.contains("is not the one that was written"), "{}{}", found.out, found.err);
}
