//! Content codings as clients write them, by encoders and not by the gateway's decoders.
//! Must never be used outside of tests. Tests: `tests/tests/content.rs` and `tests/tests/hiding.rs` run it.

use std::io::Write;

/// Writes a body under a coding.
pub(crate) type Code = fn(&[u8]) -> Vec<u8>;

/// Values of `Content-Encoding`, the empty one for none, with what writes them.
pub(crate) const CODINGS: [(&str, Code); 7] = [
    ("", <[u8]>::to_vec),
    ("gzip", gzip),
    ("deflate", zlib),
    ("br", brotli),
    ("zstd", zstd),
    ("gzip, br", |body| brotli(&gzip(body))),
    ("zstd, deflate", |body| zlib(&zstd(body))),
];

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(body).and_then(|()| coder.finish()).unwrap_or_default()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(body).and_then(|()| coder.finish()).unwrap_or_default()
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let quality = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
    let _length = brotli::BrotliCompress(&mut &*body, &mut coded, &quality);
    coded
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}
