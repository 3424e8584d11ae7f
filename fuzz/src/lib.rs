//! What every rewriter of bodies has to keep, whatever bytes it is given.
//!
//! Found fields lie in order, a rewrite changes nothing outside them and reads the same again, every value can be found,
//! and masking leaves no card number. Must never do I/O. Run by the targets `*_body`.

use cordon_gateway::body::edit::{Edit, EditError, apply};
use cordon_gateway::body::{Declared, Format, locate, values};
use cordon_gateway::leak::exception::Exceptions;
use cordon_gateway::leak::{self, Sight};
use cordon_policy::{Day, LookInside, Places};

/// Checks one body of a format with fields at these places; `token` is what a rewrite puts there. Gives whether the
/// body was accepted.
pub fn check(format: &Format, places: &[Places], bytes: &[u8], token: &str) -> bool {
    let declared = Declared::new(places);
    let Ok(leaves) = locate(format, bytes, &declared, &mut |_| ()) else { return false };
    let fields: Vec<_> = leaves.iter().map(|leaf| leaf.field).collect();
    let edit = |leaf: &cordon_gateway::body::Leaf<'_>| Edit {
        span: leaf.span.clone(),
        text: Some(token.to_owned().into()),
        writing: leaf.writing,
    };
    let edits: Vec<_> = leaves.iter().map(edit).collect();
    match apply(bytes, &edits) {
        Ok(edited) => {
            let (mut before, mut after) = (0, 0);
            for (edit, span) in edits.iter().zip(&edited.spans) {
                assert_eq!(&bytes[before..edit.span.start], &edited.bytes[after..span.start]);
                (before, after) = (edit.span.end, span.end);
            }
            assert_eq!(&bytes[before..], &edited.bytes[after..]);
            let again = locate(format, &edited.bytes, &declared, &mut |_| ()).expect("the rewrite reads");
            assert_eq!(again.iter().map(|leaf| leaf.field).collect::<Vec<_>>(), fields);
            assert!(again.iter().all(|leaf| leaf.text.expose().trim_end() == token.trim_end()));
        }
        Err(EditError::TooLong(number)) => assert!(number < edits.len()),
        Err(EditError::Misfit) => panic!("found fields lie in order"),
    }
    for leaf in values(format, bytes).expect("what was located has values") {
        assert!(bytes.get(leaf.span).is_some());
    }
    let exceptions = &Exceptions::default();
    let sight = Sight { inside: LookInside::Deny, exceptions, today: Day::at(0), cleared: &[] };
    if let Ok(clean) = leak::mask(format, bytes, sight) {
        leak::reread(format, clean.into_inner(), sight).expect("what was masked has no number left");
    }
    true
}
