//! The shipped recipes against stubs that take what each processor's public API documents, and nothing else.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_card::Pan;
use cordon_tests::https::{self, Answer};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::stub::Received;
use cordon_tests::{cards, search, stub};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::Arc;

/// A processor's API, as far as a card is concerned.
struct Api {
    recipe: &'static str,
    destination: &'static str,
    path: &'static str,
    content: &'static str,
    /// What the application sends besides.
    headers: &'static [(&'static str, &'static str)],
    /// What it sends for this card, in the API's own shape.
    request: fn(&str) -> String,
    /// What makes another shape of it, outside of the card.
    slip: (&'static str, &'static str),
    /// Why a request is not of the documented shape.
    fault: fn(&Received) -> Option<String>,
    /// How the API answers, if it approves.
    answer: fn(bool) -> (u16, String),
}

/// The card that is declined.
const DECLINED: &str = cards::MASTERCARD;

fn header<'r>(got: &'r Received, name: &str) -> &'r str {
    got.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

/// The first of these claims that does not hold.
fn first_fault(claims: &[(bool, &str)]) -> Option<String> {
    claims.iter().find(|(holds, _)| !holds).map(|(_, what)| (*what).to_owned())
}

fn is_card(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()) && Pan::parse(text).is_ok())
}

fn is_json(got: &Received) -> bool {
    header(got, "content-type").starts_with("application/json")
}

fn body(got: &Received) -> Value {
    serde_json::from_slice(&got.body).unwrap_or_default()
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn stripe() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/stripe.toml"),
        destination: "stripe",
        path: "/v1/payment_methods",
        content: "application/x-www-form-urlencoded",
        headers: &[("authorization", "Bearer sk_test_app"), ("stripe-version", "2025-09-30.clover")],
        request: |card| {
            format!(
                "type=card&card%5Bnumber%5D={card}&card%5Bexp_month%5D=&card%5Bexp_year%5D=&card%5Bcvc%5D="
            )
        },
        slip: ("type=card", "type=cord"),
        fault: |got| {
            let form: Vec<(String, String)> = url_pairs(&got.body);
            let of = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            first_fault(&[
                (got.line == "POST /v1/payment_methods", "path"),
                (header(got, "content-type") == "application/x-www-form-urlencoded", "content type"),
                (header(got, "authorization") == "Bearer sk_test_app", "key"),
                (header(got, "stripe-version") == "2025-09-30.clover", "version"),
                (of("type") == Some("card"), "type"),
                (is_card(of("card[number]")), "number"),
                (of("card[exp_month]") == Some("12"), "month"),
                (of("card[exp_year]") == Some("2030"), "year"),
                (of("card[cvc]") == Some("123"), "cvc"),
            ])
        },
        answer: |approved| {
            if approved {
                (
                    200,
                    json!({"id": "pm_1", "object": "payment_method", "card": {"last4": "1111"}}).to_string(),
                )
            } else {
                (402, json!({"error": {"type": "card_error", "code": "card_declined"}}).to_string())
            }
        },
    }
}

fn adyen() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/adyen.toml"),
        destination: "adyen",
        path: "/v71/payments",
        content: "application/json",
        headers: &[("x-api-key", "AQE-app")],
        request: |card| {
            json!({
                "merchantAccount": "Shop", "reference": "order-17", "returnUrl": "https://shop.example/back",
                "amount": {"currency": "EUR", "value": 1000},
                "paymentMethod": {"type": "scheme", "number": card, "expiryMonth": "", "expiryYear": "", "cvc": "", "holderName": "Ada"},
            })
            .to_string()
        },
        slip: ("scheme", "schema"),
        fault: |got| {
            let body = body(got);
            first_fault(&[
                (got.line == "POST /v71/payments", "path"),
                (is_json(got), "content type"),
                (header(got, "x-api-key") == "AQE-app", "key"),
                (text(&body, "/paymentMethod/type") == Some("scheme"), "type"),
                (is_card(text(&body, "/paymentMethod/number")), "number"),
                (text(&body, "/paymentMethod/expiryMonth") == Some("12"), "month"),
                (text(&body, "/paymentMethod/expiryYear") == Some("2030"), "year"),
                (text(&body, "/paymentMethod/cvc") == Some("123"), "cvc"),
                (body.pointer("/amount/value").is_some_and(Value::is_u64), "amount"),
                (
                    text(&body, "/merchantAccount").is_some() && text(&body, "/reference").is_some(),
                    "merchant",
                ),
            ])
        },
        answer: |approved| {
            let code = if approved { "Authorised" } else { "Refused" };
            (200, json!({"pspReference": "993617895204576J", "resultCode": code}).to_string())
        },
    }
}

