//! Fuzz target: any bytes as a long body, cut into pieces however they arrive: read piece by piece they are what they are as
//! a whole.
//!
//! Checks: the pieces that are sent, one after the other, are the body; and where each piece is read, the fields of all of
//! them are those of the body, if that is read. The first bytes choose type and chunks. Must never do I/O.

#![no_main]

use cordon_gateway::body::multipart::Boundary;
use cordon_gateway::body::{self, Declared, Format};
use cordon_gateway::stream::cutter::{Bounds, Cutter};
use cordon_gateway::stream::piece::Piece;
use cordon_policy::{FixedColumns, JsonSelector, Places};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds { piece: 64, longest: 4096, records: 4 };

fn fields(format: &Format, body: &[u8], declared: &Declared) -> Option<Vec<String>> {
    let leaves = body::locate(format, body, declared, &mut |_| ()).ok()?;
    Some(leaves.into_iter().map(|leaf| leaf.text.expose().to_owned()).collect())
}

fn cut(format: &Format, body: &[u8], chunk: usize) -> Option<Vec<Piece>> {
    let mut cutter = Cutter::new(format, BOUNDS)?;
    let mut pieces = Vec::new();
    for bytes in body.chunks(chunk) {
        cutter.push(bytes);
        while let Some(piece) = cutter.next_piece().ok()? {
            pieces.push(piece);
        }
    }
    pieces.extend(cutter.finish());
    Some(pieces)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, chunk], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let format = match kind % 4 {
        0 => Format::Ndjson,
        1 => Format::Csv,
        2 => Format::Fixed,
        _ => Format::Multipart(Boundary::parse("x").expect("a boundary")),
    };
    let name = Some("a".to_owned());
    let declared = Declared::new(&[Places {
        json: Some(JsonSelector::parse("$..a").expect("a path")),
        csv: name.clone(),
        form: name,
        fixed: Some(FixedColumns::parse("1-3").expect("columns")),
        ..Places::default()
    }]);
    let Some(pieces) = cut(&format, bytes, usize::from(chunk).max(1)) else { return };
    let (mut sent, mut found, mut read) = (Vec::new(), Vec::new(), true);
    for piece in &pieces {
        let body = piece.body();
        sent.extend_from_slice(body.get(piece.sent(&body).expect("an unchanged piece")).expect("a range"));
        match fields(piece.format(), &body, &declared) {
            Some(fields) => found.extend(fields),
            None => read = false,
        }
    }
    assert!(sent == bytes, "the pieces are not the body");
    if read && let Some(whole) = fields(&format, bytes, &declared) {
        assert_eq!(found, whole, "the fields of the pieces are not those of the body");
    }
});
