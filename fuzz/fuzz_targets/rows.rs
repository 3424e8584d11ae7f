//! Stored rows, index entries, documents, marks and keys from any bytes: no panic, and one encoding for each
//! value.
#![no_main]

use cordon_vault::store::rows;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(row) = rows::decode_row(data) {
        assert_eq!(rows::encode_row(&row).expect("a row that was read can be written"), data);
    }
    if let (Ok(_), Ok(clear)) = (rows::decode_row(data), rows::clear_of(data)) {
        assert!(data.starts_with(clear), "a tally covers what the row says");
        let bare = rows::without_record(data).expect("a row that was read has a part in clear");
        assert_eq!(rows::clear_of(&bare).expect("it has one without its record, too"), clear);
    }
    if let Ok(claim) = rows::decode_claim(data) {
        assert_eq!(rows::encode_claim(&claim).expect("a claim that was read can be written"), data);
    }
    if let Ok(document) = rows::decode_document(data) {
        let written = rows::encode_document(document.version, &document.bytes);
        assert_eq!(written.expect("a document that was read can be written"), data);
    }
    if let Ok((collection, token)) = rows::row_token(data) {
        assert_eq!(rows::row_key(collection, &token), data);
    }
    if rows::check_header(data).is_ok() {
        assert!([false, true].into_iter().any(|has_tally| rows::encode_header(has_tally) == data));
    }
    // A mark is read under a key; the first three bytes stand for it.
    if let Some((key, mark)) = data.split_first_chunk::<3>() {
        if let Ok(sequence) = rows::decode_commit(key, mark) {
            assert_eq!(rows::encode_commit(sequence), mark);
            assert_eq!(rows::commit_key(sequence), key);
        }
    }
});
