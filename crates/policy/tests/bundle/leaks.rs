//! Slips in what a route does with card numbers where none may be; each is made in place of the route's `on_leak`.

use crate::slips::Slip;

const fn leak(new: &'static str, at: &'static str, message: &'static str, help: &'static str) -> Slip {
    Slip { file: "routes.toml", old: "on_leak = \"deny\"", new, at, message, help }
}

/// The slips. A day that has passed is none.
pub(crate) const IN_LEAKS: &[Slip] = &[
    leak(
        "on_leak = \"mask\"\nleak_check = \"exact\"\ntimings = true",
        "[[ingress]]",
        "would show the vault's work",
        "leave `timings` out",
    ),
    leak(
        "on_leak = \"report\"\non_leak_reason = \"r\"",
        "[[ingress]]",
        "has no `on_leak_until`",
        "the last day",
    ),
    leak(
        "on_leak = \"report\"\non_leak_until = \"2026-01-01\"",
        "[[ingress]]",
        "has no `on_leak_reason`",
        "why it is needed",
    ),
    leak(
        "on_leak = \"report\"\non_leak_reason = \"r\"\non_leak_until = \"2026-02-30\"",
        "2026-02-30",
        "cannot be read",
        "at most a year ahead",
    ),
    leak(
        "on_leak = \"report\"\non_leak_reason = \"r\"\non_leak_until = \"2226-01-31\"",
        "2226-01-31",
        "is more than a year ahead",
        "write the last day",
    ),
    leak(
        "on_leak = \"mask\"\non_leak_until = \"2026-01-01\"",
        "2026-01-01",
        "`on_leak_until` belongs to `on_leak = \"report\"`",
        "leave it out",
    ),
    leak(
        "leak_check = \"exact\"\n",
        "leak_check = \"exact\"\n",
        "tells every client which cards are known",
        "\"mask\" or \"report\"",
    ),
    leak(
        "on_leak = \"tokenize\"\nleak_check = \"exact\" # here",
        "# here",
        "tells its client that the card is known",
        "\"mask\" or \"report\"",
    ),
    leak("leak_check = \"exakt\"", "exakt", "`leak_check` cannot be \"exakt\"", "did you mean \"exact\"?"),
    leak(
        "exception = [{ in = \"request\", json = \"$..number\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "$..number",
        "can stand where the field at \"$.card.number\" does",
        "no other",
    ),
    leak(
        "exception = [{ in = \"request\", form = \"card_number\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "can stand where the field at \"$.card.number\" does",
        "no other",
    ),
    leak(
        "exception = [{ in = \"anwser\", json = \"$.order\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "anwser",
        "`in` cannot be \"anwser\"",
        "did you mean \"answer\"?",
    ),
    leak(
        "exception = [{ json = \"$.order\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "this exception has no `in`",
        "",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "this exception has no `reason`",
        "why it is needed",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", reason = \"r\", until = \"2026-01-01\" }]",
        "exception = [",
        "this exception has no `approved_by`",
        "answers for it",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", reason = \"r\", approved_by = \"ann\" }]",
        "exception = [",
        "this exception has no `until`",
        "the last day",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", reason = \" \", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "`reason` is empty",
        "why it is needed",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", reason = \"r\", approved_by = \"ann\", until = \"2226-01-31\" }]",
        "2226-01-31",
        "is more than a year ahead",
        "write the last day",
    ),
    leak(
        "exception = [{ in = \"request\", xml = \"//order\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "stands in no content type",
        "add the content type",
    ),
    leak(
        "exception = [{ in = \"request\", header = \"authorization\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "credentials are no place",
        "",
    ),
    leak(
        "exception = [{ in = \"request\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "exception = [",
        "neither `json` nor `form`",
        "",
    ),
    leak(
        "exception = [{ in = \"answer\", query = \"order\", json = \"$.a\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "query = \"order\"",
        "unknown key `query` in this exception",
        "",
    ),
    leak(
        "exception = [{ in = \"request\", json = \"$.order\", op = \"mask\", reason = \"r\", approved_by = \"ann\", until = \"2026-01-01\" }]",
        "op = \"mask\"",
        "unknown key `op` in this exception",
        "",
    ),
];
