//! Price lists by the operator, with and without a server.

use std::fmt::Write as _;

use serde_json::json;

use crate::program::Place;

#[test]
fn a_list_is_checked_installed_and_followed() {
    let place = Place::new();
    let made = place.init();
    let server = place.serve(&[]);
    let sizes = server.get("/v1/sizes", made["live_key"].as_str()).1;
    let sizes: serde_json::Value = serde_json::from_str(&sizes).unwrap();
    let file = place.parent().join("prices.toml");
    let write = |from: &str, more: &str| {
        let mut text = format!("currency = 'USD'\nvalid_from = '{from}'\n{more}");
        for size in sizes["data"].as_array().unwrap() {
            let name = size["name"].as_str().unwrap();
            let table = "running_microunits_per_hour = 77\nstopped_microunits_per_hour = 7";
            write!(text, "[sizes.{name}]\n{table}\n").unwrap();
        }
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };

    let past = place.run(&["prices", "check", &write("2020-01-01T00:00:00Z", "")]);
    assert!(!past.ok && past.err.contains("valid_from"), "{}", past.err);
    let table = "running_microunits_per_hour = -1\nstopped_microunits_per_hour = 0";
    let wrong = place.run(&["prices", "install", &write("2199-01-01T00:00:00Z", &format!("[sizes.huge]\n{table}\n"))]);
    assert!(
        !wrong.ok && wrong.err.contains("no size huge") && wrong.err.contains("sizes.huge.running"),
        "{}",
        wrong.err
    );
    let unknown = place.run(&["prices", "install", &write("2199-01-01T00:00:00Z", "colour = 'red'\n")]);
    assert!(!unknown.ok && unknown.err.contains("colour"), "{}", unknown.err);
    assert_eq!(place.run(&["prices", "list", "--output", "json"]).json(), json!([]));

    let good = write("2199-01-01T00:00:00Z", "");
    assert!(place.run(&["prices", "check", &good]).ok);
    assert_eq!(place.run(&["prices", "install", &good, "--output", "json"]).json()["version"], json!(1));
    server.stop();
    assert_eq!(place.run(&["prices", "install", &good, "--output", "json"]).json()["version"], json!(2));
    let listed = place.run(&["prices", "list", "--output", "json"]).json();
    let nano = &listed[1]["sizes"]["nano"]["running_microunits_per_hour"];
    assert_eq!((&listed[1]["valid_from"], nano), (&json!("2199-01-01T00:00:00Z"), &json!(77)), "{listed}");
    let told = place.run(&["audit", "export"]);
    assert_eq!(told.out.matches("prices.install").count(), 2, "{}", told.out);
}
