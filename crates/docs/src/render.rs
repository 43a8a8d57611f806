//! Pages: what stands on each, in HTML and in Markdown.

use std::fmt::Write as _;

use askama::Template;
use nephos_model::Code;

use crate::markdown::{self, Heading, escape};
use crate::reference::{Field, Operation, Surface, title};
use crate::sample::{Language, sample};
use crate::site::{self, Guide, SECTIONS, error_path};
use crate::{Answer, Docs, Health, QUERY_BYTES_MAX, asset, error, search};

/// The releases, as the repository tells them.
const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");

#[derive(Template)]
#[template(path = "layout.html")]
struct Layout<'a> {
    title: &'a str,
    about: &'a str,
    edition: &'a str,
    version: &'a str,
    twin: &'a str,
    query: &'a str,
    strip: &'a str,
    side: &'a str,
    class: &'a str,
    main: &'a str,
    contents: &'a [Heading],
}

/// A page without its frame.
#[derive(Default)]
struct Page {
    title: String,
    about: String,
    class: &'static str,
    main: String,
    contents: Vec<Heading>,
    has_twin: bool,
    query: String,
}

/// What a query asks for.
struct Wanted {
    surface: Surface,
    language: Language,
    words: String,
}

impl Docs {
    /// A page, or what is said when there is none.
    pub(crate) fn page(&self, path: &str, query: &str, health: &Health) -> Answer {
        if let Some(twin) = path.strip_suffix(".md") {
            return match self.markdown(twin) {
                Some(text) => Answer::text("text/markdown; charset=utf-8", text),
                None => self.missing(path, health),
            };
        }
        let wanted = wanted(query);
        let page = match path {
            "/docs" => Some(self.landing()),
            "/docs/changelog" => Some(written("Changelog", CHANGELOG, &self.origin)),
            "/docs/search" => Some(self.found(&wanted.words)),
            "/docs/errors" => Some(errors()),
            "/docs/v1/reference" => Some(self.operations()),
            path => self.inner(path, &wanted),
        };
        match page {
            Some(page) => self.framed(200, path, &page, health),
            None => self.missing(path, health),
        }
    }

    fn inner(&self, path: &str, wanted: &Wanted) -> Option<Page> {
        if let Some(guide) = site::guide(path) {
            return Some(self.guide(guide));
        }
        if let Some(code) = code_at(path) {
            let mut page = written(code.snake(), &error::markdown(code, &self.origin), &self.origin);
            error::about(code).meaning.clone_into(&mut page.about);
            page.main.push_str(&self.answered_by(code));
            return Some(page);
        }
        let operation = self.reference.at(path)?;
        Some(self.operation(operation, wanted))
    }

