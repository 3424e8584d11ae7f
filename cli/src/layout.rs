//! Text for humans: labelled rows and tables within 100 columns, and figures with units.
//!
//! Must never do I/O. Tests: below.

/// Columns every human text fits in.
pub(crate) const WIDTH: usize = 100;

/// Labelled rows: labels padded to one column, values wrapped under themselves.
pub(crate) fn rows(rows: &[(&str, String)]) -> String {
    let indent = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0).saturating_add(2);
    let mut out = String::new();
    for (label, value) in rows {
        for (index, line) in wrapped(value, WIDTH.saturating_sub(indent)).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            out.push_str(format!("{label:indent$}{line}").trim_end());
            out.push('\n');
        }
    }
    out
}

/// A table: a header and rows of as many cells, columns two spaces apart.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Breaks text into lines of at most `width` characters: at spaces, else after a `,` or `&` that is not within a
/// number, else anywhere. Keeps given line ends.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for given in text.split('\n') {
        let mut line = String::new();
        for piece in pieces(given) {
            let room = width.saturating_sub(line.chars().count());
            if !line.is_empty() && piece.trim_end().chars().count() > room {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            for letter in piece.chars() {
                if line.chars().count() >= width && letter != ' ' {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(letter);
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Cuts a line after each place where it may be broken.
fn pieces(line: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if let Some(piece) = pieces.last_mut() {
            piece.push(letter);
        }
        let next = letters.peek();
        let breaks = match letter {
            ' ' => next != Some(&' '),
            ',' => next.is_some_and(|next| !next.is_ascii_digit() && *next != ' '),
            '&' => true,
            _ => false,
        };
        if breaks {
            pieces.push(String::new());
        }
    }
    pieces
}

/// Digits in groups of three: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with a binary unit and one decimal: `12.3 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(number).saturating_mul(10);
    let mut shown = "B";
    for unit in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        shown = unit;
    }
    if shown == "B" { format!("{number} B") } else { format!("{}.{} {shown}", tenths / 10, tenths % 10) }
}

/// Seconds in their two largest units: `3h 12m`.
pub(crate) fn duration(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut shown = Vec::new();
    for (size, unit) in parts {
        let whole = rest / size;
        rest %= size;
        if whole > 0 || (size == 1 && shown.is_empty()) {
            shown.push(format!("{whole}{unit}"));
        }
    }
    shown.truncate(2);
    shown.join(" ")
}

/// Reads a time to live: a number and `s`, `m`, `h` or `d`; more than zero.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "give a whole number and a unit, for example 15m, 12h or 30d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let size = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400_u64,
        _ => return Err(wrong()),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_error| wrong())?;
    match number.checked_mul(size) {
        Some(0) | None => Err(wrong()),
        Some(seconds) => Ok(seconds),
    }
}

/// A time (RFC 3339, UTC) to the second.
pub(crate) fn moment(text: &str) -> String {
    match text.split_once('.') {
        Some((second, fraction)) if fraction.ends_with('Z') => format!("{second}Z"),
        _ => text.to_owned(),
    }
}

/// `1 card`, `2 cards`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_within_the_width_and_hang_under_their_value() {
        let out = rows(&[("Vault", "unsealed".into()), ("Hardening", "word ".repeat(40))]);
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert!(out.starts_with("Vault      unsealed\n"), "{out}");
        assert!(out.lines().nth(2).unwrap().starts_with("           word"), "{out}");
    }

    #[test]
    fn a_word_longer_than_the_width_is_broken() {
        assert_eq!(wrapped("abcdef gh", 4), ["abcd", "ef", "gh"]);
        assert_eq!(wrapped("a b\nc", 80), ["a b", "c"]);
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(wrapped("abcd efgh", 4), ["abcd", "efgh"]);
    }

    #[test]
    fn json_and_forms_are_broken_between_their_members() {
        assert_eq!(wrapped("{\"a\":\"bcd\",\"e\":1}", 12), ["{\"a\":\"bcd\",", "\"e\":1}"]);
        assert_eq!(wrapped("a=b&c=d", 5), ["a=b&", "c=d"]);
        assert_eq!(wrapped("x 1,234,567", 9), ["x", "1,234,567"]);
    }

    #[test]
    fn tables_align_their_columns() {
        let out = table(&["NAME", "ID"], &[vec!["cards".into(), "1".into()], vec!["b".into(), "22".into()]]);
        assert_eq!(out, "NAME   ID\ncards  1\nb      22\n");
    }

    #[test]
    fn figures_carry_units() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 * 1024 * 1024 * 1024), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB".replace("16777216.0", "16777215.9"));
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(11_520), "3h 12m");
        assert_eq!(duration(90_061), "1d 1h");
        assert_eq!(counted(1, "line"), "1 line");
        assert_eq!(counted(2, "line"), "2 lines");
        assert_eq!(moment("2026-05-06T07:08:09.000010Z"), "2026-05-06T07:08:09Z");
        assert_eq!(moment("2026-05-06T07:08:09Z"), "2026-05-06T07:08:09Z");
    }

    #[test]
    fn a_time_to_live_needs_a_unit_and_more_than_nothing() {
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("90s"), Ok(90));
        for wrong in ["", "30", "d", "0d", "-1d", "+1d", "1.5h", "1w", "99999999999999999999d", "1\u{e4}"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
