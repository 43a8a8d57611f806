//! Every page there is, in the order of the navigation. An address is for ever: one that goes leaves a redirect.

use nephos_model::Code;

use crate::reference::Reference;

/// A written page.
#[derive(Debug, Clone, Copy)]
pub struct Guide {
    /// Its address.
    pub path: &'static str,
    /// Its text in Markdown: a title, a paragraph that says what it is about, the rest.
    pub text: &'static str,
}

impl Guide {
    /// Its title.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// Its first paragraph, on one line and without markup.
    pub fn about(&self) -> String {
        let paragraph = self.text.split("\n\n").nth(1).unwrap_or_default();
        paragraph.replace('\n', " ").replace(['`', '*'], "")
    }
}

/// A group of written pages.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Its pages.
    pub guides: &'static [Guide],
}

macro_rules! guide {
    ($folder:literal / $name:literal) => {
        Guide {
            path: concat!("/docs/", $folder, "/", $name),
            text: include_str!(concat!("../pages/", $folder, "/", $name, ".md")),
        }
    };
}

/// The written pages.
pub const SECTIONS: &[Section] = &[
    Section { title: "Start", guides: &[guide!("start" / "quickstart"), guide!("start" / "concepts")] },
    Section {
        title: "Guides",
        guides: &[
            guide!("guides" / "authentication"),
            guide!("guides" / "roles"),
            guide!("guides" / "workspaces"),
            guide!("guides" / "console"),
            guide!("guides" / "projects-environments"),
            guide!("guides" / "computes"),
            guide!("guides" / "idempotency"),
            guide!("guides" / "rate-limits"),
            guide!("guides" / "pagination"),
            guide!("guides" / "events"),
            guide!("guides" / "webhooks"),
            guide!("guides" / "sandbox"),
            guide!("guides" / "usage-invoices"),
            guide!("guides" / "telemetry"),
            guide!("guides" / "audit-log"),
            guide!("guides" / "versioning"),
        ],
    },
    Section {
        title: "Operate",
        guides: &[
            guide!("operate" / "install"),
            guide!("operate" / "configure"),
            guide!("operate" / "backup"),
            guide!("operate" / "upgrade"),
        ],
    },
];

/// The page at `path`.
pub fn guide(path: &str) -> Option<&'static Guide> {
    guides().find(|guide| guide.path == path)
}

/// Every written page.
pub fn guides() -> impl Iterator<Item = &'static Guide> {
    SECTIONS.iter().flat_map(|section| section.guides)
}

/// Pages that went, and where what they said is now.
pub const ADDRESSES_MOVED: &[(&str, &str)] =
    &[("/docs/start", "/docs/start/quickstart"), ("/docs/reference", "/docs/v1/reference")];

/// The address of the page of an error.
pub fn error_path(code: Code) -> String {
    format!("/docs/errors/{}", code.snake())
}

/// Every address that holds a page, in the order of the navigation.
pub fn addresses(platform: &serde_json::Value, strettch: &serde_json::Value) -> Vec<String> {
    let reference = Reference::new(platform, strettch);
    let mut all: Vec<String> = vec!["/docs".to_owned(), "/docs/changelog".to_owned(), "/docs/search".to_owned()];
    all.extend(guides().map(|guide| guide.path.to_owned()));
    all.push("/docs/errors".to_owned());
    all.extend(Code::ALL.iter().map(|code| error_path(*code)));
    all.push("/docs/v1/reference".to_owned());
    all.extend(reference.operations.iter().map(crate::reference::Operation::address));
    all
}