    /// The page that is shown when there is none.
    pub(crate) fn missing(&self, path: &str, health: &Health) -> Answer {
        let last = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".md").replace(['-', '_'], " ");
        let mut main =
            String::from("<h1>There is no such page</h1>\n<p>Nothing in the documentation has this address.</p>\n");
        main.push_str(&hits(&search::search(&self.reference, &cut(&last)), "Perhaps one of these:"));
        main.push_str("<p><a href=\"/docs\">All pages</a></p>");
        let page = Page { title: "No such page".to_owned(), main, query: cut(&last), ..Page::default() };
        self.framed(404, path, &page, health)
    }

    fn framed(&self, status: u16, path: &str, page: &Page, health: &Health) -> Answer {
        let twin = if page.has_twin { format!("{path}.md") } else { String::new() };
        let layout = Layout {
            title: &page.title,
            about: &page.about,
            edition: &asset::EDITION,
            version: env!("CARGO_PKG_VERSION"),
            twin: &twin,
            query: &page.query,
            strip: &strip(health),
            side: &self.side(path),
            class: page.class,
            main: &page.main,
            contents: &page.contents,
        };
        // The template writes to a string, which does not fail; were it to, the page's own text is still shown.
        let body = layout.render().unwrap_or_else(|_| page.main.clone());
        let link = page.has_twin.then(|| format!("<{twin}>; rel=\"alternate\"; type=\"text/markdown\""));
        Answer { link, ..Answer::html(status, body) }
    }

    fn side(&self, path: &str) -> String {
        let mut out = String::new();
        let mut group = |title: &str, links: &[(String, String)]| fold(&mut out, path, title, links);
        for section in SECTIONS {
            let links: Vec<_> = section.guides.iter().map(|g| (g.path.to_owned(), g.title().to_owned())).collect();
            group(section.title, &links);
        }
        out.push_str("<h2>Reference</h2>");
        let mut group = |title: &str, links: &[(String, String)]| fold(&mut out, path, title, links);
        for noun in self.reference.nouns() {
            let links: Vec<_> = self.reference.of(noun).map(|o| (o.address(), o.summary.clone())).collect();
            group(&title(noun), &links);
        }
        let links: Vec<_> = Code::ALL.iter().map(|code| (error_path(*code), code.snake().to_owned())).collect();
        group("Errors", &links);
        out
    }

    fn landing(&self) -> Page {
        let mut main = String::from(
            "<h1>One cloud, on your own machines</h1>\n<p class=\"lead\">Projects, environments and compute instances behind \
             one REST API: safe to retry, metered to the second, with a sandbox beside it.</p>\n",
        );
        main.push_str(&markdown::code(
            "sh",
            &format!("curl {}/v1/computes \\\n  -H \"Authorization: Bearer $CLOUD_API_KEY\"", self.origin),
        ));
        main.push_str(
            "<p>A key comes from <code>nephos init</code> or from an Admin of your workspace. A test key works at \
             <code>/sandbox/v1</code>, where nothing is real and nothing is billed.</p>\n<ul class=\"cards\">",
        );
        for guide in site::guides() {
            let _ = write!(
                main,
                "<li><a href=\"{}\"><b>{}</b><span>{}</span></a></li>",
                guide.path,
                escape(guide.title()),
                escape(&guide.about())
            );
        }
        main.push_str("<li><a href=\"/docs/v1/reference\"><b>Reference</b><span>Every operation, on both surfaces, in six languages.</span></a></li>");
        main.push_str("<li><a href=\"/docs/errors\"><b>Errors</b><span>What each code means and what to do about it.</span></a></li></ul>");
        Page {
            title: "Documentation".to_owned(),
            about: "How to use and run nephos.".to_owned(),
            class: "full",
            main,
            has_twin: true,
            ..Page::default()
        }
    }

    fn guide(&self, guide: &Guide) -> Page {
        let mut page = written(guide.title(), guide.text, &self.origin);
        page.about = guide.about();
        let all: Vec<&Guide> = site::guides().collect();
        let at = all.iter().position(|other| other.path == guide.path);
        let next = at.and_then(|at| all.get(at + 1));
        let previous = at.and_then(|at| at.checked_sub(1)).and_then(|at| all.get(at));
        page.main.push_str("<p class=\"next\">");
        if let Some(previous) = previous {
            let _ = write!(page.main, "<a href=\"{}\" rel=\"prev\">← {}</a>", previous.path, escape(previous.title()));
        }
        if let Some(next) = next {
            let _ = write!(page.main, "<a href=\"{}\" rel=\"next\">{} →</a>", next.path, escape(next.title()));
        }
        page.main.push_str("</p>");
        page
    }

    fn answered_by(&self, code: Code) -> String {
        let all: Vec<&Operation> =
            self.reference.operations.iter().filter(|o| o.errors.iter().any(|e| e == code.snake())).collect();
        if all.len() == self.reference.operations.len() || all.is_empty() {
            return "<h2>Which operations</h2>\n<p>Any request may be answered so.</p>".to_owned();
        }
        let mut out = String::from("<h2>Which operations</h2>\n<ul>");
        for operation in all {
            let _ = write!(out, "<li><a href=\"{}\">{}</a></li>", operation.address(), escape(&operation.summary));
        }
        out.push_str("</ul>");
        out
    }

    fn operations(&self) -> Page {
        let mut main = String::from(
            "<h1>Reference</h1>\n<p>Every operation is served on both surfaces unless its page says otherwise: the Platform API at \
             <code>/v1</code> and <code>/sandbox/v1</code>, the Strettch API at <code>/api/v1</code>.</p>\n",
        );
        let mut contents = Vec::new();
        for noun in self.reference.nouns() {
            let heading = title(noun);
            let id = markdown::anchor(&heading);
            let _ = write!(
                main,
                "<h2 id=\"{id}\">{}</h2>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><tbody>",
                escape(&heading)
            );
            for o in self.reference.of(noun) {
                let _ = write!(
                    main,
                    "<tr><td><span class=\"method {}\">{}</span></td><td><a class=\"mono\" href=\"{}\">{}</a></td><td>{}</td></tr>",
                    o.method.to_lowercase(),
                    o.method,
                    o.address(),
                    escape(&o.path),
                    escape(&o.summary)
                );
            }
            main.push_str("</tbody></table></div>\n");
            contents.push(Heading { id, text: heading });
        }
        Page {
            title: "Reference".to_owned(),
            about: "Every operation of the API.".to_owned(),
            class: "full",
            main,
            contents,
            has_twin: true,
            ..Page::default()
        }
    }

    fn operation(&self, operation: &Operation, wanted: &Wanted) -> Page {
        let surface = if operation.on(wanted.surface).is_some() {
            wanted.surface
        } else {
            operation.surfaces().next().unwrap_or(wanted.surface)
        };
        let mut main = format!("<h1>{}</h1>\n<div class=\"head\">", escape(&operation.summary));
        let _ = write!(
            main,
            "<p class=\"route\"><span class=\"method {}\">{}</span> {}{}</p><p>",
            operation.method.to_lowercase(),
            operation.method,
            base_of(operation, surface),
            escape(&operation.path)
        );
        for (name, value) in badges(operation) {
            let _ = write!(main, "<span class=\"badge\">{name} <b>{}</b></span>", escape(&value));
        }
        let _ = write!(main, "</p></div>\n<div>\n<p>{}</p>\n", inline(&operation.about));
        for (place, list) in &operation.parameters {
            let heading = match *place {
                "path" => "In the path",
                "query" => "In the query",
                _ => "Headers",
            };
            main.push_str(&field_list(2, heading, list));
        }
        main.push_str(&field_list(2, "Body", &operation.body));
        if let Some(success) = operation.on(surface) {
            let _ = write!(
                main,
                "<h2 id=\"answer\">Answer</h2>\n<p><span class=\"badge\"><b>{}</b></span> {}</p>\n",
                escape(&success.status),
                escape(&success.about)
            );
            let headers: Vec<Field> = success
                .headers
                .iter()
                .map(|(name, about)| Field {
                    name: name.clone(),
                    kind: String::new(),
                    is_required: false,
                    about: about.clone(),
                    bounds: String::new(),
                })
                .collect();
            main.push_str(&field_list(3, "Fields", &optional(&operation.answer)));
            main.push_str(&field_list(3, "Headers of the answer", &headers));
        }
        main.push_str("<h2 id=\"errors\">Errors</h2>\n<ul class=\"errors\">");
        for code in &operation.errors {
            let shown = if surface == Surface::Strettch { code.to_uppercase() } else { code.clone() };
            let _ = write!(main, "<li><a href=\"/docs/errors/{code}\">{}</a></li>", escape(&shown));
        }
        main.push_str("</ul>\n</div>\n");
        main.push_str(&self.samples(operation, surface, wanted.language));
        Page {
            title: operation.summary.clone(),
            about: operation.about.clone(),
            class: "operation",
            main,
            has_twin: true,
            ..Page::default()
        }
    }

    fn samples(&self, operation: &Operation, surface: Surface, language: Language) -> String {
        let address = operation.address();
        let mut out = String::from("<div class=\"samples\"><nav class=\"tabs\" aria-label=\"Surface\">");
        for other in operation.surfaces() {
            let current = if other == surface { " aria-current=\"true\"" } else { "" };
            let _ = write!(
                out,
                "<a href=\"{address}?surface={}&amp;lang={}\"{current}>{}</a>",
                other.name(),
                language.name(),
                other.title()
            );
        }
        out.push_str("</nav><nav class=\"tabs\" aria-label=\"Language\">");
        for other in Language::ALL {
            if sample(operation, surface, other, &self.origin).is_some() {
                let current = if other == language { " aria-current=\"true\"" } else { "" };
                let _ = write!(
                    out,
                    "<a href=\"{address}?surface={}&amp;lang={}\"{current}>{}</a>",
                    surface.name(),
                    other.name(),
                    other.title()
                );
            }
        }
        out.push_str("</nav>");
        let (language, text) = match sample(operation, surface, language, &self.origin) {
            Some(text) => (language, text),
            None => (Language::Curl, sample(operation, surface, Language::Curl, &self.origin).unwrap_or_default()),
        };
        out.push_str(&markdown::code(language.syntax(), &text));
        if let Some(example) = operation.on(surface).and_then(|success| success.example.as_ref()) {
            out.push_str(&markdown::code("json", example));
        }
        if operation.surfaces().any(|s| s == Surface::Platform) {
            out.push_str(&try_it(operation));
        }
        out.push_str("</div>");
        out
    }

    fn found(&self, words: &str) -> Page {
        let found = search::search(&self.reference, words);
        let said = match (words.is_empty(), found.len()) {
            (true, _) => "Type a word or two above.".to_owned(),
            (false, 0) => "Nothing holds all of these words.".to_owned(),
            (false, 1) => "1 page".to_owned(),
            (false, many) => format!("{many} pages"),
        };
        Page {
            title: if words.is_empty() { "Search".to_owned() } else { format!("Search: {words}") },
            main: format!("<h1>Search</h1>\n{}", hits(&found, &said)),
            query: words.to_owned(),
            ..Page::default()
        }
    }

    /// A page as Markdown.
    pub(crate) fn markdown(&self, path: &str) -> Option<String> {
        if let Some(guide) = site::guide(path) {
            return Some(markdown::localize(guide.text, &self.origin));
        }
        if let Some(code) = code_at(path) {
            return Some(error::markdown(code, &self.origin));
        }
        match path {
            "/docs" => return Some(self.llms()),
            "/docs/changelog" => return Some(CHANGELOG.to_owned()),
            "/docs/errors" => {
                let mut out = String::from("# Errors\n\n");
                for code in Code::ALL {
                    let _ = writeln!(
                        out,
                        "- [`{}`]({}{}.md) ({}): {}",
                        code.snake(),
                        self.origin,
                        error_path(*code),
                        code.status(),
                        error::about(*code).meaning
                    );
                }
                return Some(out);
            }
            "/docs/v1/reference" => {
                let mut out = String::from("# Reference\n");
                self.list_operations(&mut out);
                return Some(out);
            }
            _ => {}
        }
        self.reference.at(path).map(|operation| self.operation_markdown(operation))
    }

    fn operation_markdown(&self, operation: &Operation) -> String {
        let mut out =
            format!("# {}\n\n`{} {}`\n\n{}\n\n", operation.summary, operation.method, operation.path, operation.about);
        for (name, value) in badges(operation) {
            let _ = writeln!(out, "- {name}: {value}");
        }
        let mut list = |heading: &str, fields: &[Field]| {
            if !fields.is_empty() {
                let _ = writeln!(out, "\n## {heading}\n");
            }
            for field in fields {
                let required = if field.is_required { ", required" } else { "" };
                let bounds = if field.bounds.is_empty() { String::new() } else { format!(" ({})", field.bounds) };
                let _ = writeln!(out, "- `{}` ({}{required}): {}{bounds}", field.name, field.kind, field.about);
            }
        };
        for (place, fields) in &operation.parameters {
            list(&format!("Parameters: {place}"), fields);
        }
        list("Body", &operation.body);
        list("Answer", &optional(&operation.answer));
        for surface in operation.surfaces() {
            let _ = writeln!(out, "\n## {} surface\n", surface.title());
            if let Some(request) = sample(operation, surface, Language::Curl, &self.origin) {
                let _ = writeln!(out, "```sh\n{request}\n```\n");
            }
            if let Some(success) = operation.on(surface) {
                let _ = writeln!(out, "{}: {}\n", success.status, success.about);
                if let Some(example) = &success.example {
                    let _ = writeln!(out, "```json\n{example}\n```\n");
                }
            }
        }
        let _ = writeln!(
            out,
            "## Errors\n\n{}",
            operation.errors.iter().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ")
        );
        out
    }

    fn list_operations(&self, out: &mut String) {
        for noun in self.reference.nouns() {
            let _ = writeln!(out, "\n## {}\n", title(noun));
            for o in self.reference.of(noun) {
                let _ = writeln!(out, "- [{} {}]({}{}.md): {}", o.method, o.path, self.origin, o.address(), o.summary);
            }
        }
    }

    /// The list of all pages for programs that read text (llmstxt.org).
    pub(crate) fn llms(&self) -> String {
        let mut out = String::from(
            "# nephos\n\n> A self-hosted cloud: projects, environments and compute instances behind a REST API.\n",
        );
        for section in SECTIONS {
            let _ = writeln!(out, "\n## {}\n", section.title);
            for guide in section.guides {
                let _ = writeln!(out, "- [{}]({}{}.md): {}", guide.title(), self.origin, guide.path, guide.about());
            }
        }
        self.list_operations(&mut out);
        out.push_str("\n## Errors\n\n");
        for code in Code::ALL {
            let _ = writeln!(
                out,
                "- [{}]({}{}.md): {}",
                code.snake(),
                self.origin,
                error_path(*code),
                error::about(*code).meaning
            );
        }
        let _ = write!(
            out,
            "\n## Machine-readable\n\n- [Platform API as OpenAPI 3.1]({0}/docs/openapi/platform.json)\n- [Strettch API as OpenAPI 3.1]({0}/docs/openapi/strettch.json)\n- [Every error]({0}/docs/errors.json)\n- [Changelog]({0}/docs/changelog.md)\n",
            self.origin
        );
        out
    }
}

