//! The rows of webhooks: how many deliveries a second with their outcome recorded, what they cost, how soon an event
//! arrives, and whether endpoints that never answer delay the others.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::installation::{Installation, ssh_key};
use crate::load;
use crate::process::{self, pause, wait_until};
use crate::ratio::{Row, Target, Values};
use crate::rows::{CLIENTS, Creates, Workshop, load_on};

/// Endpoints that each event goes to.
const FAN_OUT: u64 = 10;
/// Measurements of each side.
const ROUNDS: usize = 3;
/// Milliseconds for which events are made.
const MAKE_MS: u64 = 1_000;
/// Seconds that their deliveries have.
const DELIVERED_MAX_S: u64 = 120;
/// Events that are sent one after the other, for the time that each takes.
const SINGLE: u64 = 200;
/// Milliseconds between two of them.
const SINGLE_PAUSE_MS: u64 = 10;
/// Endpoints of the row with silent ones, of which every tenth never answers.
const MANY: u64 = 1_000;
/// Events of that row on each side.
const EVENTS: u64 = 20;
/// Milliseconds between two of them.
const SPREAD_PAUSE_MS: u64 = 200;

fn installation(shop: &Workshop, name: &str) -> Result<Installation> {
    Installation::new(shop.binary(), shop.path(name), &["--driver", "simulator", "--private-targets"])
}

fn webhook(installation: &Installation, url: &str) -> Result<String> {
    let body = serde_json::json!({"url": url, "event_types": ["ssh_key.created"]}).to_string();
    let made = installation.create("/v1/webhooks", &body)?;
    Ok(made["id"].as_str().context("a webhook without id")?.to_owned())
}

fn total(installation: &Installation, path: &str) -> Result<u64> {
    installation.get(path)?["meta"]["total"].as_u64().context("a list without a total")
}

fn taken(installation: &Installation, webhooks: &[String]) -> Result<u64> {
    let log = |id: &String| total(installation, &format!("/v1/webhooks/{id}/deliveries?status=succeeded&limit=1"));
    webhooks.iter().map(log).sum()
}

/// Deliveries a second with their outcome recorded, while the creates that cause them run, beside bare axum; and the
/// processor time of all processes for 1,000 of them. Each round has a fresh database.
pub fn rate(shop: &Workshop) -> Result<Vec<Row>> {
    let file = shop.path("answer.json");
    std::fs::write(&file, "{}")?;
    let (mut rates, mut bare_rates, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (receiver, address) = process::bare(&file)?;
        let installation = installation(shop, &format!("deliveries-{round}"))?;
        let mut webhooks = Vec::new();
        for number in 0..FAN_OUT {
            webhooks.push(webhook(&installation, &format!("http://{address}/hook-{number}"))?);
        }
        let pids = [installation.pid()?, receiver.id()];
        let cpu = || pids.iter().map(|pid| process::cpu_s(*pid)).sum::<Result<f64>>();
        let (before, begun) = (cpu()?, Instant::now());
        Creates::default().ssh_keys(installation.address, &installation.key, MAKE_MS)?;
        let wanted = FAN_OUT * total(&installation, "/v1/ssh-keys?limit=1")?;
        wait_until(Duration::from_secs(DELIVERED_MAX_S), || {
            pause(Duration::from_millis(20));
            Ok((taken(&installation, &webhooks)? >= wanted).then_some(()))
        })
        .context("not everything is delivered")?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let wanted = wanted as f64;
        rates.push(wanted / begun.elapsed().as_secs_f64());
        costs.push((cpu()? - before) * 1e3 / wanted);
        let request = load::get("/", "");
        bare_rates.push(load::run(load_on(address, 200, MAKE_MS), |_, out| out.extend_from_slice(&request))?.rate);
        eprintln!("  {wanted} deliveries, {:.0}/s, {:.3} CPU-s per 1,000", rates[round], costs[round]);
    }
    let sides = [Values::new(rates)?, Values::new(bare_rates)?];
    Ok(vec![
        Row::ratio("deliveries with outcome recorded ÷ bare axum, fan-out 10", "/s", &sides, Target::Least(0.20)),
        Row::plain(
            "CPU-seconds per 1,000 deliveries, creates and receiver included",
            "s",
            &Values::new(costs)?,
            Target::Most(0.15),
        ),
    ])
}

