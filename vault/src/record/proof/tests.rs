//! What a proof covers: the tokens its audit line names, in the collection that line is about, and nothing else.

use super::{InspectProof, OpenProof};
use crate::record::tests::{binding, keys, sealed, token, usual};
use crate::record::{Binding, Refused, inspect, open};
use crate::store::CollectionId;
use cordon_audit::{Event, Inspection, Kind, Log, Outcome, Receipt, Reveal};
use cordon_card::{CollectionName, Truncation};

fn receipt<K: Kind>(event: Event<K>) -> Receipt<K> {
    let scratch = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    let receipt = log.append_blocking(event).unwrap();
    log.close().unwrap();
    receipt
}

fn cards() -> CollectionName {
    CollectionName::parse("cards").unwrap()
}

#[test]
fn a_reveal_opens_the_records_its_line_names_and_no_other() {
    let keys = keys();
    let (first, second, unnamed) = (token(1), token(2), token(3));
    let named = [second.clone(), first.clone()];
    let receipt: Receipt<Reveal> = receipt(Event::reveal(Outcome::Allowed, &cards()).tokens(named));
    let proof = OpenProof { receipt: &receipt, collection: CollectionId(1) };
    for (token, opens) in [(&first, true), (&second, true), (&unnamed, false)] {
        let row = binding(token);
        let opened = open(&keys, &row, &sealed(&keys, &row, &usual()), &proof);
        assert_eq!(opened.is_ok(), opens);
    }
    // The same token in another collection is another card.
    let row = Binding { collection: CollectionId(2), ..binding(&first) };
    assert_eq!(open(&keys, &row, &sealed(&keys, &row, &usual()), &proof).unwrap_err(), Refused);
}

#[test]
fn an_inspection_shows_the_records_its_line_names_and_no_other() {
    let keys = keys();
    let (named, unnamed) = (token(1), token(2));
    let event = Event::inspection(Outcome::Allowed, &cards()).tokens([named.clone()]);
    let receipt: Receipt<Inspection> = receipt(event);
    let proof = InspectProof { receipt: &receipt, collection: CollectionId(1) };
    for (token, opens) in [(&named, true), (&unnamed, false)] {
        let row = binding(token);
        let record = sealed(&keys, &row, &usual());
        assert_eq!(inspect(&keys, &row, &record, Truncation::LastFour, &proof).is_ok(), opens);
    }
}

#[test]
fn a_receipt_is_of_the_collection_of_its_line() {
    let receipt: Receipt<Reveal> = receipt(Event::reveal(Outcome::Allowed, &cards()));
    assert!(receipt.is_of(&cards()));
    assert!(!receipt.is_of(&CollectionName::parse("other").unwrap()));
    assert!(!receipt.names(&token(1)), "a line that names no token opens no record");
}