/// A group of the navigation: open when it holds the page that is shown, and what a newcomer reads on the first one.
fn fold(out: &mut String, path: &str, title: &str, links: &[(String, String)]) {
    let is_first = |url: &str| url.starts_with("/docs/start/") || url.starts_with("/docs/guides/");
    let is_open = links.iter().any(|(url, _)| url == path || (path == "/docs" && is_first(url)));
    let open = if is_open { " open" } else { "" };
    let _ = write!(out, "<details{open}><summary>{}</summary><ul>", escape(title));
    for (url, text) in links {
        let current = if url == path { " aria-current=\"page\"" } else { "" };
        let _ = write!(out, "<li><a href=\"{url}\"{current}>{}</a></li>", escape(text));
    }
    out.push_str("</ul></details>");
}

/// A page from Markdown.
fn written(title: &str, text: &str, origin: &str) -> Page {
    let rendered = markdown::render(text, origin);
    Page {
        title: title.to_owned(),
        main: rendered.html,
        contents: rendered.contents,
        has_twin: true,
        ..Page::default()
    }
}

fn errors() -> Page {
    let mut main = String::from(
        "<h1>Errors</h1>\n<p>Every refusal has a stable code, a sentence for people, the details of each problem and a request id. \
         The Platform surface writes codes in lower case, the Strettch surface in capitals.</p>\n\
         <div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Errors\"><table><thead><tr><th>Code</th><th>Status</th><th>Meaning</th></tr></thead><tbody>",
    );
    for code in Code::ALL {
        let _ = write!(
            main,
            "<tr><td><a class=\"mono\" href=\"{}\">{}</a></td><td>{}</td><td>{}</td></tr>",
            error_path(*code),
            code.snake(),
            code.status(),
            inline(error::about(*code).meaning)
        );
    }
    main.push_str(
        "</tbody></table></div>\n<p>All of them as data: <a href=\"/docs/errors.json\">/docs/errors.json</a></p>",
    );
    Page {
        title: "Errors".to_owned(),
        about: "Every error code, its meaning and what to do.".to_owned(),
        class: "full",
        main,
        has_twin: true,
        ..Page::default()
    }
}

