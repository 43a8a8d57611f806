//! The console through the whole request path: in by a link, forms that act once and only from its own pages, and each
//! person with no more than the role gives.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod api;

use std::time::Duration;

use api::{Answer, Api};
use nephos_http::Config;
use nephos_model::session::{IDLE_LIFE, LIFE};

const OWNER: &str = "owner@mine.example";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HOME: (&str, &str) = ("sec-fetch-site", "same-origin");

/// A browser with one cookie.
struct Browser<'a> {
    api: &'a Api,
    cookie: String,
    /// The page of the workspace that it came to first.
    base: String,
}

impl<'a> Browser<'a> {
    async fn signed_in(api: &'a Api, email: &str) -> Self {
        let link = api.world.cloud.operator_sign_in_link(email).await.unwrap();
        let path = &link.url[link.url.find("/console/").unwrap()..];
        // Whatever opens the link uses nothing up.
        for _ in 0..2 {
            let page = api.send("GET", path, &[], "").await;
            assert!(page.status == 200 && page.text.contains("This link works once"), "{}", page.text);
        }
        let token = path.rsplit('=').next().unwrap();
        let answer = api.send("POST", "/console/sign-in", &[FORM, HOME], &format!("token={token}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/console"), "{}", answer.text);
        let cookie = answer.header("set-cookie").to_owned();
        for part in ["Path=/console", "HttpOnly", "SameSite=Lax", "Secure"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let again = api.send("POST", "/console/sign-in", &[FORM, HOME], &format!("token={token}")).await;
        assert!(again.status == 401 && again.text.contains("used before"), "{}", again.text);
        let mut browser = Self { api, cookie: cookie.split(';').next().unwrap().to_owned(), base: String::new() };
        browser.get("/console").await.header("location").clone_into(&mut browser.base);
        browser
    }

    async fn get(&self, path: &str) -> Answer {
        self.api.send("GET", path, &[("cookie", &self.cookie)], "").await
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(&format!("{}{path}", self.base)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
        answer.text
    }

    /// Sends a form with what the page hides in it.
    async fn send(&self, page: &str, action: &str, fields: &str) -> Answer {
        let text = self.page(page).await;
        let csrf = hidden(&text, "csrf");
        let key = hidden(&text, "idempotency_key");
        let body = format!("csrf={csrf}&idempotency_key={key}&{fields}");
        self.post(&format!("{}{action}", self.base), &body).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.api.send("POST", path, &[("cookie", &self.cookie), FORM, HOME], body).await
    }
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let after = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name} in {page}"));
    after.1.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_comes_in_works_and_goes() {
    let api = Api::started().await;
    let browser = Browser::signed_in(&api, OWNER).await;
    assert!(browser.page("").await.contains("No computes yet"));
    let made = browser.send("/projects", "/projects", "name=shop").await;
    assert_eq!(made.status, 303, "{}", made.text);
    assert!(browser.page("/projects").await.contains("shop"));
    let made = browser.send("/computes/new", "/computes", "name=web-1&size=nano&image=small&labels=tier%3Dweb").await;
    assert_eq!(made.status, 303, "{}", made.text);
    let compute = made.header("location").strip_prefix(&browser.base).unwrap().to_owned();
    let page = browser.page(&compute).await;
    assert!(page.contains("web-1") && page.contains("compute.create"), "{page}");
    for path in [
        "/computes",
        "/computes?status=failed&name=x",
        "/ssh-keys",
        "/keys",
        "/webhooks",
        "/audit",
        "/team",
        "/events",
        "/usage",
        "/sandbox",
    ] {
        browser.page(path).await;
    }
    let account = browser.get("/console/account").await;
    assert!(account.text.contains("this one"), "{}", account.text);
    let csrf = hidden(&account.text, "csrf");
    assert_eq!(browser.post("/console/sign-out", &format!("csrf={csrf}")).await.status, 303);
    assert_eq!(browser.get(&browser.base.clone()).await.header("location"), "/console/sign-in");
}

/// What a page reads is one request of its person's budget, however much it shows.
#[tokio::test]
async fn a_page_spends_one_request() {
    let api = Api::configured(Config::default(), "standard").await;
    let browser = Browser::signed_in(&api, OWNER).await;
    for _ in 0..120 {
        browser.page("").await;
    }
    let refused = browser.get(&browser.base.clone()).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.text.contains("120 requests in any 60 seconds"), "{}", refused.text);
}

#[tokio::test]
async fn a_form_that_is_sent_twice_acts_once() {
    let api = Api::new().await;
    let browser = Browser::signed_in(&api, OWNER).await;
    let text = browser.page("/keys").await;
    let body = format!(
        "csrf={}&idempotency_key={}&name=ci&access=read",
        hidden(&text, "csrf"),
        hidden(&text, "idempotency_key")
    );
    let path = format!("{}/keys", browser.base);
    let (first, second) = (browser.post(&path, &body).await, browser.post(&path, &body).await);
    let secret = |answer: &Answer| {
        let from = answer.text.find("sk_live_").unwrap_or_else(|| panic!("{}", answer.text));
        answer.text[from..from + 57].to_owned()
    };
    assert_eq!(secret(&first), secret(&second));
    // The key works, and is narrowed.
    let key = format!("Bearer {}", secret(&first));
    assert_eq!(api.send("GET", "/v1/computes", &[("authorization", &key)], "").await.status, 200);
    let json = ("content-type", "application/json");
    let made = api.send("POST", "/v1/projects", &[("authorization", &key), json], "{\"name\":\"x\"}").await;
    assert_eq!(made.status, 403);
    // A reload shows no secret.
    assert!(!browser.page("/keys").await.contains("sk_live_"));
}

#[tokio::test]
async fn only_the_consoles_own_pages_send_forms() {
    let api = Api::new().await;
    let browser = Browser::signed_in(&api, OWNER).await;
    let path = format!("{}/projects", browser.base);
    let csrf = hidden(&browser.page("/projects").await, "csrf");
    let body = format!("csrf={csrf}&name=evil");
    let cookie = ("cookie", browser.cookie.as_str());
    for (headers, status) in [
        (vec![cookie, FORM, ("sec-fetch-site", "cross-site")], 400),
        (vec![cookie, FORM, ("sec-fetch-site", "same-site")], 400),
        (vec![cookie, FORM, ("origin", "https://evil.example")], 400),
        (vec![cookie, FORM], 400),
        (vec![cookie, HOME, ("content-type", "text/plain")], 400),
        (vec![cookie, FORM, ("origin", "https://cloud.example")], 303),
    ] {
        let answer = api.send("POST", &path, &headers, &body).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text);
    }
    assert_eq!(browser.post(&path, "csrf=other&name=evil").await.status, 403);
    assert_eq!(browser.post(&path, "name=evil").await.status, 403);
    // The API takes no cookie, and the console no key.
    assert_eq!(api.send("GET", "/v1/projects", &[cookie], "").await.status, 401);
    let keyed = api.send("GET", &browser.base, &[("authorization", "Bearer owner")], "").await;
    assert_eq!(keyed.header("location"), "/console/sign-in");
    assert_eq!(api.send("DELETE", &path, &[cookie], "").await.status, 405);
}

