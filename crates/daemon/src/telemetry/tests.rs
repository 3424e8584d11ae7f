//! Tests of scrubbing: a card number in any field, of any type, in both formats, does not reach the output.

use std::sync::{Arc, Mutex};

use super::*;

/// Published test numbers, and how they look with separators.
const CANARIES: [&str; 4] =
    ["4111111111111111", "5555555555554444", "3782 822463 10005", "4111-1111-1111-1111"];

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let to = kept.clone();
    let subscriber = subscriber(format, filter, move || to.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, log);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[test]
fn a_card_number_in_a_message_a_field_or_an_error_is_removed() {
    for format in [Format::Json, Format::Text] {
        for canary in CANARIES {
            let text = logged(format, "info", || {
                tracing::info!("got {canary} from the client");
                tracing::info!(field = canary, "in a field");
                tracing::info!(field = ?Some(canary), "in a debug form");
                tracing::error!(error = %io::Error::other(format!("bad card {canary}")), "in an error");
            });
            assert_eq!(text.lines().count(), 4);
            assert_eq!(text.matches("[card number removed]").count(), 4, "{text}");
            assert!(!text.contains(canary) && !digits(&text).contains(&digits(canary)), "{text}");
        }
    }
}

#[test]
fn a_card_number_as_a_number_is_removed() {
    for format in [Format::Json, Format::Text] {
        let text = logged(format, "info", || tracing::info!(pan = 4_111_111_111_111_111_u64, "a number"));
        assert!(!text.contains("4111"), "{text}");
    }
}

#[test]
fn a_card_number_in_a_span_is_removed() {
    for format in [Format::Json, Format::Text] {
        let text = logged(format, "info", || {
            let _span = tracing::info_span!("request", path = "/cards/4111111111111111").entered();
            tracing::info!("in a span");
        });
        assert!(!text.contains("4111"), "{text}");
    }
}

#[test]
fn a_line_without_a_card_number_is_left_alone() {
    let text = logged(Format::Json, "info", || tracing::info!(request = "req_ABC", items = 12, "served"));
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((line["message"].as_str(), line["items"].as_u64()), (Some("served"), Some(12)));
    assert_eq!(line["level"].as_str(), Some("INFO"));
    assert!(line["timestamp"].is_string());
}

#[test]
fn a_masked_json_line_is_still_json_when_the_number_stood_in_a_string() {
    let text = logged(Format::Json, "info", || tracing::info!(field = CANARIES[0], "two: {}", CANARIES[1]));
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["field"].as_str(), Some("[card number removed]"));
}

#[test]
fn the_filter_holds_and_a_broken_one_is_refused() {
    assert_eq!(logged(Format::Text, "warn", || tracing::info!("quiet")), "");
    assert!(matches!(subscriber(Format::Json, "info,=[", io::sink), Err(TelemetryError::Filter)));
}

#[test]
fn request_ids_are_distinct_and_of_one_shape() {
    let ids: std::collections::HashSet<String> = (0..1000).map(|_| RequestId::next().to_string()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| id.len() == 30 && id.starts_with("req_")));
    assert!(ids.iter().all(|id| cordon_scan::first(id.as_bytes()).is_none()));
}