fn checkout() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/checkout.toml"),
        destination: "checkout",
        path: "/payments",
        content: "application/json",
        headers: &[("authorization", "Bearer sk_app"), ("cko-idempotency-key", "order-17")],
        request: |card| {
            json!({
                "amount": 1000, "currency": "EUR", "reference": "order-17",
                "source": {"type": "card", "number": card, "expiry_month": "", "expiry_year": "", "cvv": ""},
            })
            .to_string()
        },
        slip: ("\"type\":\"card\"", "\"type\":\"cord\""),
        fault: |got| {
            let body = body(got);
            first_fault(&[
                (got.line == "POST /payments", "path"),
                (is_json(got), "content type"),
                (header(got, "authorization") == "Bearer sk_app", "key"),
                (header(got, "cko-idempotency-key") == "order-17", "idempotency key"),
                (text(&body, "/source/type") == Some("card"), "type"),
                (is_card(text(&body, "/source/number")), "number"),
                (body.pointer("/source/expiry_month") == Some(&json!(12)), "month is an integer"),
                (body.pointer("/source/expiry_year") == Some(&json!(2030)), "year is an integer"),
                (text(&body, "/source/cvv") == Some("123"), "cvv"),
            ])
        },
        answer: |approved| {
            let status = if approved { "Authorized" } else { "Declined" };
            (201, json!({"id": "pay_1", "approved": approved, "status": status}).to_string())
        },
    }
}

fn authorize_net() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/authorize-net.toml"),
        destination: "authorize-net",
        path: "/xml/v1/request.api",
        content: "application/json",
        headers: &[],
        request: |card| {
            // The order of members is part of this API.
            format!(
                r#"{{"createTransactionRequest":{{"merchantAuthentication":{{"name":"app","transactionKey":"key"}},"transactionRequest":{{"transactionType":"authCaptureTransaction","amount":"10.00","payment":{{"creditCard":{{"cardNumber":"{card}","expirationDate":"","cardCode":""}}}}}}}}}}"#
            )
        },
        slip: ("\"name\":\"app\"", "\"name\":\"\""),
        fault: |got| {
            let (value, raw) = (body(got), String::from_utf8_lossy(&got.body).into_owned());
            let card = "/createTransactionRequest/transactionRequest/payment/creditCard";
            let at = |name: &str| raw.find(name).unwrap_or(usize::MAX);
            first_fault(&[
                (got.line == "POST /xml/v1/request.api", "path"),
                (is_json(got), "content type"),
                (
                    text(&value, "/createTransactionRequest/merchantAuthentication/name") == Some("app"),
                    "name",
                ),
                (
                    at("merchantAuthentication") < at("transactionRequest\"")
                        && at("cardNumber") < at("expirationDate"),
                    "order",
                ),
                (is_card(text(&value, &format!("{card}/cardNumber"))), "number"),
                (text(&value, &format!("{card}/expirationDate")) == Some("2030-12"), "expiry"),
                (text(&value, &format!("{card}/cardCode")) == Some("123"), "code"),
            ])
        },
        answer: |approved| {
            let code = if approved { "1" } else { "2" };
            let text = json!({"transactionResponse": {"responseCode": code, "accountNumber": "XXXX1111"}})
                .to_string();
            (200, format!("\u{feff}{text}"))
        },
    }
}

fn braintree() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/braintree.toml"),
        destination: "braintree",
        path: "/graphql",
        content: "application/json",
        headers: &[("authorization", "Basic cHVibGljOnByaXZhdGU="), ("braintree-version", "2019-01-01")],
        request: |card| {
            json!({
                "query": "mutation T($input: TokenizeCreditCardInput!) { tokenizeCreditCard(input: $input) { paymentMethod { id } } }",
                "variables": {"input": {"creditCard": {"number": card, "expirationMonth": "", "expirationYear": "", "cvv": ""}}},
            })
            .to_string()
        },
        slip: ("tokenizeCreditCard(", "tokenizeCard("),
        fault: |got| {
            let body = body(got);
            let card = "/variables/input/creditCard";
            first_fault(&[
                (got.line == "POST /graphql", "path"),
                (is_json(got), "content type"),
                (header(got, "authorization").starts_with("Basic "), "credentials"),
                (header(got, "braintree-version") == "2019-01-01", "version"),
                (text(&body, "/query").is_some_and(|query| query.contains("tokenizeCreditCard")), "query"),
                (is_card(text(&body, &format!("{card}/number"))), "number"),
                (text(&body, &format!("{card}/expirationMonth")) == Some("12"), "month"),
                (text(&body, &format!("{card}/expirationYear")) == Some("2030"), "year"),
                (text(&body, &format!("{card}/cvv")) == Some("123"), "cvv"),
            ])
        },
        answer: |approved| {
            if approved {
                (
                    200,
                    json!({"data": {"tokenizeCreditCard": {"paymentMethod": {"id": "tokencc_1"}}}})
                        .to_string(),
                )
            } else {
                (402, json!({"errors": [{"message": "declined"}]}).to_string())
            }
        },
    }
}