#[tokio::test]
async fn a_person_sees_what_the_role_gives_in_workspaces_of_their_own() {
    let api = Api::new().await;
    let owner = Browser::signed_in(&api, OWNER).await;
    let other = Browser::signed_in(&api, "owner@other.example").await;
    assert_ne!(owner.base, other.base);
    assert_eq!(other.get(&format!("{}/projects", owner.base)).await.status, 404);
    let invited = owner.send("/team", "/team/invite", "email=bob@people.example&role=member").await;
    assert!(invited.status == 200 && invited.text.contains("/invitations/accept#invite_"), "{}", invited.text);
    let token = &invited.text[invited.text.find("invite_").unwrap()..][..56];
    let json = ("content-type", "application/json");
    let accepted = api.send("POST", "/v1/invitations/accept", &[json], &format!("{{\"token\":\"{token}\"}}")).await;
    assert_eq!(accepted.status, 201, "{}", accepted.text);
    let bob = Browser::signed_in(&api, "bob@people.example").await;
    assert_eq!(bob.base, owner.base);
    assert!(bob.page("/team").await.contains("Admins and Owners invite"));
    assert!(bob.page("/usage").await.contains("Owners see amounts"));
    let text = bob.page("/projects").await;
    let refused = bob
        .post(
            &format!("{}/team/invite", bob.base),
            &format!("csrf={}&email=c@d.example&role=owner", hidden(&text, "csrf")),
        )
        .await;
    assert!(refused.status == 403 && refused.text.contains("/docs/errors/forbidden"), "{}", refused.text);
    // Removed, the person is out on the next request.
    let page = owner.page("/team").await;
    let row = page.split("bob@people.example").nth(1).unwrap();
    let member = &row[row.find("mem_").unwrap()..][..30];
    let removed = owner.send("/team", &format!("/team/{member}/remove"), "").await;
    assert_eq!(removed.status, 303, "{}", removed.text);
    assert_eq!(bob.get(&format!("{}/projects", bob.base)).await.status, 404);
}

