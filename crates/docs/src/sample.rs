//! One request in each language.

#![allow(clippy::format_push_string)] // a sample is put together once a page, and reads better so

use crate::reference::{Operation, Surface};

/// A language that samples are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// curl.
    Curl,
    /// Python with `requests`.
    Python,
    /// JavaScript with `fetch`.
    JavaScript,
    /// Go with its standard library.
    Go,
    /// Rust with `ureq`.
    Rust,
    /// The `nephos` command.
    Cli,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Curl, Self::Python, Self::JavaScript, Self::Go, Self::Rust, Self::Cli];

    /// As it stands in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Cli => "cli",
        }
    }

    /// As people read it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Curl => "cURL",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
            Self::Go => "Go",
            Self::Rust => "Rust",
            Self::Cli => "CLI",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }

    /// What its samples are marked as.
    pub const fn syntax(self) -> &'static str {
        match self {
            Self::Curl | Self::Cli => "sh",
            other => other.name(),
        }
    }
}

/// The request of an operation; `None` when the language has none for it.
pub fn sample(operation: &Operation, surface: Surface, language: Language, origin: &str) -> Option<String> {
    let variable = format!("{}_ID", path_noun(operation).to_uppercase());
    let base = if operation.id.starts_with("sandbox.") || operation.id.starts_with("clock.") {
        "/sandbox/v1"
    } else {
        surface.base()
    };
    let request = Request {
        method: &operation.method,
        base: format!("{origin}{base}"),
        path: &operation.path,
        variable: &variable,
        body: operation.body_example.as_ref().map(|body| format!("{body:#}")),
        needs_key: !operation.is_public,
        repeats: operation.is_idempotent,
    };
    match language {
        Language::Curl => Some(request.curl()),
        Language::Python => Some(request.python()),
        Language::JavaScript => Some(request.javascript()),
        Language::Go => Some(request.go()),
        Language::Rust => Some(request.rust()),
        Language::Cli => cli(&operation.id).map(str::to_owned),
    }
}

/// The noun of the resource that a path names, in the singular.
fn path_noun(operation: &Operation) -> String {
    let first = operation.path.trim_start_matches('/').split('/').next().unwrap_or_default().replace('-', "_");
    match first.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => first.strip_suffix('s').map_or(first.clone(), str::to_owned),
    }
}

struct Request<'a> {
    method: &'a str,
    base: String,
    path: &'a str,
    variable: &'a str,
    body: Option<String>,
    needs_key: bool,
    repeats: bool,
}

