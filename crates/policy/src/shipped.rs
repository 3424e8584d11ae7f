//! The schema and the statements that ship with Cordon, for tools that write a bundle.
//!
//! Must never differ from the files in `policies/`: they are compiled in from there.
//! Tests: `crates/policy/tests/bundle/shipped.rs`.

/// Contents of `schema.cedarschema`.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// File name and contents of every statement file.
pub const POLICIES: &[(&str, &str)] = &[
    ("administration.cedar", include_str!("../../../policies/administration.cedar")),
    ("egress.cedar", include_str!("../../../policies/egress.cedar")),
    ("ingress.cedar", include_str!("../../../policies/ingress.cedar")),
    ("scope.cedar", include_str!("../../../policies/scope.cedar")),
];
