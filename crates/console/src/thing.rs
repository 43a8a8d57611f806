//! A resource as the API shows it, for templates: fields by name, absent ones as empty text.

use serde_json::Value;

/// A resource.
#[derive(Debug, Clone, Default)]
pub struct Thing(pub Value);

impl Thing {
    /// A field as text: numbers in digits, null and what is not there as nothing.
    pub fn text(&self, name: &str) -> String {
        match &self.0[name] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
            _ => String::new(),
        }
    }

    /// A field that is a number, or 0.
    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or(0)
    }

    /// Whether a field is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    /// Whether a field has a value.
    pub fn has(&self, name: &str) -> bool {
        !self.0[name].is_null()
    }

    /// Whether a field is this text.
    pub fn is(&self, name: &str, text: &str) -> bool {
        self.0[name].as_str() == Some(text)
    }

    /// A field that is an object.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self(self.0[name].clone())
    }

    /// A field as JSON text for people.
    pub fn json(&self, name: &str) -> String {
        format!("{:#}", self.0[name])
    }

    /// A field that is an array of objects.
    pub fn all(&self, name: &str) -> Vec<Self> {
        self.0[name].as_array().map(|all| all.iter().cloned().map(Self).collect()).unwrap_or_default()
    }

    /// How many a field that is an array has.
    pub fn count(&self, name: &str) -> usize {
        self.0[name].as_array().map_or(0, Vec::len)
    }

    /// A field that is an array of texts, on one line.
    pub fn joined(&self, name: &str) -> String {
        let texts = self.0[name].as_array().map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        texts.unwrap_or_default().join(", ")
    }

    /// A time as people read it: `2026-01-15 12:00:00 UTC`.
    pub fn time(&self, name: &str) -> String {
        let text = self.text(name);
        match (text.get(..10), text.get(11..19)) {
            (Some(day), Some(time)) => format!("{day} {time} UTC"),
            _ => text,
        }
    }

    /// Seconds as hours with two places.
    pub fn hours(&self, name: &str) -> String {
        let hundredths = self.number(name) / 36;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }

    /// Millionths of the currency, exactly, without zeros at the end beyond the second place.
    pub fn money(&self, name: &str) -> String {
        money(self.number(name))
    }

    /// What a month of 730 hours costs, from a price an hour.
    pub fn month(&self, name: &str) -> String {
        money(self.number(name).saturating_mul(730))
    }
}

/// Millionths as a decimal number.
pub(crate) fn money(microunits: i64) -> String {
    let sign = if microunits < 0 { "-" } else { "" };
    let all = microunits.unsigned_abs();
    let mut fraction = format!("{:06}", all % 1_000_000);
    while fraction.len() > 2 && fraction.ends_with('0') {
        fraction.pop();
    }
    format!("{sign}{}.{fraction}", all / 1_000_000)
}

/// Why the API refused something, in its own words.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The error's code.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The parts, when there are several: the field (if one is meant) and what is wrong with it.
    pub details: Vec<(String, String)>,
    /// By which support finds it in the log.
    pub request_id: String,
}

impl Problem {
    /// From an error body of the Platform API.
    pub fn of(body: &Value, status: u16) -> Self {
        let thing = Thing(body.clone());
        let details = thing.all("details");
        let named = |detail: &Thing| {
            let field = detail.text("pointer");
            (field.trim_start_matches('/').to_owned(), detail.text("message"))
        };
        Self {
            status,
            code: thing.text("code"),
            message: thing.text("message"),
            details: details.iter().map(named).collect(),
            request_id: thing.text("request_id"),
        }
    }

    /// What is wrong with a field.
    pub fn at(&self, field: &str) -> Option<&str> {
        self.details.iter().find(|(name, _)| name.split('/').next() == Some(field)).map(|(_, message)| &**message)
    }
}
