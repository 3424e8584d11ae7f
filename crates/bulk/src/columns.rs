//! Which column holds what: as told, or found by its name.
//!
//! Must never guess between two columns, nor pass on a column that looks like a security code or a track
//! (PCI DSS 3.3.1). Tests: `tests.rs`.

use crate::RowsError;
use cordon_card::Pan;
use serde::Serialize;

/// What the caller says of the columns: names, or numbers from 1. What is not said is found by name.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// The card number.
    pub pan: Option<String>,
    /// The expiry in one column.
    pub expiry: Option<String>,
    /// The expiry's month, if in two columns.
    pub expiry_month: Option<String>,
    /// The expiry's year.
    pub expiry_year: Option<String>,
    /// Columns kept encrypted with the card, and the names they are kept under.
    pub metadata: Vec<(String, String)>,
    /// Columns that are neither sent nor written to the result.
    pub omit: Vec<String>,
}

/// What was chosen, to be shown before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// The card number.
    pub pan: String,
    /// The expiry: no, one or two columns.
    pub expiry: Vec<String>,
    /// Kept with the card.
    pub metadata: Vec<String>,
    /// Left out.
    pub omit: Vec<String>,
    /// How many columns the first row has.
    pub columns: usize,
}

/// The chosen columns by their place.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) pan: usize,
    pub(crate) expiry: Expires,
    pub(crate) metadata: Vec<(usize, String)>,
    pub(crate) omit: Vec<usize>,
    /// Names of the places, for JSON lines; for CSV a place is a column.
    pub(crate) names: Vec<String>,
    chosen: Chosen,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expires {
    Never,
    One(usize),
    Two { month: usize, year: usize },
}

impl Mapping {
    pub(crate) const fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Chooses among the names of the first line.
    pub(crate) fn by_name(names: Vec<String>, told: &Columns) -> Result<Self, RowsError> {
        if names.iter().any(|name| Pan::parse(name).is_ok()) {
            return Err(RowsError::Columns(
                "the first line holds a card number where names are expected; if it has no names, say --no-header"
                    .to_owned(),
            ));
        }
        let found = |list: &[&str]| unique(&names, list);
        let place = |name: &str| {
            let mut same = names.iter().enumerate().filter(|(_, column)| column.as_str() == name);
            match (same.next(), same.next()) {
                (Some((place, _)), None) => Ok(place),
                (Some(_), Some(_)) => Err(wrong(name, "stands there twice")),
                (None, _) => {
                    numbered(name, names.len()).ok_or_else(|| wrong(name, "is not in the first line"))
                }
            }
        };
        let pan = match &told.pan {
            Some(name) => place(name)?,
            None => found(PAN)?.ok_or_else(|| {
                RowsError::Columns(
                    "no column is named like a card number; name it with --pan-column".to_owned(),
                )
            })?,
        };
        let expiry = match (&told.expiry, &told.expiry_month, &told.expiry_year) {
            (Some(name), None, None) => Expires::One(place(name)?),
            (None, Some(month), Some(year)) => Expires::Two { month: place(month)?, year: place(year)? },
            (None, None, None) => match (found(EXPIRY)?, found(MONTH)?, found(YEAR)?) {
                (None, Some(month), Some(year)) => Expires::Two { month, year },
                (Some(expiry), None, None) => Expires::One(expiry),
                (None, None, None) => Expires::Never,
                _ => {
                    return Err(RowsError::Columns(
                        "several columns could hold the expiry; say which with --expiry-column".to_owned(),
                    ));
                }
            },
            _ => return Err(half_an_expiry()),
        };
        let omit = told.omit.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
        for (index, name) in names.iter().enumerate() {
            if FORBIDDEN.contains(&plain(name).as_str()) && !omit.contains(&index) {
                return Err(wrong(
                    name,
                    "is named like a security code, PIN or track, which may not be kept (PCI DSS 3.3.1); \
                     leave it out with --omit-column",
                ));
            }
        }
        let metadata = told.metadata.iter().map(|(column, name)| Ok((place(column)?, name.clone())));
        let metadata = metadata.collect::<Result<Vec<_>, RowsError>>()?;
        Self::checked(pan, expiry, metadata, omit, names)
    }

