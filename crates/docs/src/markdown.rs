//! From a page's Markdown to HTML: headings that can be linked to, samples that name this installation.

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// What stands in a page's text for the origin of the installation that shows it.
const ORIGIN: &str = "{{origin}}";

/// A heading that the contents list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Its anchor.
    pub id: String,
    /// Its words.
    pub text: String,
}

/// A page's text as HTML.
#[derive(Debug)]
pub struct Rendered {
    /// The HTML.
    pub html: String,
    /// Its second-level headings.
    pub contents: Vec<Heading>,
}

/// The text with the installation's own origin.
pub fn localize(text: &str, origin: &str) -> String {
    text.replace(ORIGIN, origin)
}

/// Renders a page. Its text is ours and compiled in, so HTML in it would be as well; there is none.
pub fn render(text: &str, origin: &str) -> Rendered {
    let text = localize(text, origin);
    let parser = Parser::new_ext(&text, Options::ENABLE_TABLES);
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut contents = Vec::new();
    // Where the heading that is being read began.
    let mut heading: Option<usize> = None;
    let mut is_code = false;
    for event in parser {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                heading = Some(events.len());
                events.push(event);
            }
            Event::End(TagEnd::Heading(level)) => {
                if let Some(start) = heading.take() {
                    let words = words(&events[start + 1..]);
                    let id = anchor(&words);
                    events[start] = Event::Html(CowStr::from(format!("<{level} id=\"{id}\">")));
                    if level == pulldown_cmark::HeadingLevel::H2 {
                        contents.push(Heading { id: id.clone(), text: words });
                    }
                    events.push(Event::Html(CowStr::from(format!(
                        "<a class=\"anchor\" href=\"#{id}\" aria-label=\"Link to this section\">#</a></{level}>"
                    ))));
                }
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match &kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                is_code = true;
                events.push(Event::Html(CowStr::from(code_begins(&language))));
            }
            Event::End(TagEnd::CodeBlock) => {
                is_code = false;
                events.push(Event::Html(CowStr::from(CODE_ENDS)));
            }
            Event::Text(text) if is_code => events.push(Event::Html(CowStr::from(escape(&text)))),
            Event::Start(Tag::Table(_)) => {
                events.push(Event::Html(CowStr::from(
                    "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Table\">",
                )));
                events.push(event);
            }
            Event::End(TagEnd::Table) => {
                events.push(event);
                events.push(Event::Html(CowStr::from("</div>")));
            }
            other => events.push(other),
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events.into_iter());
    Rendered { html: out, contents }
}

/// What ends a sample.
pub const CODE_ENDS: &str = "</code></pre></div>\n";

/// What begins a sample in a language.
pub fn code_begins(language: &str) -> String {
    let label = match language {
        "sh" => "Shell",
        "json" => "JSON",
        "http" => "HTTP",
        "python" => "Python",
        "javascript" => "JavaScript",
        "go" => "Go",
        "rust" => "Rust",
        "ruby" => "Ruby",
        "toml" => "TOML",
        "" | "text" => "Text",
        other => other,
    };
    format!("<div class=\"code\"><div class=\"bar\"><span>{label}</span></div><pre tabindex=\"0\"><code>")
}

/// A sample as HTML.
pub fn code(language: &str, text: &str) -> String {
    format!("{}{}{CODE_ENDS}", code_begins(language), escape(text))
}

/// Text in which nothing is markup.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn words(events: &[Event<'_>]) -> String {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect()
}

/// The anchor of a heading: its letters and digits, joined by hyphens.
pub fn anchor(words: &str) -> String {
    let lower = words.to_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_samples_and_tables() {
        let page =
            render("# T\n\n## One `two`\n\n```sh\ncurl {{origin}}/<x>\n```\n\n| a |\n|---|\n| 1 |\n", "https://h");
        assert_eq!(page.contents, [Heading { id: "one-two".to_owned(), text: "One two".to_owned() }]);
        assert!(page.html.contains("curl https://h/&lt;x&gt;"), "{}", page.html);
        assert!(page.html.contains("<h2 id=\"one-two\">"), "{}", page.html);
        assert!(page.html.contains("<div class=\"wide\""), "{}", page.html);
    }
}