/// A sentence whose only markup is code between backticks.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) }).collect()
}

fn code_at(path: &str) -> Option<Code> {
    let name = path.strip_prefix("/docs/errors/")?;
    Code::ALL.iter().copied().find(|code| code.snake() == name)
}

fn badges(operation: &Operation) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if operation.is_public {
        all.push(("credential", "none".to_owned()));
    } else {
        all.push(("scope", operation.scope.clone().unwrap_or_else(|| "any".to_owned())));
        all.push(("role", operation.role.clone().unwrap_or_else(|| "any".to_owned())));
    }
    all.push(("budget", operation.budget.clone()));
    if operation.is_idempotent {
        all.push(("retry", "Idempotency-Key".to_owned()));
    }
    all
}

/// Fields of an answer are always there, so none is marked as required.
fn optional(fields: &[Field]) -> Vec<Field> {
    fields.iter().map(|field| Field { is_required: false, ..field.clone() }).collect()
}

fn field_list(level: u8, heading: &str, fields: &[Field]) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let mut out = format!("<h{level}>{heading}</h{level}>\n<dl class=\"fields\">");
    for field in fields {
        let required = if field.is_required { "<em>required</em>" } else { "" };
        let bounds =
            if field.bounds.is_empty() { String::new() } else { format!("<small>{}</small>", escape(&field.bounds)) };
        let _ = write!(
            out,
            "<div><dt>{}<span>{}</span>{required}</dt><dd>{}{bounds}</dd></div>",
            escape(&field.name),
            escape(&field.kind),
            inline(&field.about)
        );
    }
    out.push_str("</dl>\n");
    out
}

