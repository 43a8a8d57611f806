//! One transaction as one round trip.
//!
//! The driver enqueues a request when its future is first polled. So the first poll of all futures happens under the
//! connection's lock, in order, and nobody else's request can come between `BEGIN` and `COMMIT`. The waiting is done
//! outside of the lock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_util::TryStreamExt;
use futures_util::future::{MaybeDone, maybe_done};
use tokio_postgres::{Client, Error, Statement as Prepared};

use super::connection::Link;
use super::fault::Failure;
use super::guard;
use super::value::Param;
use crate::batch::Statement;
use crate::value::{Row, Value};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Runs the statements in order: as one transaction begun with `begin`, or by itself when there is only one.
pub(super) async fn run<'a>(
    link: &Link,
    statements: &'a [Statement],
    begin: Option<&'static str>,
    writes: bool,
) -> Result<Vec<Vec<Row>>, Failure<'a>> {
    let mut prepared = Vec::with_capacity(statements.len());
    for statement in statements {
        let found = link.prepared(statement).await;
        prepared.push(found.map_err(|error| Failure { statement: Some(statement), error, sent: false })?);
    }
    if let ([statement], [prepared], None) = (statements, prepared.as_slice(), begin) {
        let answer = link.ordered(execute(&link.client, statement, prepared)).await;
        return answer.map(|rows| vec![rows]).map_err(|error| Failure {
            statement: Some(statement),
            error,
            sent: writes,
        });
    }
    together(link, statements, &prepared, begin.unwrap_or("BEGIN")).await
}

async fn together<'a>(
    link: &Link,
    statements: &'a [Statement],
    prepared: &[Prepared],
    begin: &'static str,
) -> Result<Vec<Vec<Row>>, Failure<'a>> {
    let client = &link.client;
    let mut begun: MaybeDone<Boxed<'_, ()>> = maybe_done(Box::pin(client.batch_execute(begin)));
    let mut answers: Vec<MaybeDone<Boxed<'_, Vec<Row>>>> = statements
        .iter()
        .zip(prepared)
        .map(|(statement, prepared)| maybe_done(Box::pin(execute(client, statement, prepared)) as Boxed<'_, Vec<Row>>))
        .collect();
    let mut ended: Option<MaybeDone<Boxed<'_, ()>>> = None;
    poll_fn(|context| {
        let order = ended.is_none().then(|| link.enqueueing());
        let mut waiting = Pin::new(&mut begun).poll(context).is_pending();
        for answer in &mut answers {
            waiting |= Pin::new(answer).poll(context).is_pending();
        }
        let end = ended.get_or_insert_with(|| {
            // A statement that could not even be sent (a parameter of a wrong type) must not be left out of a commit.
            let unsent = answers.iter().any(|answer| matches!(answer, MaybeDone::Done(Err(_))));
            maybe_done(Box::pin(client.batch_execute(if unsent { "ROLLBACK" } else { "COMMIT" })))
        });
        waiting |= Pin::new(end).poll(context).is_pending();
        drop(order);
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;

    let taken = |statement, answer: Option<Result<(), Error>>| match answer {
        Some(Err(error)) => Err(Failure { statement, error, sent: true }),
        _ => Ok(()),
    };
    taken(None, Pin::new(&mut begun).take_output())?;
    let mut rows = Vec::with_capacity(statements.len());
    for (statement, mut answer) in statements.iter().zip(answers) {
        match Pin::new(&mut answer).take_output() {
            Some(Ok(answer)) => rows.push(answer),
            Some(Err(error)) => return Err(Failure { statement: Some(statement), error, sent: true }),
            // Every future has been polled to its end above.
            None => rows.push(Vec::new()),
        }
    }
    taken(None, ended.as_mut().and_then(|end| Pin::new(end).take_output()))?;
    Ok(rows)
}

async fn execute(client: &Client, statement: &Statement, prepared: &Prepared) -> Result<Vec<Row>, Error> {
    let wanted = guard::wanted(statement.expect).map(Value::Int);
    let params = statement.params.iter().chain(&wanted).map(Param);
    let params: Vec<Param<'_>> = params.collect();
    let mut stream = pin!(client.query_raw(prepared, params).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.as_mut().try_next().await? {
        if guard::keeps_rows(statement) {
            rows.push(Row::from_postgres(statement.sql, row));
        }
    }
    Ok(rows)
}