/// From sending a create to the arrival of its event, at low load.
pub fn latency(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = installation(shop, "latency")?;
    let (address, arrivals) = receiver()?;
    webhook(&installation, &format!("http://{address}/in"))?;
    let mut times = Vec::new();
    for number in 0..SINGLE {
        let body = format!(r#"{{"name":"key {number}","public_key":"{}"}}"#, ssh_key(number));
        let begun = Instant::now();
        installation.create("/v1/ssh-keys", &body)?;
        let answered = Instant::now();
        let arrived = arrivals.recv_timeout(Duration::from_secs(10)).context("an event did not arrive")?;
        // It can be there before the answer to the create is.
        times.push(arrived.saturating_duration_since(answered).as_secs_f64() * 1e3);
        ensure!(arrived > begun, "an event of before");
        pause(Duration::from_millis(SINGLE_PAUSE_MS));
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| Values::new(vec![times[times.len() * percent / 100]]);
    Ok(vec![
        Row::plain("event committed (its create answered) → received, median", "ms", &at(50)?, Target::Most(2.0)),
        Row::plain("the same, 99th percentile", "ms", &at(99)?, Target::Most(6.0)),
    ])
}

/// 900 endpoints that answer, alone and beside 100 that take connections and never answer: until the last of the 900 has an
/// event and the log says so, which is later than the 99th percentile of them.
pub fn silent(shop: &Workshop) -> Result<Vec<Row>> {
    let alone = until_all_have_it(shop, "alone", false)?;
    let beside = until_all_have_it(shop, "silent", true)?;
    let sides = [alone, beside];
    Ok(vec![Row::ratio(
        "an event at all of 900 endpoints, recorded: alone ÷ beside 100 that never answer",
        "ms",
        &sides,
        Target::Least(0.8),
    )])
}

/// Milliseconds until the last of 900 endpoints has an event, for some events one after the other.
fn until_all_have_it(shop: &Workshop, name: &str, has_silent: bool) -> Result<Values> {
    let installation = installation(shop, name)?;
    let file = shop.path("answer.json");
    std::fs::write(&file, "{}")?;
    let (_receiver, address) = process::bare(&file)?;
    // The kernel takes connections for it; nobody reads them.
    let mute = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let mute_address = mute.local_addr()?;
    for number in 0..MANY {
        let is_silent = number % 10 == 0;
        if !is_silent || has_silent {
            let to = if is_silent { mute_address } else { address };
            webhook(&installation, &format!("http://{to}/hook-{number}"))?;
        }
    }
    let mut times = Vec::new();
    for number in 0..EVENTS {
        let before = answered(&installation)?;
        let body = format!(r#"{{"name":"key {number}","public_key":"{}"}}"#, ssh_key(number));
        let begun = Instant::now();
        installation.create("/v1/ssh-keys", &body)?;
        wait_until(Duration::from_secs(60), || Ok((answered(&installation)? >= before + MANY * 9 / 10).then_some(())))
            .context("endpoints that answer wait for those that do not")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        pause(Duration::from_millis(SPREAD_PAUSE_MS));
    }
    Values::new(times)
}

/// Tries that went well, as the server counts them.
fn answered(installation: &Installation) -> Result<u64> {
    let admin = SocketAddr::new(installation.address.ip(), installation.address.port() + 1);
    let (status, body) = load::ask(admin, &load::get("/metrics", ""))?;
    ensure!(status == 200, "no metrics: {status}");
    let text = String::from_utf8_lossy(&body).into_owned();
    let line = text.lines().find(|line| line.starts_with("nephos_webhook_attempts_total") && line.contains("taken"));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0))
}

/// A receiver in this process that tells when each request arrived.
fn receiver() -> Result<(SocketAddr, mpsc::Receiver<Instant>)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let (told, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(CLIENTS) {
            let told = told.clone();
            // It ends with its connection.
            std::thread::spawn(move || receive(stream, &told));
        }
    });
    Ok((address, arrivals))
}

fn receive(stream: TcpStream, told: &mpsc::Sender<Instant>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        stream.read_exact(&mut vec![0; length])?;
        // Nobody listens any more at the end.
        _ = told.send(Instant::now());
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
