//! Which request the work under way belongs to, for log lines and spans.
//!
//! The id travels with the task and not through arguments, because a log line may come from anywhere below. Work that goes
//! on in a task of its own takes it along with [`of`]; what a reconciler does carries the request that asked for it.

use nephos_model::id::RequestId;
use nephos_model::trace::TraceContext;

tokio::task_local! {
    static REQUEST: RequestId;
}

/// The target of spans: nothing else has it, so they are off unless somebody asks for them.
pub const SPANS: &str = "otel";

/// Does `work` as a part of a request. Not an `async fn`, which would have room for `work` twice.
pub fn of<F: Future>(request: RequestId, work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(request, work)
}

/// The request that the work under way belongs to.
pub fn request() -> Option<RequestId> {
    REQUEST.try_with(|id| *id).ok()
}

/// The span of one look at a compute, in the trace of the request that asked for what is done.
pub(crate) fn look(compute: nephos_model::id::ComputeId, region: &str, asked: Option<&TraceContext>) -> tracing::Span {
    let span = tracing::info_span!(
        target: SPANS, "reconcile.look", nephos.compute = %compute, nephos.region = region,
        trace_id = tracing::field::Empty, parent_id = tracing::field::Empty, sampled = tracing::field::Empty,
        trace_state = tracing::field::Empty, otel.status = tracing::field::Empty,
    );
    if let (Some(asked), false) = (asked, span.is_disabled()) {
        span.record("trace_id", asked.trace_id());
        span.record("parent_id", asked.span_id());
        span.record("sampled", asked.is_sampled());
        span.record("trace_state", asked.state());
    }
    span
}
