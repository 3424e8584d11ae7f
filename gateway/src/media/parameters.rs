//! A header's value with parameters: `multipart/form-data; boundary=x`, `form-data; name="a"` (RFC 9110 section 5.6.6).
//!
//! Must never take what two readers could read differently: a parameter twice, an escape in a quoted value, text behind
//! one. Tests: here.

/// A value and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters<'h> {
    /// What stands before the first semicolon, in lower case.
    pub value: String,
    list: Vec<(String, &'h str)>,
}

impl<'h> Parameters<'h> {
    /// Reads a header's value; `None` if it cannot be read in one way alone.
    #[must_use]
    pub fn parse(text: &'h str) -> Option<Self> {
        let (value, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut list: Vec<(String, &str)> = Vec::new();
        loop {
            rest = rest.trim_matches(BLANKS);
            if rest.is_empty() {
                return Some(Self { value: value.trim_matches(BLANKS).to_ascii_lowercase(), list });
            }
            let (name, after) = rest.split_once('=')?;
            let name = name.to_ascii_lowercase();
            if !is_token(&name) || list.iter().any(|(known, _)| *known == name) {
                return None;
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').filter(|(inner, _)| is_quotable(inner))?,
                None => {
                    let end = after.find(';').unwrap_or(after.len());
                    let (value, after) = after.split_at_checked(end)?;
                    (Some(value.trim_end_matches(BLANKS)).filter(|value| is_token(value))?, after)
                }
            };
            list.push((name, value));
            let after = after.trim_start_matches(BLANKS);
            rest = if after.is_empty() { after } else { after.strip_prefix(';')? };
        }
    }

    /// The value of a parameter, by its name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'h str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The parameters' names, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }
}

/// A token (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// No escape: some take the backslash for one, some (Internet Explorer's paths) do not.
fn is_quotable(text: &str) -> bool {
    !text.chars().any(|character| character == '\\' || character.is_control())
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_quoted_values_are_read() {
        let read = Parameters::parse("Form-Data ; NAME=\"a; b=c\";filename=x.txt ; ").unwrap();
        assert_eq!(read.value, "form-data");
        assert_eq!(
            (read.get("name"), read.get("filename"), read.get("x")),
            (Some("a; b=c"), Some("x.txt"), None)
        );
        assert_eq!(read.names().collect::<Vec<_>>(), ["name", "filename"]);
        assert_eq!(Parameters::parse("text/plain").unwrap().value, "text/plain");
        assert_eq!(Parameters::parse("a;b=\"\"").unwrap().get("b"), Some(""));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "a;b",
            "a;b=",
            "a;b=c d",
            "a;b=\"c",
            "a;b=\"c\"d",
            "a;b=\"c\\\"d\"",
            "a;b=\"\\\\\"",
            "a;b=c;B=d",
            "a;=c",
            "a; b =c",
            "a;b= c",
            "a;b=\"\u{7}\"",
            "a;b=c\"d\"",
            "a;b=(c)",
        ] {
            assert_eq!(Parameters::parse(text), None, "{text}");
        }
    }
}
