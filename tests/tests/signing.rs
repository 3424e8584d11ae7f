//! What a destination may ask of the gateway besides the card: a signature over what it gets, and a certificate.

use anyhow::{Context, Result};
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::{Received, Stub};
use cordon_tests::{cards, pki, search};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::{hmac, signature};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const KEYS: &str =
    "[signing.acme]\nfile = \"acme.key\"\n\n[signing.acme-jws]\nfile = \"acme-jws.key\"\nid = \"2026-1\"\n";

const SIGNATURES: &str = r#"[[egress.signature]]
scheme = "hmac-sha256"
key = "acme"
header = "x-signature"
over = ["timestamp", "method", "host", "path", "query", "header:idempotency-key", "header:accept", "body"]
separator = "point"
prefix = "v1="
timestamp_header = "x-timestamp"

[[egress.signature]]
scheme = "jws-es256"
key = "acme-jws"
header = "x-jws-signature"

[[egress.signature]]
scheme = "jws-es256"
key = "acme-jws"
header = "x-jws-signature-unencoded"
payload = "unencoded"

[[egress.field]]
"#;

const SECRET: &str = "whsec_KEEP-THIS-TO-YOURSELF-0123";

/// A stack whose route `charge` signs.
async fn signing() -> Result<Stack> {
    let mut stack =
        Stack::start(Options { gateway: false, gateway_tables: KEYS, ..Options::default() }).await?;
    stack.rewrite("policies/routes.toml", "[[egress.field]]\n", SIGNATURES)?;
    private(&stack, "acme.key", &format!("{SECRET}\n"), 0o600)?;
    // A key on the curve of ES256.
    let files = stack.authority.client("signer")?;
    private(&stack, "acme-jws.key", &fs::read_to_string(files.key)?, 0o600)?;
    stack.start_gateway()?;
    Ok(stack)
}

fn private(stack: &Stack, name: &str, text: &str, mode: u32) -> Result<()> {
    let path = stack.dir().join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn header<'r>(received: &'r Received, name: &str) -> Result<&'r str> {
    let mut values = received.headers.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next().with_context(|| format!("{name} in {:?}", received.headers))?;
    anyhow::ensure!(values.next().is_none(), "{name} stands once");
    Ok(value)
}

#[tokio::test]
async fn a_signature_is_over_the_bytes_that_the_processor_gets() -> Result<()> {
    let stack = signing().await?;
    let token = stack.token_of(cards::VISA).await?;
    let request = http::Request::post("/v1/charges?capture=no&x=%2F")
        .header("host", "gateway.cordon.test")
        .header("content-type", "application/json")
        .header("idempotency-key", "order-17")
        .header("x-signature", "v1=forged")
        .header("x-jws-signature", "forged")
        .body(format!(r#"{{ "amount":5,"card" : {{"number":"{token}"}} }}"#).into())?;
    let tls = cordon_tests::https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    let address = stack.gateway_address("egress")?;
    let answer = cordon_tests::https::send(address, "gateway.cordon.test", &tls, request).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let received = stack.processor.requests().pop().context("a charge")?;
    assert!(String::from_utf8_lossy(&received.body).contains(cards::VISA), "the card is in what was signed");

    let time = header(&received, "x-timestamp")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    assert!(now.abs_diff(time.parse()?) < 60, "{time}");
    let parts =
        [time, "POST", "processor.cordon.test", "/v1/charges", "capture=no&x=%2F", "order-17", "", ""];
    let input = [parts.join(".").into_bytes(), received.body.clone()].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let given = header(&received, "x-signature")?.strip_prefix("v1=").context("the prefix")?;
    assert!(hmac::verify(&key, &input, &HEXLOWER.decode(given.as_bytes())?).is_ok());

    let pem = fs::read(stack.dir().join("acme-jws.key"))?;
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(&pem)? else { anyhow::bail!("PKCS#8") };
    let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = ring::rand::SystemRandom::new();
    let pair =
        signature::EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der(), &random).ok().context("a key")?;
    let public = signature::KeyPair::public_key(&pair);
    let public = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, public.as_ref());
    let encoded = BASE64URL_NOPAD.encode(&received.body).into_bytes();
    for (name, head, payload) in [
        ("x-jws-signature", r#"{"alg":"ES256","kid":"2026-1"}"#, encoded),
        (
            "x-jws-signature-unencoded",
            r#"{"alg":"ES256","kid":"2026-1","b64":false,"crit":["b64"]}"#,
            received.body.clone(),
        ),
    ] {
        let (protected, given) = header(&received, name)?.split_once("..").context("a detached JWS")?;
        assert_eq!(String::from_utf8(BASE64URL_NOPAD.decode(protected.as_bytes())?)?, head);
        let input = [protected.as_bytes(), b".", &payload].concat();
        let given = BASE64URL_NOPAD.decode(given.as_bytes())?;
        assert!(public.verify(&input, &given).is_ok(), "{name}");
        let other = [input.as_slice(), b" "].concat();
        assert!(public.verify(&other, &given).is_err(), "the control: other bytes do not verify");
    }
    // Neither key nor card stands in what the gateway wrote.
    let said = stack.gateway.as_ref().context("a gateway")?.log() + &stack.audit("gateway");
    assert!(!said.contains("KEEP-THIS"), "{said}");
    assert_eq!(search::find(cards::VISA, said.as_bytes()), None);
    Ok(())
}

#[tokio::test]
async fn a_signed_header_that_stands_twice_is_refused() -> Result<()> {
    let stack = signing().await?;
    let send = async |accepts: &[&str]| -> Result<cordon_tests::https::Answer> {
        let mut request = http::Request::post("/v1/charges")
            .header("host", "gateway.cordon.test")
            .header("content-type", "application/json");
        for accept in accepts {
            request = request.header("accept", *accept);
        }
        let tls = cordon_tests::https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
        let address = stack.gateway_address("egress")?;
        let request = request.body("{}".to_owned().into())?;
        cordon_tests::https::send(address, "gateway.cordon.test", &tls, request).await
    };
    assert_eq!(send(&["application/json"]).await?.status, 200, "the control");
    let before = stack.processor.requests().len();
    let answer = send(&["application/json", "text/xml"]).await?;
    let said = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 400 && said.contains("signed-header"), "{said}");
    assert_eq!(stack.processor.requests().len(), before, "nothing is sent");
    Ok(())
}