impl Request<'_> {
    /// The URL, with `open` and `close` around the name of the id's variable.
    fn url(&self, open: &str, close: &str) -> String {
        format!("{}{}", self.base, self.path.replace("{id}", &format!("{open}{}{close}", self.variable)))
    }

    /// The headers, with the key left as `key`.
    fn headers(&self) -> Vec<(&'static str, Option<&'static str>)> {
        let mut headers = Vec::new();
        if self.needs_key {
            headers.push(("Authorization", None));
        }
        if self.body.is_some() {
            headers.push(("Content-Type", Some("application/json")));
        }
        if self.repeats {
            headers.push(("Idempotency-Key", Some("7c3a7a0e-4f6a-4d0f-9a55-2f6f2a1f9c11")));
        }
        headers
    }

    fn curl(&self) -> String {
        let mut lines = vec![match self.method {
            "GET" => format!("curl \"{}\"", self.url("$", "")),
            method => format!("curl -X {method} \"{}\"", self.url("$", "")),
        }];
        for (name, value) in self.headers() {
            lines.push(match value {
                None => format!("  -H \"{name}: Bearer $CLOUD_API_KEY\""),
                Some(value) => format!("  -H \"{name}: {value}\""),
            });
        }
        if let Some(body) = &self.body {
            let body = body.replace('\'', "'\\''");
            lines.push(format!("  -d '{}'", if body.len() <= LINE_CHARS_MAX { one_line(&body) } else { body }));
        }
        lines.join(" \\\n")
    }

    fn python(&self) -> String {
        let mut out = String::from("import os\nimport requests\n\n");
        let url = if self.path.contains("{id}") {
            format!("f\"{}\"", self.url("{os.environ['", "']}"))
        } else {
            format!("\"{}\"", self.url("", ""))
        };
        let mut lines = vec![format!("    {url},")];
        if !self.headers().is_empty() {
            lines.push("    headers={".to_owned());
            for (name, value) in self.headers().into_iter().filter(|(name, _)| *name != "Content-Type") {
                lines.push(match value {
                    None => format!("        \"{name}\": f\"Bearer {{os.environ['CLOUD_API_KEY']}}\","),
                    Some(value) => format!("        \"{name}\": \"{value}\","),
                });
            }
            lines.push("    },".to_owned());
        }
        if let Some(body) = &self.body {
            let body = body.replace(": true", ": True").replace(": false", ": False").replace(": null", ": None");
            lines.push(format!("    json={},", indent(&body, 4)));
        }
        lines.push("    timeout=40,".to_owned());
        out.push_str(&format!("response = requests.{}(\n{}\n)\n", self.method.to_lowercase(), lines.join("\n")));
        out.push_str("response.raise_for_status()\nprint(response.json())");
        out
    }

    fn javascript(&self) -> String {
        let url = if self.path.contains("{id}") {
            format!("`{}`", self.url("${process.env.", "}"))
        } else {
            format!("\"{}\"", self.url("", ""))
        };
        let mut lines = Vec::new();
        if self.method != "GET" {
            lines.push(format!("  method: \"{}\",", self.method));
        }
        if !self.headers().is_empty() {
            lines.push("  headers: {".to_owned());
            for (name, value) in self.headers() {
                lines.push(match value {
                    None => format!("    {name}: `Bearer ${{process.env.CLOUD_API_KEY}}`,"),
                    Some(value) => format!("    \"{name}\": \"{value}\","),
                });
            }
            lines.push("  },".to_owned());
        }
        if let Some(body) = &self.body {
            lines.push(format!("  body: JSON.stringify({}),", indent(body, 2)));
        }
        let arguments = if lines.is_empty() { url } else { format!("{url}, {{\n{}\n}}", lines.join("\n")) };
        format!(
            "const response = await fetch({arguments});\nconst answer = await response.json();\n\
             if (!response.ok) throw new Error(`${{answer.code}}: ${{answer.message}}`);\nconsole.log(answer);"
        )
    }

    fn go(&self) -> String {
        let url = if self.path.contains("{id}") {
            let (before, after) = self.path.split_once("{id}").unwrap_or((self.path, ""));
            let rest = if after.is_empty() { String::new() } else { format!("+\"{after}\"") };
            format!("\"{}{before}\"+os.Getenv(\"{}\"){rest}", self.base, self.variable)
        } else {
            format!("\"{}\"", self.url("", ""))
        };
        let (body, strings) = match &self.body {
            Some(body) => (format!("strings.NewReader(`{body}`)"), "\n\t\"strings\""),
            None => ("nil".to_owned(), ""),
        };
        let mut out = format!(
            "package main\n\nimport (\n\t\"fmt\"\n\t\"io\"\n\t\"log\"\n\t\"net/http\"\n\t\"os\"{strings}\n)\n\nfunc main() {{\n\
             \trequest, err := http.NewRequest(\"{}\", {url}, {body})\n\tif err != nil {{\n\t\tlog.Fatal(err)\n\t}}\n",
            self.method
        );
        for (name, value) in self.headers() {
            out.push_str(&match value {
                None => format!("\trequest.Header.Set(\"{name}\", \"Bearer \"+os.Getenv(\"CLOUD_API_KEY\"))\n"),
                Some(value) => format!("\trequest.Header.Set(\"{name}\", \"{value}\")\n"),
            });
        }
        out.push_str(
            "\tresponse, err := http.DefaultClient.Do(request)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\
             \tdefer response.Body.Close()\n\tanswer, _ := io.ReadAll(response.Body)\n\tfmt.Println(response.Status, string(answer))\n}",
        );
        if !out.contains("os.Getenv") {
            out = out.replace("\n\t\"os\"", "");
        }
        out
    }

    fn rust(&self) -> String {
        let url = if self.path.contains("{id}") {
            format!(
                "format!(\"{}\", std::env::var(\"{}\")?)",
                self.url("", "").replace(self.variable, "{}"),
                self.variable
            )
        } else {
            format!("\"{}\"", self.url("", ""))
        };
        let mut out = String::from("fn main() -> Result<(), Box<dyn std::error::Error>> {\n");
        if self.needs_key {
            out.push_str("    let key = std::env::var(\"CLOUD_API_KEY\")?;\n");
        }
        out.push_str(&format!("    let mut answer = ureq::{}({url})\n", self.method.to_lowercase()));
        for (name, value) in self.headers() {
            out.push_str(&match value {
                None => format!("        .header(\"{name}\", format!(\"Bearer {{key}}\"))\n"),
                Some(value) => format!("        .header(\"{name}\", \"{value}\")\n"),
            });
        }
        match (&self.body, self.method) {
            (Some(body), _) => out.push_str(&format!("        .send(r#\"{body}\"#)?;\n")),
            (None, "POST" | "PUT" | "PATCH") => out.push_str("        .send_empty()?;\n"),
            (None, _) => out.push_str("        .call()?;\n"),
        }
        out.push_str("    println!(\"{}\", answer.body_mut().read_to_string()?);\n    Ok(())\n}");
        out
    }
}

