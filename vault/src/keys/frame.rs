//! Unambiguous encoding of a label and fields, for everything that is authenticated or derived from.
//!
//! Must never join two fields without their lengths: ("ab", "c") and ("a", "bc") have to differ.
//! Tests: at the end of this file.

/// The label and the fields, each preceded by its length in bytes as a 64-bit big-endian number.
pub(crate) fn framed(label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let size = fields.iter().fold(LENGTH_BYTES + label.len(), |sum, field| sum + LENGTH_BYTES + field.len());
    let mut out = Vec::with_capacity(size);
    feed(label, fields, |part| out.extend_from_slice(part));
    out
}

/// The same encoding, given to `sink` piece by piece.
pub(crate) fn feed(label: &str, fields: &[&[u8]], mut sink: impl FnMut(&[u8])) {
    for field in std::iter::once(label.as_bytes()).chain(fields.iter().copied()) {
        sink(&(field.len() as u64).to_be_bytes());
        sink(field);
    }
}

const LENGTH_BYTES: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::framed;

    #[test]
    fn moving_a_byte_between_fields_changes_the_encoding() {
        assert_ne!(framed("l", &[b"ab", b"c"]), framed("l", &[b"a", b"bc"]));
        assert_ne!(framed("l", &[b"ab"]), framed("la", &[b"b"]));
        assert_ne!(framed("l", &[b"a"]), framed("l", &[b"a", b""]));
    }

    proptest! {
        #[test]
        fn two_different_lists_never_share_an_encoding(
            a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..5),
            b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..5),
        ) {
            let encode = |list: &[Vec<u8>]| framed("l", &list.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