#[tokio::test]
async fn a_key_that_others_may_read_or_that_is_not_there_keeps_the_gateway_from_starting() -> Result<()> {
    let stack = signing().await?;
    let check = || -> Result<(Option<i32>, String)> {
        let config = stack.dir().join("gateway.toml");
        let output =
            Command::new(binary("cordon-gateway")?).arg("--config").arg(config).arg("--check").output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    assert_eq!(check()?.0, Some(0), "the control");
    private(&stack, "acme.key", SECRET, 0o640)?;
    let (code, said) = check()?;
    assert!(code == Some(78) && said.contains("chmod 600") && !said.contains("KEEP-THIS"), "{said}");
    private(&stack, "acme.key", "short", 0o600)?;
    let (code, said) = check()?;
    assert!(code == Some(78) && said.contains("16 bytes") && !said.contains("short"), "{said}");
    private(&stack, "acme.key", SECRET, 0o600)?;
    stack.rewrite("gateway.toml", "[signing.acme]", "[signing.another]")?;
    let (code, said) = check()?;
    assert!(code == Some(78) && said.contains("name its file in [signing.acme]"), "{said}");
    stack.rewrite("gateway.toml", "[signing.another]", "[signing.acme]")?;
    stack.rewrite(
        "gateway.toml",
        "[signing.acme]",
        "[client_certificates.nobody]\ncert = \"a\"\nkey = \"b\"\n[signing.acme]",
    )?;
    let (code, said) = check()?;
    assert!(code == Some(78) && said.contains("no destination of this name"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_destination_gets_the_certificate_that_is_meant_for_it() -> Result<()> {
    let options = Options {
        gateway: false,
        gateway_tables: "[client_certificates.processor]\ncert = \"acme-merchant.pem\"\nkey = \"acme-merchant.key\"\n",
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    // The processor's own authority for merchants, which knows nobody of ours.
    let acme = pki::Authority::new(stack.dir(), "acme")?;
    acme.client("merchant")?;
    let identity = stack.authority.server("processor.cordon.test")?;
    let strict = Stub::start_for(&identity, &acme.root(), Options::default().processor).await?;
    stack.rewrite(
        "policies/segments.toml",
        &stack.processor.address.to_string(),
        &strict.address.to_string(),
    )?;
    stack.start_gateway()?;
    let body = serde_json::json!({"card": {"number": stack.token_of(cards::VISA).await?}});
    let answer = stack.charge("signup", "/v1/charges", &body).await?;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(strict.requests().len(), 1);
    // Another destination is not shown it.
    let elsewhere = serde_json::json!({"card": {"number": stack.token_of(cards::MASTERCARD).await?}});
    let other = Stub::start_for(&identity, &acme.root(), Options::default().processor).await?;
    stack.rewrite(
        "policies/segments.toml",
        &stack.processor.address.to_string(),
        &other.address.to_string(),
    )?;
    stack.gateway = None;
    stack.start_gateway()?;
    let answer = stack.charge("renewals", "/v1/elsewhere", &elsewhere).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (502, "upstream-unavailable"));
    assert!(other.bytes().is_empty());
    Ok(())
}
