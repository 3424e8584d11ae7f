//! Tests of content codings: what each coder of another make writes is read, anything else is refused early.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;
use std::io::Write;

const TEXT: &[u8] = br#"{"card":{"number":"4111111111111111"}}"#;

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn raw_deflated(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn brotlied(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    brotli::BrotliCompress(&mut &*bytes, &mut coded, &brotli::enc::BrotliEncoderParams::default()).unwrap();
    coded
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

type Coder = fn(&[u8]) -> Vec<u8>;

const CODERS: [(&str, Coder); 5] =
    [("gzip", gzipped), ("X-GZip", gzipped), ("deflate", deflated), ("br", brotlied), ("zstd", zstandard)];

fn codings(lines: &[&str]) -> Result<Codings, CodingError> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(line).unwrap());
    }
    Codings::of(&headers)
}

fn undone(name: &str, coded: Vec<u8>, limit: usize) -> Result<Vec<u8>, CodingError> {
    codings(&[name])?.undo(WipedBytes::from(coded), limit).map(|bytes| bytes.to_vec())
}

#[test]
fn what_each_coder_writes_is_read() {
    for (name, code) in CODERS {
        assert_eq!(undone(name, code(TEXT), 1_000).unwrap(), TEXT, "{name}");
        assert_eq!(undone(name, code(b""), 0).unwrap(), b"", "{name}");
    }
    assert_eq!(undone("identity", TEXT.to_vec(), 0).unwrap(), TEXT);
}

#[test]
fn two_layers_are_undone_in_order_and_three_are_refused() {
    for (outer, code_outer) in CODERS {
        for (inner, code_inner) in CODERS {
            let coded = code_outer(&code_inner(TEXT));
            let list = format!("{inner}, identity,{outer}");
            assert_eq!(undone(&list, coded.clone(), 1_000).unwrap(), TEXT, "{list}");
            let lines = codings(&[inner, outer]).unwrap();
            assert_eq!(lines.undo(WipedBytes::from(coded), 1_000).unwrap().as_slice(), TEXT);
        }
    }
    assert_eq!(codings(&["gzip, gzip, gzip"]), Err(CodingError::Unknown));
}

#[test]
fn unknown_and_odd_names_are_refused() {
    for name in ["compress", "", "gzip,", "gzip;q=1", "identity;q=0", "dcb", "gzip br", "*", "aes128gcm"] {
        assert_eq!(codings(&[name]), Err(CodingError::Unknown), "{name}");
    }
    assert!(codings(&[]).unwrap().is_identity() && codings(&["Identity"]).unwrap().is_identity());
}

#[test]
fn a_body_under_the_name_of_another_coding_is_refused() {
    for (name, code) in CODERS {
        for (other, _) in CODERS {
            let told_right =
                name.to_lowercase().trim_start_matches("x-") == other.to_lowercase().trim_start_matches("x-");
            assert_eq!(undone(other, code(TEXT), 1_000).is_ok(), told_right, "{name} as {other}");
        }
        assert!(undone(name, TEXT.to_vec(), 1_000).is_err(), "{name}");
        assert!(undone(name, Vec::new(), 1_000).is_err(), "{name}: an empty body is no coded body");
    }
    assert_eq!(undone("deflate", raw_deflated(TEXT), 1_000), Err(CodingError::Malformed));
}

#[test]
fn a_cut_body_and_one_with_more_behind_its_end_are_refused() {
    for (name, code) in CODERS {
        let coded = code(TEXT);
        for end in 0..coded.len() {
            assert!(undone(name, coded.get(..end).unwrap().to_vec(), 1_000).is_err(), "{name} cut at {end}");
        }
        for more in [&b"x"[..], b"\0", TEXT, &coded] {
            let longer = [&coded, more].concat();
            assert_eq!(undone(name, longer, 1_000), Err(CodingError::Malformed), "{name}");
        }
    }
}

#[test]
fn a_changed_checksum_is_refused() {
    for (name, code) in [("gzip", gzipped as Coder), ("deflate", deflated)] {
        let mut coded = code(TEXT);
        let sum = coded.len() - 5;
        coded[sum] ^= 1;
        let changed = undone(name, coded, 1_000);
        assert_eq!(changed, Err(CodingError::Malformed), "{name}");
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit_or_at_the_ratio() {
    let zeros = vec![b'0'; 32 * 1024 * 1024];
    for (name, code) in CODERS {
        let bomb = code(&zeros);
        assert!(bomb.len() < zeros.len() / 50, "{name} compresses");
        assert_eq!(undone(name, bomb.clone(), 1024 * 1024), Err(CodingError::TooLarge), "{name}");
        let small = bomb.len() < zeros.len() / MOST_RATIO;
        if small {
            assert_eq!(undone(name, bomb.clone(), usize::MAX), Err(CodingError::TooLarge), "{name}: ratio");
        }
        let twice = code(&bomb);
        let both = codings(&[name, name]).unwrap();
        assert_eq!(
            both.undo(WipedBytes::from(twice), 1024 * 1024).err(),
            Some(CodingError::TooLarge),
            "{name} twice"
        );
    }
}

#[test]
fn a_small_body_may_have_any_ratio() {
    let zeros = vec![b'0'; RATIO_FREE];
    for (name, code) in CODERS {
        assert_eq!(undone(name, code(&zeros), usize::MAX).unwrap().len(), RATIO_FREE, "{name}");
        assert_eq!(undone(name, code(&zeros), RATIO_FREE - 1), Err(CodingError::TooLarge), "{name}");
    }
}

#[test]
fn a_zstd_frame_that_wants_a_large_window_is_refused_unread() {
    // Window descriptors of 8 MiB and of the next size; then an empty last block.
    let frame = |window: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, window, 1, 0, 0].to_vec();
    assert_eq!(undone("zstd", frame(13 << 3), 1_000).unwrap(), b"");
    assert_eq!(undone("zstd", frame(13 << 3 | 1), 1_000), Err(CodingError::Malformed));
    assert_eq!(undone("zstd", frame(31 << 3), 1_000), Err(CodingError::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_within_bounds_or_refused(
        which in 0..CODERS.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        limit in 0_usize..500,
    ) {
        if let Ok(decoded) = undone(CODERS[which].0, bytes, limit) {
            prop_assert!(decoded.len() <= limit);
        }
    }

    #[test]
    fn a_coded_text_comes_back_and_one_with_a_changed_byte_never_as_another_of_gzip(
        text in ".{0,200}",
        at in any::<prop::sample::Index>(),
    ) {
        for (name, code) in CODERS {
            prop_assert_eq!(undone(name, code(text.as_bytes()), 10_000).unwrap(), text.as_bytes());
        }
        let mut coded = gzipped(text.as_bytes());
        let at = at.index(coded.len());
        coded[at] ^= 0x55;
        if let Ok(decoded) = undone("gzip", coded, 10_000) {
            prop_assert_eq!(decoded, text.as_bytes());
        }
    }
}