    /// Takes numbers only: the first line is a row.
    pub(crate) fn by_number(columns: usize, told: &Columns) -> Result<Self, RowsError> {
        let place = |text: &str| {
            numbered(text, columns).ok_or_else(|| {
                RowsError::Columns(format!("without a header a column is a number from 1 to {columns}"))
            })
        };
        let pan = told.pan.as_deref().ok_or_else(|| {
            RowsError::Columns(
                "without a header say which column holds the card number: --pan-column 1".to_owned(),
            )
        })?;
        let expiry = match (&told.expiry, &told.expiry_month, &told.expiry_year) {
            (None, None, None) => Expires::Never,
            (Some(one), None, None) => Expires::One(place(one)?),
            (None, Some(month), Some(year)) => Expires::Two { month: place(month)?, year: place(year)? },
            _ => return Err(half_an_expiry()),
        };
        let omit = told.omit.iter().map(|text| place(text)).collect::<Result<Vec<_>, _>>()?;
        let metadata = told.metadata.iter().map(|(column, name)| Ok((place(column)?, name.clone())));
        let metadata = metadata.collect::<Result<Vec<_>, RowsError>>()?;
        let names = (1..=columns).map(|number| number.to_string()).collect();
        Self::checked(place(pan)?, expiry, metadata, omit, names)
    }

    fn checked(
        pan: usize,
        expiry: Expires,
        metadata: Vec<(usize, String)>,
        omit: Vec<usize>,
        names: Vec<String>,
    ) -> Result<Self, RowsError> {
        let dates = match expiry {
            Expires::Never => vec![],
            Expires::One(one) => vec![one],
            Expires::Two { month, year } => vec![month, year],
        };
        if dates.contains(&pan) || metadata.iter().any(|(place, _)| *place == pan) || omit.contains(&pan) {
            return Err(RowsError::Columns("the column of the card number is given a second use".to_owned()));
        }
        if metadata.iter().any(|(place, _)| omit.contains(place)) {
            return Err(RowsError::Columns("a column is both metadata and left out".to_owned()));
        }
        let name = |place: &usize| names.get(*place).cloned().unwrap_or_default();
        let chosen = Chosen {
            pan: name(&pan),
            expiry: dates.iter().map(name).collect(),
            metadata: metadata.iter().map(|(place, _)| name(place)).collect(),
            omit: omit.iter().map(name).collect(),
            columns: names.len(),
        };
        Ok(Self { pan, expiry, metadata, omit, names, chosen })
    }
}

fn half_an_expiry() -> RowsError {
    RowsError::Columns("give the expiry as one column, or as month and year".to_owned())
}

/// A fault about a column. Names are the file's, so only those of usual letters are repeated.
fn wrong(name: &str, what: &str) -> RowsError {
    let harmless = name.len() <= 40
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ' ' | '.'))
        && name.chars().filter(char::is_ascii_digit).count() < 6;
    RowsError::Columns(if harmless {
        format!("column \"{name}\" {what}")
    } else {
        format!("a column {what}")
    })
}

fn numbered(text: &str, columns: usize) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| *number <= columns)?.checked_sub(1)
}

/// The one column whose name is in the list.
fn unique(names: &[String], list: &[&str]) -> Result<Option<usize>, RowsError> {
    let mut found = names.iter().enumerate().filter(|(_, name)| list.contains(&plain(name).as_str()));
    match (found.next(), found.next()) {
        (Some(_), Some((_, second))) => {
            Err(wrong(second, "is one of several that fit; say which one is meant"))
        }
        (first, _) => Ok(first.map(|(index, _)| index)),
    }
}

/// A name without case and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

const PAN: &[&str] = &[
    "pan",
    "cardnumber",
    "cardno",
    "cardnum",
    "ccnumber",
    "ccnum",
    "creditcardnumber",
    "primaryaccountnumber",
    "cardpan",
    "number",
];
const EXPIRY: &[&str] = &[
    "expiry",
    "exp",
    "expires",
    "expirydate",
    "expirationdate",
    "expdate",
    "cardexpiry",
    "validthru",
    "expiration",
];
const MONTH: &[&str] = &["expmonth", "expirymonth", "expirationmonth", "cardexpmonth", "month"];
const YEAR: &[&str] = &["expyear", "expiryyear", "expirationyear", "cardexpyear", "year"];
const FORBIDDEN: &[&str] = &[
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cid",
    "csc",
    "cvn",
    "cav2",
    "securitycode",
    "cardcode",
    "cardverificationvalue",
    "cardverificationcode",
    "verificationvalue",
    "track",
    "track1",
    "track2",
    "trackdata",
    "magstripe",
    "pin",
    "pinblock",
];
