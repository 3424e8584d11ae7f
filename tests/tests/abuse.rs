//! Abuse rules against the real binaries: who tests cards is stopped, a sale is not, and each action does what it says.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::https::{self, Answer};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{self, Received};
use cordon_tests::{cards, search};
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use ring::hmac;
use rustls::pki_types::ServerName;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The rules that `policies/routes.toml` shows as an example.
fn shipped() -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/routes.toml");
    let text = fs::read_to_string(path)?;
    let from = text.find("# [ingress.outcome]").context("the example")?;
    let example = text.get(from..).context("its text")?.lines().take_while(|line| line.starts_with('#'));
    let lines = example.map(|line| line.trim_start_matches('#').trim_start());
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

/// A stack whose route `signup` has these rules. Its service declines cards that are sent with a word.
async fn guarded(rules: &str, tables: &'static str) -> Result<Stack> {
    let options = Options {
        gateway: false,
        gateway_tables: tables,
        signup: Arc::new(|received: &Received| {
            let body = String::from_utf8_lossy(&received.body).into_owned();
            if body.contains(LATE) {
                // Other tasks go on meanwhile.
                tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(500)));
            }
            if body.contains(DECLINED) {
                stub::json(402, &serde_json::json!({"status": "declined"}))
            } else {
                stub::json(201, &serde_json::json!({"status": "approved"}))
            }
        }),
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    let field = "[[ingress.field]]\njson = \"$.card.number\"";
    stack.rewrite("policies/routes.toml", field, &format!("{rules}\n{field}"))?;
    let path = stack.dir().join("captcha.key");
    fs::write(&path, KEY)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    stack.start_gateway()?;
    Ok(stack)
}

/// What the service is told about a card, besides the card.
const APPROVED: &str = "fine";
const DECLINED: &str = "no-funds";
const LATE: &str = "in-a-while";

const CAPTCHA: &str = "[signing.captcha]\nfile = \"captcha.key\"\n";

/// A browser: one connection from an address of its own, which is kept open.
struct Browser {
    sender: SendRequest<Full<Bytes>>,
    connection: AbortHandle,
}

impl Browser {
    async fn open(stack: &Stack, from: Ipv4Addr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let stream = socket.connect(stack.gateway_address("ingress")?).await?;
        stream.set_nodelay(true)?;
        let tls = https::tls(&stack.authority.root(), None)?;
        let name = ServerName::try_from("gateway.cordon.test")?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self { sender, connection })
    }

    async fn send(&mut self, number: &str, note: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let body = serde_json::json!({"card": {"number": number, "cvc": "123"}, "note": note}).to_string();
        let mut request = Request::post("/signup")
            .header("host", "signup.cordon.test")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request.body(Full::from(body))?).await?.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// An address of the loopback network, spread over its networks of 24 bits.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f10_0001 + (number << 8 & 0x00ff_ff00) + (number >> 14))
}

/// Lines of an audit log that hold each of these.
fn lines(stack: &Stack, daemon: &str, with: &[&str]) -> usize {
    let text = stack.audit(daemon);
    text.lines().filter(|line| with.iter().all(|part| line.contains(part))).count()
}

async fn metrics(stack: &Stack) -> Result<String> {
    let answer = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?;
    Ok(String::from_utf8(answer.body)?)
}

/// Nothing that the gateway wrote holds a card number.
fn no_trace(stack: &Stack, number: &str) -> Result<()> {
    let said = stack.gateway.as_ref().context("a gateway")?.log() + &stack.audit("gateway");
    assert_eq!(search::find(number, said.as_bytes()), None);
    Ok(())
}