fn worldpay() -> Api {
    Api {
        recipe: include_str!("../../policies/recipes/worldpay.toml"),
        destination: "worldpay",
        path: "/payments/authorizations",
        content: "application/vnd.worldpay.payments-v6+json",
        headers: &[("authorization", "Basic dXNlcjpwYXNz")],
        request: |card| {
            json!({
                "transactionReference": "order-17", "merchant": {"entity": "default"},
                "instruction": {
                    "narrative": {"line1": "Shop"}, "value": {"currency": "EUR", "amount": 1000},
                    "paymentInstrument": {"type": "card/plain", "cardHolderName": "Ada", "cardNumber": card,
                        "cardExpiryDate": {"month": "", "year": ""}, "cvc": ""},
                },
            })
            .to_string()
        },
        slip: ("card/plain", "card/other"),
        fault: |got| {
            let body = body(got);
            let card = "/instruction/paymentInstrument";
            first_fault(&[
                (got.line == "POST /payments/authorizations", "path"),
                (header(got, "content-type") == "application/vnd.worldpay.payments-v6+json", "content type"),
                (header(got, "authorization").starts_with("Basic "), "credentials"),
                (text(&body, &format!("{card}/type")) == Some("card/plain"), "type"),
                (is_card(text(&body, &format!("{card}/cardNumber"))), "number"),
                (
                    body.pointer(&format!("{card}/cardExpiryDate"))
                        == Some(&json!({"month": 12, "year": 2030})),
                    "expiry",
                ),
                (text(&body, &format!("{card}/cvc")) == Some("123"), "cvc"),
            ])
        },
        answer: |approved| {
            let outcome = if approved { "authorized" } else { "refused" };
            (201, json!({"outcome": outcome}).to_string())
        },
    }
}

fn url_pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// A stack with the recipe, whose processor is the API's stub.
async fn stack(api: &Api) -> Result<Stack> {
    let (fault, answer) = (api.fault, api.answer);
    let respond = move |got: &Received| -> Response<Full<Bytes>> {
        let (status, text) = match fault(got) {
            Some(fault) => (400, json!({"fault": fault}).to_string()),
            None => answer(!String::from_utf8_lossy(&got.body).contains(DECLINED)),
        };
        let mut response = stub::json(status, &Value::Null);
        *response.body_mut() = Full::from(text);
        response
    };
    // Of the recipe only the host is another, and who may use it.
    let routes = api
        .recipe
        .replace("services = [\"billing\"]", "services = [\"signup\"]")
        .replace(&format!("destination = \"{}\"", api.destination), "destination = \"processor\"");
    Stack::start(Options { processor: Arc::new(respond), routes, ..Options::default() }).await
}

async fn send(stack: &Stack, api: &Api, body: String) -> Result<Answer> {
    let mut request =
        Request::post(api.path).header("host", "gateway.cordon.test").header("content-type", api.content);
    for (name, value) in api.headers {
        request = request.header(*name, *value);
    }
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("signup")))?;
    https::send(stack.gateway_address("egress")?, "gateway.cordon.test", &tls, request.body(body.into())?)
        .await
}

/// Outcomes that the gateway has counted.
async fn outcomes(stack: &Stack, outcome: &str) -> Result<u64> {
    let text = https::send_plain(stack.gateway_address("metrics")?, "/metrics").await?.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| {
        line.starts_with("cordon_gateway_outcomes_total{") && line.contains(&format!("\"{outcome}\""))
    });
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

async fn works(api: Api) -> Result<()> {
    let stack = stack(&api).await?;
    for (number, pan) in [cards::VISA, DECLINED].into_iter().enumerate() {
        let token = stack.token_of(pan).await?;
        let answer = send(&stack, &api, (api.request)(&token)).await?;
        let (status, wanted) = (api.answer)(pan != DECLINED);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(
            (answer.status.as_u16(), said.as_str()),
            (status, wanted.trim_start_matches('\u{feff}')),
            "{}",
            api.destination
        );
        let got = stack.processor.requests();
        assert_eq!(got.len(), number + 1);
        let got = got.last().context("a request")?;
        assert!(search::find(pan, &got.body).is_some(), "the processor has the card");
        assert_eq!(search::find(pan, said.as_bytes()), None);
    }
    let counted = (outcomes(&stack, "approved").await?, outcomes(&stack, "declined").await?);
    assert_eq!(counted, (1, 1), "{}: the answers are understood", api.destination);
    // The control: what is not of the API's shape is refused by the stub.
    let token = stack.token_of(cards::VISA).await?;
    let (right, wrong) = api.slip;
    let right_request = (api.request)(&token);
    assert!(right_request.contains(right), "{right_request}");
    let wrong = right_request.replace(right, wrong);
    let answer = send(&stack, &api, wrong).await?;
    assert_eq!(answer.status, 400, "{}: {}", api.destination, String::from_utf8_lossy(&answer.body));
    Ok(())
}

#[tokio::test]
async fn stripe_gets_its_payment_method() -> Result<()> {
    works(stripe()).await
}

#[tokio::test]
async fn adyen_gets_its_payment() -> Result<()> {
    works(adyen()).await
}

#[tokio::test]
async fn checkout_gets_its_payment() -> Result<()> {
    works(checkout()).await
}

#[tokio::test]
async fn authorize_net_gets_its_transaction() -> Result<()> {
    works(authorize_net()).await
}

#[tokio::test]
async fn braintree_gets_its_card() -> Result<()> {
    works(braintree()).await
}

#[tokio::test]
async fn worldpay_gets_its_authorization() -> Result<()> {
    works(worldpay()).await
}
