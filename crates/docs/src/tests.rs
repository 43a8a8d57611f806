#![allow(clippy::unwrap_used)]

use super::*;

fn documents() -> (Value, Value) {
    let read = |text: &str| serde_json::from_str(text).unwrap();
    (read(include_str!("../../../openapi/platform.json")), read(include_str!("../../../openapi/strettch.json")))
}

fn docs() -> Docs {
    let (platform, strettch) = documents();
    Docs::new("https://cloud.example", &platform, &strettch)
}

fn get(docs: &Docs, path: &str) -> Answer {
    docs.answer(path, "", &Health::default())
}

/// Addresses are for ever: one that is not made any more has to be in `ADDRESSES_MOVED`. `cargo xtask openapi` adds new ones.
#[test]
fn every_address_that_ever_was_still_leads_somewhere() {
    let docs = docs();
    let known: Vec<&str> = include_str!("../addresses.txt").lines().collect();
    for address in &known {
        let answer = get(&docs, address);
        assert!(matches!(answer.status, 200 | 301), "{address} answers {}", answer.status);
    }
}

#[test]
fn every_page_has_a_twin_and_every_link_leads_to_a_page() {
    let docs = docs();
    let (platform, strettch) = documents();
    for address in addresses(&platform, &strettch) {
        let page = get(&docs, &address);
        assert_eq!(page.status, 200, "{address}");
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(html.len() < 90_000, "{address} is {} bytes", html.len());
        if address != "/docs/search" {
            let twin = get(&docs, &format!("{address}.md"));
            assert_eq!((twin.status, twin.content_type), (200, "text/markdown; charset=utf-8"), "{address}");
        }
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.starts_with("/docs/openapi/") || path.starts_with("http") || path.starts_with("/console") {
                continue;
            }
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let path = if path.is_empty() { address.as_str() } else { path };
            let target = docs.answer(path, &query.replace("&amp;", "&"), &Health::default());
            assert!(matches!(target.status, 200 | 301 | 302), "{address} links to {link}");
            if !anchor.is_empty() {
                let text = String::from_utf8(target.body.to_vec()).unwrap();
                assert!(text.contains(&format!("id=\"{anchor}\"")), "{address} links to {link}");
            }
        }
    }
}

#[test]
fn samples_name_this_installation_and_nothing_else() {
    let docs = docs();
    for operation in &docs.reference.operations {
        for surface in operation.surfaces() {
            for language in sample::Language::ALL {
                let Some(text) = sample::sample(operation, surface, language, &docs.origin) else { continue };
                let named: Vec<&str> = text.split("https://").skip(1).collect();
                // The reader's own, such as where a webhook sends: names that lead nowhere (RFC 2606).
                let readers = ["example.com/", "hooks.example/"];
                assert!(
                    named
                        .iter()
                        .all(|rest| rest.starts_with("cloud.example/") || readers.iter().any(|r| rest.starts_with(r))),
                    "{text}"
                );
                assert!(!text.contains("{id}"), "{text}");
            }
        }
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is_like_it() {
    let docs = docs();
    let answer = get(&docs, "/docs/guides/idempotent");
    assert_eq!(answer.status, 404);
    let html = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(html.contains("There is no such page"));
    assert_eq!(get(&docs, "/docs/").location.as_deref(), Some("/docs"));
    assert_eq!(get(&docs, "/docs/start").location.as_deref(), Some("/docs/start/quickstart"));
    assert_eq!(get(&docs, "/").status, 302);
}

#[test]
fn search_answers_without_a_script_and_shows_nothing_as_markup() {
    let docs = docs();
    let found = docs.answer("/docs/search", "q=idempotency+key", &Health::default());
    let html = String::from_utf8(found.body.to_vec()).unwrap();
    assert!(html.contains("/docs/guides/idempotency"), "{html}");
    let hostile = docs.answer("/docs/search", "q=%3Cscript%3Ealert(1)%3C/script%3E%22", &Health::default());
    let html = String::from_utf8(hostile.body.to_vec()).unwrap();
    assert!(!html.contains("<script>alert"), "{html}");
}

#[test]
fn the_strip_says_what_was_measured() {
    let docs = docs();
    let page = |health| String::from_utf8(docs.answer("/docs", "", &health).body.to_vec()).unwrap();
    assert!(page(Health::default()).contains("Uptime: not measured yet"));
    let health =
        Health { uptime_millipercent: Some(99_987), latency_us: Some(1_234), regions: vec!["local".to_owned()] };
    let shown = page(health);
    assert!(shown.contains("<b>99.987 %</b>") && shown.contains("<b>1.2 ms</b>") && shown.contains("<b>local</b>"));
}

#[test]
fn an_asset_is_kept_for_ever_under_its_edition_only() {
    let docs = docs();
    let path = format!("/docs/assets/{}/docs.css", *asset::EDITION);
    assert!(get(&docs, &path).cache.contains("immutable"));
    assert_eq!(get(&docs, "/docs/assets/0/docs.css").cache, "no-cache");
    assert_eq!(get(&docs, "/docs/assets/0/../x").status, 404);
}

#[test]
fn the_link_of_an_invitation_leads_to_a_page_that_keeps_nothing() {
    let docs = docs();
    let page = get(&docs, "/invitations/accept");
    assert_eq!((page.status, page.cache), (200, "no-store"));
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(html.contains("https://cloud.example/v1/invitations/accept"), "without JavaScript there is a way");
    let script = html.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(get(&docs, script).status, 200);
    assert!(Docs::owns("/invitations/accept") && !Docs::owns("/invitations"));
}