fn base_of(operation: &Operation, surface: Surface) -> &'static str {
    if operation.id.starts_with("sandbox.") || operation.id.starts_with("clock.") {
        "/sandbox/v1"
    } else {
        surface.base()
    }
}

/// A form that sends the request to the sandbox; a script shows it.
fn try_it(operation: &Operation) -> String {
    let mut out = format!(
        "<details class=\"try\" hidden><summary>Try it in the sandbox</summary><form class=\"request\" data-method=\"{}\" data-path=\"{}\">\
         <label>Test key <input name=\"key\" autocomplete=\"off\" spellcheck=\"false\" placeholder=\"sk_test_…\" required pattern=\"sk_test_.*\"></label>",
        operation.method,
        escape(&operation.path)
    );
    if operation.path.contains("{id}") {
        out.push_str("<label>Id <input name=\"id\" autocomplete=\"off\" spellcheck=\"false\" required></label>");
    }
    if let Some(body) = &operation.body_example {
        let _ = write!(
            out,
            "<label>Body <textarea name=\"body\" rows=\"6\" spellcheck=\"false\">{}</textarea></label>",
            escape(&format!("{body:#}"))
        );
    }
    out.push_str("<button>Send</button><output></output></form></details>");
    out
}

fn hits(found: &[search::Entry], said: &str) -> String {
    if found.is_empty() {
        return if said.ends_with(':') { String::new() } else { format!("<p>{}</p>", escape(said)) };
    }
    let mut out = format!("<p>{}</p>\n<ul class=\"hits\">", escape(said));
    for entry in found {
        let _ = write!(
            out,
            "<li><a href=\"{}\">{}</a> <span class=\"badge\">{}</span><p>{}</p></li>",
            entry.url,
            escape(&entry.title),
            entry.kind,
            inline(&entry.about)
        );
    }
    out.push_str("</ul>");
    out
}

