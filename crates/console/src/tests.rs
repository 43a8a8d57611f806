//! The pages against an API that answers from a list.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;

/// Answers by path, and remembers what it was asked.
#[derive(Default)]
struct Canned {
    answers: Vec<(&'static str, u16, Value)>,
    asked: Mutex<Vec<(String, Option<Value>)>>,
}

impl Api for Canned {
    fn call<'a>(
        &'a self,
        method: &'static str,
        path: String,
        body: Option<Value>,
        _: Option<&'a str>,
    ) -> Answering<'a> {
        let told = format!("{method} {path}");
        let found = self.answers.iter().find(|(start, ..)| told.starts_with(start));
        let found = found
            .map_or((200, json!({"data": [], "meta": {"total": 0, "page": 1, "limit": 20}})), |(_, status, body)| {
                (*status, body.clone())
            });
        self.asked.lock().unwrap().push((told, body));
        Box::pin(async move { Told { status: found.0, body: found.1 } })
    }
}

fn page(api: &Canned, is_post: bool, path: &str, form: &str) -> Page {
    let place = Place { id: "ws_1".to_owned(), name: "acme <&>".to_owned(), role: "member".to_owned() };
    let places = [place.clone()];
    let (query, form) = (Pairs::default(), Pairs::parse(form.as_bytes()));
    let visit = Visit {
        origin: "https://cloud.example",
        csrf: "c0ffee",
        fresh: "f1",
        email: "ada@people.example",
        places: &places,
        place: &place,
        is_sandbox: false,
        is_post,
        path,
        query: &query,
        form: &form,
    };
    let mut future = std::pin::pin!(workspace_page(&visit, api));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(page) => page,
        std::task::Poll::Pending => panic!("the canned API never waits"),
    }
}

#[test]
fn names_of_tenants_are_no_markup() {
    let page = page(&Canned::default(), false, "/computes", "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("acme &#60;&#38;&#62;"), "{}", page.body);
    assert!(!page.body.contains("acme <&>"));
}

#[test]
fn a_refused_form_keeps_what_was_typed_and_says_what_is_wrong() {
    let refusal = json!({"status": 400, "code": "bad_request", "message": "\"name\" may hold only lower-case letters.",
        "details": [{"code": "invalid_value", "message": "\"name\" may hold only lower-case letters.", "pointer": "/name"}],
        "request_id": "r-1"});
    let api = Canned { answers: vec![("POST /computes", 400, refusal)], ..Canned::default() };
    let page = page(&api, true, "/computes", "name=WEB&csrf=c0ffee&user_data=a%0D%0Ab&labels=tier%3Dweb");
    assert_eq!((page.status, page.location), (400, None));
    for part in ["value=\"WEB\"", "r-1", "/docs/errors/bad_request", "<title>Error: New compute", "value=\"tier=web\""]
    {
        assert!(page.body.contains(part), "{part} in {}", page.body);
    }
    let asked = api.asked.lock().unwrap();
    assert_eq!(asked[0].1, Some(json!({"name": "WEB", "user_data": "a\nb", "labels": {"tier": "web"}})));
}

#[test]
fn a_made_compute_is_shown_by_another_page() {
    let api =
        Canned { answers: vec![("POST /computes", 201, json!({"id": "cmp_1", "name": "web-1"}))], ..Canned::default() };
    let page = page(&api, true, "/computes", "name=web-1");
    assert_eq!((page.status, page.location.as_deref()), (303, Some("/console/ws_1/computes/cmp_1")));
}

#[test]
fn a_secret_is_in_the_page_that_made_it_and_in_no_address() {
    let made = json!({"id": "key_1", "name": "ci", "secret": "sk_live_x", "previous_secret_until": null});
    let api = Canned { answers: vec![("POST /api-keys", 201, made)], ..Canned::default() };
    let page = page(&api, true, "/keys", "name=ci&access=read&allowed_ips=10.0.0.0%2F8%2C+192.0.2.1");
    assert_eq!((page.status, page.location), (200, None));
    assert!(page.body.contains("sk_live_x"));
    let asked = api.asked.lock().unwrap();
    let body = asked[0].1.clone().unwrap();
    assert_eq!(body["allowed_ips"], json!(["10.0.0.0/8", "192.0.2.1"]));
    assert!(body["scopes"].as_array().unwrap().contains(&json!("compute:read")));
}

#[test]
fn a_project_goes_only_when_its_name_was_typed() {
    let project = json!({"data": {"id": "prj_1", "name": "shop", "is_default": false}, "meta": {}});
    let api = Canned {
        answers: vec![("GET /projects/prj_1 ", 200, Value::Null), ("GET /projects/prj_1", 200, project)],
        ..Canned::default()
    };
    let page = page(&api, true, "/projects/prj_1/delete", "name=other");
    assert_eq!(page.status, 400);
    assert!(!api.asked.lock().unwrap().iter().any(|(told, _)| told.starts_with("DELETE")));
}

#[test]
fn an_id_of_an_address_is_never_more_than_a_segment() {
    let api = Canned::default();
    page(&api, true, "/computes/..%2F..%2Fapi-keys%3Fx/stop", "");
    let asked = api.asked.lock().unwrap();
    assert_eq!(asked[0].0, "POST /computes/~~~2F~~~2Fapi-keys~3Fx/stop");
}

#[test]
fn money_is_exact() {
    for (micro, text) in [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (-2_030_000, "-2.03"), (730_000, "0.73")] {
        assert_eq!(thing::money(micro), text);
    }
}
