//! Fuzz target: any bytes under any coding are decoded within their bounds or refused. Looking inside them ends.
//!
//! The first byte chooses the coding. Must never do I/O.

#![no_main]

use cordon_daemon::body::WipedBytes;
use cordon_gateway::coding::Codings;
use cordon_gateway::leak::inside;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, zstd", "br, deflate"];
const LIMIT: usize = 100_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, coded)) = bytes.split_first() else { return };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, HeaderValue::from_static(name))]);
    let codings = Codings::of(&headers).expect("known names");
    if let Ok(decoded) = codings.undo(WipedBytes::from(coded.to_vec()), LIMIT) {
        assert!(decoded.len() <= LIMIT);
    }
    let _found = inside::holds(coded, &[]);
});
