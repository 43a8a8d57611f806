//! The other side of the reads: axum with one route and nothing else, answering the bytes that nephos answered.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

/// Answers every GET and POST with the contents of a file as JSON, and prints the port it listens on.
pub fn serve(file: &str) -> Result<()> {
    let body = Bytes::from(std::fs::read(file).with_context(|| format!("reading {file}"))?);
    let answer = move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body) }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?.port());
        axum::serve(listener, Router::new().fallback(get(answer.clone()).post(answer))).await?;
        Ok(())
    })
}