#[tokio::test]
async fn a_session_ends_by_rest_and_by_age_and_a_link_by_its_time() {
    let api = Api::new().await;
    let browser = Browser::signed_in(&api, OWNER).await;
    let late = api.world.cloud.operator_sign_in_link(OWNER).await.unwrap();
    let step = IDLE_LIFE.saturating_sub(Duration::from_secs(60));
    let mut age = Duration::ZERO;
    while age + step < LIFE {
        api.world.clock.advance(step).await;
        age += step;
        assert_eq!(browser.get(&browser.base.clone()).await.status, 200, "{age:?}");
    }
    api.world.clock.advance(LIFE.saturating_sub(age)).await;
    assert_eq!(browser.get(&browser.base.clone()).await.header("location"), "/console/sign-in");
    let token = late.url.rsplit('=').next().unwrap();
    assert_eq!(api.send("POST", "/console/sign-in", &[FORM, HOME], &format!("token={token}")).await.status, 401);
    let resting = Browser::signed_in(&api, OWNER).await;
    api.world.clock.advance(IDLE_LIFE).await;
    assert_eq!(resting.get(&resting.base.clone()).await.header("location"), "/console/sign-in");
    api.world.cloud.expire_some().await.unwrap();
}

#[tokio::test]
async fn a_link_by_mail_tells_nobody_who_is_here() {
    let api = Api::new().await;
    let ask =
        async |email: &str| api.send("POST", "/console/sign-in/link", &[FORM, HOME], &format!("email={email}")).await;
    let (known, unknown) = (ask(OWNER).await, ask("nobody@mine.example").await);
    assert_eq!((known.status, unknown.status), (200, 200));
    assert_eq!(known.text.replace(OWNER, "X"), unknown.text.replace("nobody@mine.example", "X"));
    assert_eq!(ask("no-address").await.status, 400);
    api.world.cloud.send_mails().await.unwrap();
    let mails = api.world.mailbox.take();
    let links: Vec<_> =
        mails.iter().filter(|mail| mail.text.plain.contains("/console/sign-in?token=signin_")).collect();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].to, OWNER);
}

#[tokio::test]
async fn the_sandbox_is_apart_and_says_so() {
    let api = Api::new().await;
    let mut browser = Browser::signed_in(&api, OWNER).await;
    browser.base.push_str("/sandbox");
    assert!(browser.page("").await.contains("Simulated and free"));
    let made = browser.send("/projects", "/projects", "name=play").await;
    assert_eq!(made.status, 303, "{}", made.text);
    let moved = browser.send("/sandbox", "/sandbox/advance", "seconds=3600").await;
    assert_eq!(moved.status, 303, "{}", moved.text);
    assert!(browser.page("/sandbox").await.contains("3600 s"));
    let reset = browser.send("/sandbox", "/sandbox/reset", "").await;
    assert_eq!(reset.status, 303, "{}", reset.text);
    assert!(!browser.page("/projects").await.contains("play"));
}
