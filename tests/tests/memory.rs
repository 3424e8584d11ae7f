//! Card numbers in the vault's memory: there while a request is served, gone once it is answered.

use anyhow::{Result, ensure};
use cordon_card::Pan;
use cordon_tests::memory::{Scan, scan};
use cordon_tests::stack::{self, Options, Stack};
use cordon_tests::{cards, https, search};
use cordon_wire::TokenizeRequest;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What all marked numbers begin with; long enough that nothing else does.
const MARK: &str = "0735192648";

fn marked(number: u64) -> Result<Pan> {
    let digits: String = format!("{}", 73_519_264_800_000 + number).chars().rev().collect();
    cards::bulk(digits.parse()?)
}

/// The mark in every encoding a leak could take, and each number as an integer.
fn needles() -> Result<Vec<(String, Vec<u8>)>> {
    // The last digits of an encoding depend on what follows the mark, so an even part of it is looked for.
    let mut all: Vec<(String, Vec<u8>)> = search::encodings(MARK)
        .into_iter()
        .filter(|(name, _)| {
            !name.starts_with("u64") && !name.starts_with("grouped") && !name.starts_with("base64")
        })
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
    for number in 0..NUMBERS {
        let pan = marked(number)?;
        let digits = pan.expose();
        let of_number =
            |name: &str| name.starts_with("u64") || name.starts_with("grouped") || name.starts_with("base64");
        let forms = search::encodings(digits).into_iter().filter(|(name, _)| of_number(name));
        all.extend(forms.map(|(name, bytes)| (format!("{name} of number {number}"), bytes)));
    }
    Ok(all)
}

const NUMBERS: u64 = 20;

fn summary(scan: &Scan) -> String {
    let shown: Vec<String> = scan
        .hits
        .iter()
        .take(12)
        .map(|hit| format!("{} at {:x} in {}: {}", hit.what, hit.address, hit.mapping, hit.around))
        .collect();
    format!("{} places in {} bytes:\n{}", scan.hits.len(), scan.bytes, shown.join("\n"))
}

/// Scans until nothing is found, at most `within`.
async fn gone(process: u32, within: Duration) -> Result<()> {
    let started = Instant::now();
    loop {
        let seen = scan(process, &needles()?)?;
        ensure!(seen.bytes > 1_000_000, "the scan reads the process: {} bytes", seen.bytes);
        if seen.hits.is_empty() {
            return Ok(());
        }
        ensure!(started.elapsed() < within, "after {:?} still {}", started.elapsed(), summary(&seen));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Tokenizes all marked numbers over four connections, one batch and single calls, and reveals some. The connections stay
/// open as long as what is returned lives.
async fn work(stack: &Stack) -> Result<(Vec<cordon_client::Tokenizer>, cordon_client::Revealer)> {
    let mut tokens = Vec::new();
    let mut clients = Vec::new();
    for connection in 0..4_u64 {
        let tokenizer = stack.tokenizer("gateway-ingress")?;
        for number in 0..4 {
            let answer =
                tokenizer.tokenize(&stack::cards()?, &cards::only(marked(connection * 5 + number)?)).await?;
            for item in answer.items {
                tokens.push(cards::done(item)?.token);
            }
        }
        let mut items = vec![cards::item(marked(connection * 5 + 4)?)];
        items.extend(
            (0..4)
                .map(|number| Ok(cards::item(marked(connection * 5 + number)?)))
                .collect::<Result<Vec<_>>>()?,
        );
        tokenizer.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?;
        clients.push(tokenizer);
    }
    let revealer = stack.revealer("gateway-egress")?;
    for token in &tokens {
        let answer = revealer.detokenize(&stack::cards()?, &cards::reveal(token)).await?;
        for item in answer.items {
            cards::done(item)?;
        }
    }
    Ok((clients, revealer))
}

async fn vault() -> Result<Stack> {
    Stack::start(Options { gateway: false, ..Options::default() }).await
}

#[tokio::test]
async fn card_numbers_are_gone_from_memory_once_the_connections_are_closed() -> Result<()> {
    let stack = vault().await?;
    let clients = work(&stack).await?;
    drop(clients);
    gone(stack.vault.id(), cordon_tests::patience()).await?;
    Ok(())
}

#[tokio::test]
async fn card_numbers_are_gone_from_memory_while_the_connections_stay_open() -> Result<()> {
    let stack = vault().await?;
    let clients = work(&stack).await?;
    gone(stack.vault.id(), cordon_tests::patience()).await?;
    drop(clients);
    Ok(())
}

/// Over HTTP/1.1 the library's buffer keeps the last request until the connection ends, which the vault sees to.
#[tokio::test]
async fn an_idle_http1_connection_is_closed_with_all_it_held() -> Result<()> {
    let stack = vault().await?;
    let body = format!("{{\"items\":[{{\"pan\":\"{}\"}}]}}", marked(3)?.expose());
    let mut stream = connect(&stack).await?;
    stream.write_all(request(body.len(), &body).as_bytes()).await?;
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == *b"HTTP/1.1 200 OK", "{}", answer.escape_ascii());
    gone(stack.vault.id(), cordon_tests::patience()).await?;
    drop(stream);
    Ok(())
}

/// A connection as the gateway's ingress that speaks HTTP/1.1.
async fn connect(stack: &Stack) -> Result<TlsStream<TcpStream>> {
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("gateway-ingress")))?;
    let tcp = TcpStream::connect(stack.vault.address("data")?).await?;
    Ok(TlsConnector::from(tls).connect("vault.cordon.test".try_into()?, tcp).await?)
}

fn request(length: usize, body: &str) -> String {
    format!(
        "POST /v1/collections/cards/tokenize HTTP/1.1\r\nhost: vault.cordon.test\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn the_scan_finds_a_card_number_that_is_there() -> Result<()> {
    let stack = vault().await?;
    let name = [("the vault's certificate".to_owned(), b"vault.cordon.test".to_vec())];
    ensure!(!scan(stack.vault.id(), &name)?.hits.is_empty(), "what the vault always holds is found");
    gone(stack.vault.id(), Duration::ZERO).await?;
    // A request that does not end: its body waits in the vault's memory.
    let mut stream = connect(&stack).await?;
    let body = format!("{{\"items\":[{{\"pan\":\"{}\"", marked(3)?.expose());
    stream.write_all(request(4000, &body).as_bytes()).await?;
    stream.flush().await?;
    let deadline = Instant::now() + cordon_tests::patience();
    while scan(stack.vault.id(), &needles()?)?.hits.is_empty() {
        ensure!(Instant::now() < deadline, "a card number that waits in the vault is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The peer leaves; its half of a request goes too.
    drop(stream);
    gone(stack.vault.id(), cordon_tests::patience()).await?;
    Ok(())
}