/// The strip at the top: measured figures, or that there are none yet.
fn strip(health: &Health) -> String {
    let uptime = match health.uptime_millipercent {
        Some(value) => format!("<b>{}.{:03} %</b> uptime in 90 days", value / 1000, value % 1000),
        None => "Uptime: not measured yet".to_owned(),
    };
    let latency = match health.latency_us {
        Some(us) => format!("<b>{}.{} ms</b> average latency", us / 1000, us % 1000 / 100),
        None => "Latency: not measured yet".to_owned(),
    };
    let regions = if health.regions.is_empty() {
        "No region".to_owned()
    } else {
        format!("Regions: <b>{}</b>", escape(&health.regions.join(", ")))
    };
    format!("{uptime} · {latency} · {regions}")
}

/// At most [`QUERY_BYTES_MAX`] bytes, whole characters.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(QUERY_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

fn wanted(query: &str) -> Wanted {
    let mut wanted = Wanted { surface: Surface::Platform, language: Language::Curl, words: String::new() };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "surface" => wanted.surface = Surface::from_name(value).unwrap_or(wanted.surface),
            "lang" => wanted.language = Language::from_name(value).unwrap_or(wanted.language),
            "q" => wanted.words = decoded(value),
            _ => {}
        }
    }
    wanted
}

/// A value of a form (application/x-www-form-urlencoded).
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                if let (Some(high), Some(low)) = (digit(), digit()) {
                    bytes.push(high << 4 | low);
                }
            }
            byte => bytes.push(byte),
        }
    }
    cut(&String::from_utf8_lossy(&bytes))
}
