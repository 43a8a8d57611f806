//! The one catalogue of errors. Handlers and use-cases answer a [`Fault`]; a surface renders it.

use std::error::Error;
use std::fmt;

use crate::role::Role;
use crate::scope::Scope;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $snake:literal, $screaming:literal;)*) => {
        /// A stable, machine-readable reason for a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The HTTP status.
            pub const fn status(self) -> u16 { match self { $(Self::$name => $status,)* } }
            /// The spelling of the Platform surface.
            pub const fn snake(self) -> &'static str { match self { $(Self::$name => $snake,)* } }
            /// The spelling of the Strettch surface.
            pub const fn screaming(self) -> &'static str { match self { $(Self::$name => $screaming,)* } }
        }
    };
}

codes! {
    /// The body, a header, the query or a field is malformed.
    BadRequest = 400, "bad_request", "BAD_REQUEST";
    /// No valid credential.
    Unauthorized = 401, "unauthorized", "UNAUTHORIZED";
    /// The credential may not do this.
    Forbidden = 403, "forbidden", "FORBIDDEN";
    /// Not there, or not visible to this credential.
    ResourceNotFound = 404, "resource_not_found", "RESOURCE_NOT_FOUND";
    /// The path exists, with other methods.
    MethodNotAllowed = 405, "method_not_allowed", "METHOD_NOT_ALLOWED";
    /// No representation that `Accept` allows.
    NotAcceptable = 406, "not_acceptable", "NOT_ACCEPTABLE";
    /// The request took too long to arrive or to answer.
    RequestTimeout = 408, "request_timeout", "REQUEST_TIMEOUT";
    /// The state of the resource forbids it.
    Conflict = 409, "conflict", "CONFLICT";
    /// The first request with this idempotency key still runs.
    IdempotencyInProgress = 409, "idempotency_in_progress", "IDEMPOTENCY_IN_PROGRESS";
    /// The version or operation was retired.
    Gone = 410, "gone", "GONE";
    /// `If-Match` names another state of the resource.
    PreconditionFailed = 412, "precondition_failed", "PRECONDITION_FAILED";
    /// The body is larger than the limit.
    PayloadTooLarge = 413, "payload_too_large", "PAYLOAD_TOO_LARGE";
    /// `Content-Type` is not JSON.
    UnsupportedMediaType = 415, "unsupported_media_type", "UNSUPPORTED_MEDIA_TYPE";
    /// The idempotency key was used with another request.
    IdempotencyKeyReused = 422, "idempotency_key_reused", "IDEMPOTENCY_KEY_REUSED";
    /// The plan's quota is used up.
    QuotaExceeded = 422, "quota_exceeded", "QUOTA_EXCEEDED";
    /// The region has no room, or can't run computes now.
    CapacityUnavailable = 422, "capacity_unavailable", "CAPACITY_UNAVAILABLE";
    /// A budget is spent.
    TooManyRequests = 429, "too_many_requests", "TOO_MANY_REQUESTS";
    /// The request's headers are larger than the limit.
    HeadersTooLarge = 431, "headers_too_large", "HEADERS_TOO_LARGE";
    /// A defect of the server; the log has the cause under the request id.
    InternalServerError = 500, "internal_server_error", "INTERNAL_SERVER_ERROR";
    /// The server can't answer for the moment.
    ServiceUnavailable = 503, "service_unavailable", "SERVICE_UNAVAILABLE";
}

/// Where in the request a [`Detail`] points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A JSON Pointer (RFC 6901) into the body.
    Pointer(String),
    /// A query parameter.
    Parameter(String),
    /// A header, in lower case.
    Header(String),
}

/// One reason among those of a [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// A stable, machine-readable reason in `snake_case`.
    pub code: &'static str,
    /// A sentence for people that says the way out.
    pub message: String,
    /// Where in the request.
    pub place: Option<Place>,
    /// The scope that is missing.
    pub required_scope: Option<Scope>,
    /// The role that is missing.
    pub required_role: Option<Role>,
    /// The resource that stands in the way.
    pub resource_id: Option<String>,
    /// The budget that is spent.
    pub budget: Option<&'static str>,
}