/// A body up to this length is written on one line.
const LINE_CHARS_MAX: usize = 48;

/// Pretty JSON on one line.
fn one_line(json: &str) -> String {
    json.lines().map(str::trim).collect::<Vec<_>>().join(" ").replace("{ ", "{").replace(" }", "}")
}

/// The text with all lines but the first moved to the right.
fn indent(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// The command that does the same.
fn cli(id: &str) -> Option<&'static str> {
    Some(match id {
        "project.list" => "nephos projects list",
        "project.get" => "nephos projects get \"$PROJECT_ID\"",
        "project.create" => "nephos projects create gamma",
        "project.update" => "nephos projects update \"$PROJECT_ID\" --name delta",
        "project.delete" => "nephos projects delete \"$PROJECT_ID\"",
        "environment.list" => "nephos environments list --project default",
        "environment.get" => "nephos environments get \"$ENVIRONMENT_ID\"",
        "environment.create" => "nephos environments create qa --project default",
        "environment.update" => "nephos environments update \"$ENVIRONMENT_ID\" --name load",
        "environment.delete" => "nephos environments delete \"$ENVIRONMENT_ID\"",
        "compute.list" => "nephos computes list",
        "compute.get" => "nephos computes get web-1",
        "compute.create" => "nephos computes create web-1",
        "compute.delete" => "nephos computes delete web-1",
        "compute.start" => "nephos computes start web-1",
        "compute.stop" => "nephos computes stop web-1",
        "compute.reboot" => "nephos computes reboot web-1",
        "compute.resize" => "nephos computes resize web-1 --size medium",
        "compute.rebuild" => "nephos computes rebuild web-1",
        "compute.console" => "nephos computes console web-1",
        "operation.list" => "nephos operations list",
        "operation.get" => "nephos operations get \"$OPERATION_ID\"",
        "api_key.list" => "nephos keys list",
        "ssh_key.list" => "nephos ssh-keys list",
        "event.list" => "nephos events",
        "webhook.list" => "nephos webhooks list",
        "webhook.get" => "nephos webhooks get \"$WEBHOOK_ID\"",
        "webhook.create" => "nephos webhooks create https://hooks.example/in --event 'compute.*'",
        "webhook.update" => "nephos webhooks update \"$WEBHOOK_ID\" --status disabled",
        "webhook.delete" => "nephos webhooks delete \"$WEBHOOK_ID\"",
        "webhook.rotate_secret" => "nephos webhooks rotate-secret \"$WEBHOOK_ID\"",
        "webhook.test" => "nephos webhooks test \"$WEBHOOK_ID\"",
        "webhook.recover" => "nephos webhooks recover \"$WEBHOOK_ID\" --since 2026-03-01T00:00:00Z",
        "delivery.list" => "nephos webhooks deliveries \"$WEBHOOK_ID\"",
        "delivery.retry" => "nephos webhooks retry \"$DELIVERY_ID\"",
        "usage.get" => "nephos usage",
        "budget_alert.list" => "nephos budget-alerts list",
        "budget_alert.get" => "nephos budget-alerts get \"$BUDGET_ALERT_ID\"",
        "budget_alert.create" => "nephos budget-alerts create 'All of it' --amount 100",
        "budget_alert.delete" => "nephos budget-alerts delete \"$BUDGET_ALERT_ID\"",
        "invoice.list" => "nephos invoices list",
        "invoice.get" => "nephos invoices get \"$INVOICE_ID\"",
        "compute.metrics" => "nephos computes metrics web-1",
        "telemetry.get" => "nephos telemetry computes --by project",
        "telemetry.requests" => "nephos telemetry requests",
        "telemetry.export" => "nephos telemetry export",
        "audit_log.list" => "nephos audit list",
        "image.list" => "nephos images",
        "size.list" => "nephos sizes",
        "region.list" => "nephos regions",
        _ => return None,
    })
}