/// Attempts with ever new cards of one range, all declined; how many were not refused.
async fn test_cards(stack: &Arc<Stack>, attempts: u32, connections: u32, range: u32) -> Result<usize> {
    let mut testers = JoinSet::new();
    for connection in 0..connections {
        let stack = Arc::clone(stack);
        testers.spawn(async move {
            let mut browser = Browser::open(&stack, Ipv4Addr::new(127, 66, 6, 6)).await?;
            let mut passed = 0;
            for number in (connection..attempts).step_by(usize::try_from(connections)?) {
                let pan = cards::of_range(range, number)?;
                let answer = browser.send(pan.expose(), DECLINED, &[]).await?;
                match answer.status.as_u16() {
                    402 => passed += 1,
                    403 | 429 => {}
                    other => anyhow::bail!("{other}: {}", String::from_utf8_lossy(&answer.body)),
                }
            }
            anyhow::Ok(passed)
        });
    }
    let mut passed = 0;
    while let Some(tester) = testers.join_next().await {
        passed += tester??;
    }
    Ok(passed)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tested_cards_end_within_fifty() -> Result<()> {
    let stack = Arc::new(guarded(&shipped()?, CAPTCHA).await?);
    let began = Instant::now();
    let passed = test_cards(&stack, 10_000, 16, 1).await?;
    let seen = stack.signup.requests().len();
    println!("10,000 attempts in {:?}: {seen} reached the service", began.elapsed());
    assert_eq!(passed, seen);
    assert!((10..=50).contains(&seen), "{seen} attempts reached the service");
    // Nor the vault, and the log has a few lines of it.
    let asked = lines(&stack, "vault", &[r#""what":"tokenize""#]);
    assert_eq!(asked, seen, "the vault was asked for those alone");
    let fired = [r#""what":"abuse""#, r#""reason":"abuse.challenged""#, r#""by":["abuse.address-declined"]"#];
    assert_eq!(lines(&stack, "gateway", &fired), 1, "it fired once");
    let refused = lines(&stack, "gateway", &[r#""reason":"challenge-required""#]);
    assert!((1..400).contains(&refused), "{refused} lines for 10,000 refusals");
    let counted =
        "cordon_gateway_abuse_total{route=\"signup\",rule=\"address-declined\",action=\"challenged\"} ";
    let text = metrics(&stack).await?;
    let count = text.lines().find_map(|line| line.strip_prefix(counted)).context("the counter")?;
    assert_eq!(count.parse::<usize>()?, 10_000 - seen);
    no_trace(&stack, cards::of_range(1, 0)?.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_range_tested_from_everywhere_ends_by_the_range() -> Result<()> {
    let stack = Arc::new(guarded(&shipped()?, CAPTCHA).await?);
    let mut testers = JoinSet::new();
    let at_once = Arc::new(Semaphore::new(8));
    for number in 0..600 {
        let (stack, at_once) = (Arc::clone(&stack), Arc::clone(&at_once));
        testers.spawn(async move {
            let _turn = at_once.acquire_owned().await?;
            let mut browser = Browser::open(&stack, address(number)).await?;
            let answer = browser.send(cards::of_range(2, number)?.expose(), DECLINED, &[]).await?;
            anyhow::Ok(answer.status.as_u16())
        });
    }
    while let Some(tester) = testers.join_next().await {
        let status = tester??;
        assert!(status == 402 || status == 403, "{status}");
    }
    let seen = stack.signup.requests().len();
    println!("600 addresses: {seen} attempts reached the service");
    // Forty answers, and what was under way when the fortieth came.
    assert!((40..=50).contains(&seen), "{seen} attempts reached the service");
    // Another range is not held up by it.
    let mut browser = Browser::open(&stack, address(700)).await?;
    assert_eq!(browser.send(cards::of_range(3, 1)?.expose(), APPROVED, &[]).await?.status, 201);
    Ok(())
}

/// Somebody who buys in the sale: from where, and the cards tried in turn, each with how often it is declined first.
struct Buyer {
    from: Ipv4Addr,
    session: String,
    tries: Vec<(String, bool)>,
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).unwrap_or_default()
    }
}

/// 2,500 addresses: 2,188 with one buyer, 300 families with two cards, twelve that 40 people share. One card in eight is
/// declined; its owner tries it again, and every other one then another card. One card in eight is of one issuer.
fn sale() -> Result<Vec<Buyer>> {
    let mut dice = Dice(2026);
    let mut buyers = Vec::new();
    let mut card = 0;
    for place in 0..2_500_u32 {
        let people = match place {
            0..2_188 => 1,
            2_188..2_488 => 2,
            _ => 40,
        };
        for person in 0..people {
            let mut number = || -> Result<String> {
                card += 1;
                let range = if dice.below(100) < 12 { 7 } else { 100 + dice.below(80) };
                Ok(cards::of_range(range, card)?.expose().to_owned())
            };
            let (first, second) = (number()?, number()?);
            let mut tries = vec![(first.clone(), false)];
            if dice.below(100) < 12 {
                tries = vec![(first.clone(), true), (first, true)];
                if dice.below(2) == 0 {
                    tries.push((second, false));
                }
            }
            buyers.push(Buyer { from: address(place), session: format!("sid=s{place}-{person}"), tries });
        }
    }
    for at in (1..buyers.len()).rev() {
        let other = usize::try_from(dice.below(u32::try_from(at)? + 1))?;
        buyers.swap(at, other);
    }
    Ok(buyers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_no_attack_and_an_attack_in_it_is_one() -> Result<()> {
    let stack = Arc::new(guarded(&shipped()?, CAPTCHA).await?);
    let (began, buyers) = (Instant::now(), sale()?);
    let attempts: usize = buyers.iter().map(|buyer| buyer.tries.len()).sum();
    let declined = buyers.iter().flat_map(|buyer| &buyer.tries).filter(|(_, declined)| *declined).count();
    let mut shoppers = JoinSet::new();
    let at_once = Arc::new(Semaphore::new(24));
    for buyer in buyers {
        let (stack, at_once) = (Arc::clone(&stack), Arc::clone(&at_once));
        shoppers.spawn(async move {
            let _turn = at_once.acquire_owned().await?;
            let mut browser = Browser::open(&stack, buyer.from).await?;
            for (number, declined) in &buyer.tries {
                let answer = browser
                    .send(number, if *declined { DECLINED } else { APPROVED }, &[("cookie", &buyer.session)])
                    .await?;
                let wanted = if *declined { 402 } else { 201 };
                let said = String::from_utf8_lossy(&answer.body);
                anyhow::ensure!(answer.status == wanted, "{} {said} for {}", answer.status, buyer.from);
            }
            anyhow::Ok(())
        });
    }
    while let Some(shopper) = shoppers.join_next().await {
        shopper??;
    }
    println!("{attempts} attempts, {declined} declined, in {:?}: none stopped", began.elapsed());
    assert_eq!(stack.signup.requests().len(), attempts);
    assert_eq!(lines(&stack, "gateway", &[r#""what":"abuse""#]), 0);
    // The same rules, meanwhile: cards of the issuer that most buyers have.
    let passed = test_cards(&stack, 400, 8, 7).await?;
    assert!(passed <= 50, "{passed} attempts reached the service");
    let mut late = Browser::open(&stack, address(5_000)).await?;
    assert_eq!(late.send(cards::of_range(7, 9_000_000)?.expose(), APPROVED, &[]).await?.status, 201);
    Ok(())
}

/// A rule for each action, each for a session header of its own, so that they do not meet.
const ACTIONS: &str = r#"
[[ingress.abuse]]
name = "told"
per = "header:x-told"
count = "cards"
over = 1
within = "10m"
action = "report"

[[ingress.abuse]]
name = "slow"
per = "header:x-slow"
count = "requests"
over = 1
within = "10m"
action = "delay"
delay = "1s"

[[ingress.abuse]]
name = "asked"
per = "header:x-asked"
count = "requests"
over = 1
within = "10m"
action = "challenge"
key = "captcha"
header = "x-challenge-proof"
passes = 2

[[ingress.abuse]]
name = "shut"
per = "header:x-shut"
count = "cards"
over = 2
within = "10m"
action = "deny"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_action_does_what_it_says() -> Result<()> {
    let tables = "[abuse]\nmemory_mib = 4\ndelayed = 1\n[signing.captcha]\nfile = \"captcha.key\"\n";
    let stack = guarded(ACTIONS, tables).await?;
    let mut browser = Browser::open(&stack, Ipv4Addr::LOCALHOST).await?;
    let card = |number: u32| Ok::<_, anyhow::Error>(cards::of_range(9, number)?.expose().to_owned());

    // Report: all pass, and the log says so once.
    for number in 0..4 {
        assert_eq!(browser.send(&card(number)?, APPROVED, &[("x-told", "a")]).await?.status, 201);
    }
    let told =
        [r#""what":"abuse""#, r#""outcome":"allowed""#, r#""reason":"abuse.reported""#, r#""abuse.told""#];
    assert_eq!(lines(&stack, "gateway", &told), 1);

    // Deny: the third card of a session, but not the two again, nor another session.
    for (number, session, wanted) in
        [(0, "a", 201), (1, "a", 201), (0, "a", 201), (2, "a", 429), (2, "b", 201), (0, "a", 429)]
    {
        let before = stack.signup.bytes().len();
        let answer = browser.send(&card(number)?, APPROVED, &[("x-shut", session)]).await?;
        assert_eq!(answer.status, wanted, "{number} {session}");
        if wanted == 429 {
            assert_eq!(answer.problem()?, "too-many-attempts");
            assert_eq!(answer.headers.get("retry-after").context("retry-after")?, "600");
            assert_eq!(stack.signup.bytes().len(), before, "the service saw no byte");
        }
    }
    let shut = [
        r#""what":"forward""#,
        r#""outcome":"denied""#,
        r#""reason":"too-many-attempts""#,
        r#""abuse.shut""#,
    ];
    assert_eq!(lines(&stack, "gateway", &shut), 2);

    // Delay: the second waits; another one that would have to wait at the same time is refused.
    assert_eq!(browser.send(&card(0)?, APPROVED, &[("x-slow", "a")]).await?.status, 201);
    let mut other = Browser::open(&stack, Ipv4Addr::LOCALHOST).await?;
    let (number, began) = (card(0)?, Instant::now());
    let slow = [("x-slow", "a")];
    let (one, two) =
        tokio::join!(browser.send(&number, APPROVED, &slow), other.send(&number, APPROVED, &slow));
    let mut both = [one?.status.as_u16(), two?.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [201, 429]);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    // Challenge: refused with what the proof must be bound to; a proof lets its session pass twice.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let proof = |session: &str, expiry: u64| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        let code =
            hmac::sign(&key, format!("cordon-challenge-v1\nheader:x-asked\n{session}\n{expiry}").as_bytes());
        format!("exp={expiry};mac={}", BASE64URL_NOPAD.encode(code.as_ref()))
    };
    assert_eq!(browser.send(&number, APPROVED, &[("x-asked", "a")]).await?.status, 201);
    let refused = browser.send(&number, APPROVED, &[("x-asked", "a")]).await?;
    assert_eq!((refused.status.as_u16(), refused.problem()?.as_str()), (403, "challenge-required"));
    assert_eq!(refused.json()?["detail"], "header:x-asked");
    for (proof, wanted) in [
        (proof("b", now + 300), 403),
        (proof("a", now - 1), 403),
        (proof("a", now + 7_200), 403),
        (proof("a", now + 300), 201),
        (proof("a", now + 301), 201),
        (proof("a", now + 302), 403),
    ] {
        let headers = [("x-asked", "a"), ("x-challenge-proof", proof.as_str())];
        assert_eq!(browser.send(&number, APPROVED, &headers).await?.status, wanted, "{proof}");
    }

    let text = metrics(&stack).await?;
    for line in [
        "cordon_gateway_abuse_total{route=\"signup\",rule=\"told\",action=\"reported\"} 3",
        "cordon_gateway_abuse_total{route=\"signup\",rule=\"slow\",action=\"delayed\"} 2",
        "cordon_gateway_abuse_total{route=\"signup\",rule=\"asked\",action=\"proved\"} 2",
        "cordon_gateway_abuse_total{route=\"signup\",rule=\"shut\",action=\"denied\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    no_trace(&stack, &number)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_before_the_answer_is_counted_as_declined() -> Result<()> {
    let rules = "[ingress.outcome]\nstatus = true\napproved = [\"2xx\"]\ndeclined = [\"402\"]\n\
                 [[ingress.abuse]]\nname = \"declined\"\nper = \"address\"\ncount = \"declines\"\nover = 2\n\
                 within = \"10m\"\naction = \"deny\"\n";
    let stack = guarded(rules, "").await?;
    let card = |number: u32| Ok::<_, anyhow::Error>(cards::of_range(4, number)?.expose().to_owned());
    let mut patient = Browser::open(&stack, Ipv4Addr::LOCALHOST).await?;
    // Whoever waits is approved, and that is no decline.
    for number in 0..4 {
        assert_eq!(patient.send(&card(number)?, APPROVED, &[]).await?.status, 201);
    }
    for number in 10..12 {
        let (before, number) = (stack.signup.requests().len(), card(number)?);
        let mut browser = Browser::open(&stack, Ipv4Addr::LOCALHOST).await?;
        let connection = browser.connection.clone();
        let asking = tokio::spawn(async move { browser.send(&number, LATE, &[]).await.map(drop) });
        stack.until("the service has it", || stack.signup.requests().len() > before).await?;
        connection.abort();
        assert!(asking.await?.is_err(), "no answer came");
    }
    // The gateway notices in its own time.
    let deadline = Instant::now() + cordon_tests::patience();
    for number in 20.. {
        match patient.send(&card(number)?, APPROVED, &[]).await?.status.as_u16() {
            429 => break,
            _ => anyhow::ensure!(Instant::now() < deadline, "hanging up gained something"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_rule_without_its_key_or_its_outcome_keeps_the_gateway_from_starting() -> Result<()> {
    let Err(error) = guarded(ACTIONS, "").await else { anyhow::bail!("it started without the key") };
    assert!(format!("{error:#}").contains("[signing.captcha]"), "{error:#}");
    let rules = shipped()?;
    let blind = rules.get(rules.find("[[ingress.abuse]]").context("rules")?..).context("rules")?;
    let Err(error) = guarded(blind, CAPTCHA).await else { anyhow::bail!("it started without outcomes") };
    assert!(format!("{error:#}").contains("[ingress.outcome]"), "{error:#}");
    Ok(())
}