impl Detail {
    /// A reason without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            place: None,
            required_scope: None,
            required_role: None,
            resource_id: None,
            budget: None,
        }
    }

    /// A reason at `pointer`, a JSON Pointer into the body.
    pub fn at(pointer: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { place: Some(Place::Pointer(pointer.into())), ..Self::new(code, message) }
    }

    /// A reason at a field of the body, as a sentence that starts with the field's name: `why` is the rest of it,
    /// without the full stop. An item of a list is named by its list.
    pub fn field(pointer: &str, code: &'static str, why: impl std::fmt::Display) -> Self {
        let is_index = |segment: &&str| segment.bytes().all(|b| b.is_ascii_digit());
        let name = pointer.rsplit('/').find(|segment| !is_index(segment)).unwrap_or_default();
        Self::at(pointer, code, format!("\"{name}\" {why}."))
    }

    /// A reason at a query parameter.
    pub fn parameter(name: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { place: Some(Place::Parameter(name.into())), ..Self::new(code, message) }
    }

    /// A reason at a header.
    pub fn header(name: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { place: Some(Place::Header(name.into())), ..Self::new(code, message) }
    }

    /// Names the resource that stands in the way.
    #[must_use]
    pub fn resource(mut self, id: impl fmt::Display) -> Self {
        self.resource_id = Some(id.to_string());
        self
    }
}

/// A refusal: what the client reads, and, apart from it, the cause that only the log reads.
#[derive(Debug)]
pub struct Fault {
    /// The machine-readable reason.
    pub code: Code,
    /// A sentence for people; says nothing about the inside of the server.
    pub message: String,
    /// All reasons, not just the first; may be empty.
    pub details: Vec<Detail>,
    /// After how many seconds a retry may succeed.
    pub retry_after_s: Option<u32>,
    /// What the log says and the client never sees.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault with a code and a sentence for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), retry_after_s: None, cause: None }
    }

    /// 400 with every reason. With exactly one, its message is the fault's.
    pub fn invalid(details: Vec<Detail>) -> Self {
        let message = match details.as_slice() {
            [one] => one.message.clone(),
            many => format!("The request has {} problems; `details` lists each.", many.len()),
        };
        Self { details, ..Self::new(Code::BadRequest, message) }
    }

    /// 400 with one reason.
    pub fn bad(detail: Detail) -> Self {
        Self::invalid(vec![detail])
    }

    /// 404. `noun` is what was looked for, such as `compute`; the text never says whether it exists elsewhere.
    pub fn not_found(noun: &str) -> Self {
        Self::new(Code::ResourceNotFound, format!("There is no such {noun}."))
    }

    /// 403 for a missing scope.
    pub fn missing_scope(scope: Scope) -> Self {
        let detail = Detail {
            required_scope: Some(scope),
            ..Detail::new("missing_scope", format!("This credential does not have the scope {scope}."))
        };
        Self {
            details: vec![detail],
            ..Self::new(Code::Forbidden, format!("This needs the scope {scope}, which this credential does not have."))
        }
    }

    /// 403 for a role that is too low.
    pub fn missing_role(role: Role) -> Self {
        let detail = Detail {
            required_role: Some(role),
            ..Detail::new("missing_role", format!("The member of this credential is not {role}."))
        };
        Self {
            details: vec![detail],
            ..Self::new(
                Code::Forbidden,
                format!("This needs the role {role} or higher; the member of this credential has a lower one."),
            )
        }
    }

    /// 409 with one reason.
    pub fn conflict(detail: Detail) -> Self {
        Self { message: detail.message.clone(), details: vec![detail], ..Self::new(Code::Conflict, "") }
    }

    /// 500: a defect. The cause goes to the log only.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                Code::InternalServerError,
                "Something went wrong on our side. The request id identifies it in the server's log.",
            )
        }
    }

    /// 503 with `Retry-After`. The cause goes to the log only.
    pub fn unavailable(retry_after_s: u32, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            retry_after_s: Some(retry_after_s),
            ..Self::new(
                Code::ServiceUnavailable,
                "The server can't answer this now; retry after the time in Retry-After.",
            )
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.snake(), self.message)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, " ({cause})"))
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_at_a_field_names_it() {
        for (pointer, name) in [("/size", "size"), ("/ssh_keys/3", "ssh_keys"), ("/a/b", "b")] {
            let detail = Detail::field(pointer, "out_of_range", "must be less");
            assert_eq!(detail.message, format!("\"{name}\" must be less."));
            assert!(matches!(detail.place, Some(Place::Pointer(at)) if at == pointer));
        }
    }

    #[test]
    fn both_spellings_agree() {
        for code in Code::ALL {
            assert_eq!(code.snake().to_uppercase(), code.screaming());
            assert!((400..=599).contains(&code.status()));
        }
    }
}
