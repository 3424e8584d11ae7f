//! Seals by static keys and by SoftHSM: what opens, what does not, and that the root key shows up nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cordon_audit::Name;
use cordon_card::Environment;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use data_encoding::BASE64;
use jiff::Timestamp;

use super::{Bound, DeviceKind, Devices};
use crate::keys::RootKey;
use crate::seal::{
    HsmError, Initialised, SealDocument, SealError, SealSettings, Sealing, initialise, moved_to_current_key,
    unseal_alone,
};

const DEV: Environment = Environment::Dev;
const BOUND: Bound<'_> = Bound { environment: "dev", ceremony: &[7; 8], root: "root-x" };

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn devices(settings: &str) -> Devices {
    let settings: SealSettings = toml::from_str(settings).unwrap();
    Devices::load(&settings, Path::new("unused")).unwrap()
}

fn made(kind: DeviceKind, devices: &Devices) -> Result<Initialised, SealError> {
    initialise(&Sealing::Device(kind), DEV, devices, Timestamp::UNIX_EPOCH)
}

fn same(root: &RootKey, other: &RootKey) -> bool {
    root.expose_for_crypto() == other.expose_for_crypto()
}

/// Keys `a` and `b` in files; which of them are configured.
struct Statics(tempfile::TempDir);

impl Statics {
    fn new() -> Statics {
        let scratch = tempfile::tempdir().unwrap();
        for (name, byte) in [("a", 1), ("b", 2)] {
            private(&scratch.path().join(name), &format!("{}\n", BASE64.encode(&[byte; 32])));
        }
        Statics(scratch)
    }

    fn with(&self, current: (&str, &str), previous: Option<(&str, &str)>) -> Devices {
        let place = |(id, file): (&str, &str)| {
            format!("{{ id = {id:?}, key = {{ file = {:?} }} }}", self.0.path().join(file))
        };
        let previous = previous.map(|key| format!("previous = {}\n", place(key))).unwrap_or_default();
        devices(&format!("[static]\ncurrent = {}\n{previous}", place(current)))
    }
}

#[test]
fn a_static_key_opens_what_it_sealed_and_moves_to_the_next() {
    let keys = Statics::new();
    let one = keys.with(("one", "a"), None);
    let Initialised { document, root, shares } = made(DeviceKind::Static, &one).unwrap();
    assert!(shares.is_empty());
    assert!(same(&unseal_alone(&document, &one).unwrap(), &root));
    assert!(moved_to_current_key(&document, &root, &one).unwrap().is_none());

    let both = keys.with(("two", "b"), Some(("one", "a")));
    assert!(same(&unseal_alone(&document, &both).unwrap(), &root));
    let moved = moved_to_current_key(&document, &root, &both).unwrap().unwrap();
    assert_eq!(moved.sealing_key().unwrap().as_str(), "two");
    assert!(moved.same_ceremony(&document));
    let two = keys.with(("two", "b"), None);
    let read = SealDocument::parse(&moved.to_bytes().unwrap(), DEV).unwrap();
    assert!(same(&unseal_alone(&read, &two).unwrap(), &root));
    assert!(
        matches!(unseal_alone(&document, &two), Err(SealError::UnknownKey(name)) if name.as_str() == "one")
    );
    // The id is not enough.
    let other = keys.with(("one", "b"), None);
    assert!(matches!(unseal_alone(&document, &other), Err(SealError::WrongKey(_))));
    let none = devices("");
    assert!(matches!(unseal_alone(&document, &none), Err(SealError::NotConfigured("static"))));
}

#[test]
fn what_a_static_key_sealed_opens_in_its_place_only() {
    let keys = Statics::new();
    let one = keys.with(("one", "a"), Some(("two", "a")));
    let root = RootKey::generate().unwrap();
    let wrapped = one.wrap(DeviceKind::Static, BOUND, &root).unwrap();
    assert!(same(&one.unwrap(DeviceKind::Static, BOUND, &wrapped).unwrap(), &root));
    let elsewhere = [
        Bound { environment: "live", ..BOUND },
        Bound { ceremony: &[8; 8], ..BOUND },
        Bound { root: "root-y", ..BOUND },
    ];
    for bound in elsewhere {
        assert!(matches!(one.unwrap(DeviceKind::Static, bound, &wrapped), Err(SealError::WrongKey(_))));
    }
    // The same bytes under another id.
    let renamed = super::Wrapped { key: Name::parse("two").unwrap(), ..wrapped };
    assert!(matches!(one.unwrap(DeviceKind::Static, BOUND, &renamed), Err(SealError::WrongKey(_))));
}

#[test]
fn a_key_file_holds_32_bytes_in_base64() {
    let keys = Statics::new();
    let one = keys.with(("one", "a"), None);
    let file = keys.0.path().join("a");
    for wrong in ["", "AAAA", &BASE64.encode(&[1; 31]), &BASE64.encode(&[1; 33]), &"*".repeat(44)] {
        private(&file, wrong);
        assert!(matches!(made(DeviceKind::Static, &one), Err(SealError::File { .. })), "{wrong}");
    }
    private(&file, &BASE64.encode(&[1; 32]));
    assert!(made(DeviceKind::Static, &one).is_ok());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(made(DeviceKind::Static, &one), Err(SealError::File { .. })));
}

/// SoftHSM finds its tokens by a variable of the environment, which a test can only set for another process.
#[test]
fn a_key_in_softhsm_seals_and_never_leaves() {
    let scratch = tempfile::tempdir().unwrap();
    let conf = scratch.path().join("softhsm2.conf");
    let tokens = scratch.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    private(&conf, &format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display()));
    let run = |command: &mut Command| {
        let output = command.env("SOFTHSM2_CONF", &conf).env(TOKENS, scratch.path()).output();
        let output = output.expect("the Debian package softhsm2 is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let made = ["--init-token", "--free", "--label", "cordon", "--so-pin", "87654321", "--pin", PIN];
    run(Command::new("softhsm2-util").args(made));
    let inside = ["--ignored", "--exact", "seal::device::tests::in_softhsm"];
    let said = run(Command::new(std::env::current_exe().unwrap()).args(inside));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn in_softhsm() {
    let scratch = std::env::var_os(TOKENS).unwrap();
    let scratch = Path::new(&scratch);
    private(&scratch.join("pin"), &format!("{PIN}\n"));
    private(&scratch.join("wrong-pin"), "9999");
    let with = |token: &str, key: &str, pin: &str, more: &str| {
        let pin = scratch.join(pin);
        let text = "[pkcs11]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\n";
        devices(&format!("{text}token = {token:?}\nkey = {key:?}\npin = {{ file = {pin:?} }}\n{more}"))
    };
    let refused = |devices: &Devices| match made(DeviceKind::Pkcs11, devices) {
        Err(SealError::Hsm(error)) => error,
        other => panic!("{other:?}"),
    };
    let asked = with("cordon", "root", "pin", "");
    assert!(matches!(refused(&asked), HsmError::NoKey(_)), "no key is made unasked");
    let good = with("cordon", "root", "pin", "create_key = true");
    let Initialised { document, root, .. } = made(DeviceKind::Pkcs11, &good).unwrap();
    assert!(same(&unseal_alone(&document, &asked).unwrap(), &root));
    assert!(made(DeviceKind::Pkcs11, &good).is_ok(), "the key that is there is used again");

    // The root key is in no file, neither as it is nor in base64.
    let needles = [root.expose_for_crypto().to_vec(), BASE64.encode(root.expose_for_crypto()).into_bytes()];
    let mut files = vec![document.to_bytes().unwrap()];
    collect(scratch, &mut files);
    assert!(files.len() > 4, "the token has files");
    let holds =
        |needle: &[u8]| files.iter().any(|file| file.windows(needle.len()).any(|part| part == needle));
    assert!(!needles.iter().any(|needle| holds(needle)));
    assert!(holds(b"\"pkcs11\""), "the search finds what is there");

    // Another place, another token, another PIN.
    let wrapped = good.wrap(DeviceKind::Pkcs11, BOUND, &root).unwrap();
    assert!(same(&good.unwrap(DeviceKind::Pkcs11, BOUND, &wrapped).unwrap(), &root));
    let elsewhere = Bound { environment: "live", ..BOUND };
    let moved = good.unwrap(DeviceKind::Pkcs11, elsewhere, &wrapped);
    assert!(matches!(moved, Err(SealError::Hsm(HsmError::Refused(_)))), "{moved:?}");
    assert!(matches!(refused(&with("other", "root", "pin", "")), HsmError::NoToken(_)));
    assert!(matches!(refused(&with("cordon", "root", "wrong-pin", "")), HsmError::Pin));
    assert!(same(&unseal_alone(&document, &asked).unwrap(), &root), "it stays usable");

    // Keys that could leave, and a label that two have.
    generate("loose", &[Attribute::Sensitive(true), Attribute::Extractable(true)]);
    generate("clear", &[Attribute::Sensitive(false), Attribute::Extractable(false)]);
    for label in ["loose", "clear"] {
        let error = refused(&with("cordon", label, "pin", "create_key = true"));
        assert!(matches!(error, HsmError::UnsafeKey(..)), "{label}: {error}");
    }
    generate("root", &[Attribute::Sensitive(true), Attribute::Extractable(false)]);
    assert!(matches!(refused(&good), HsmError::ManyKeys(_)));
}

fn collect(directory: &Path, into: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, into) } else { into.push(fs::read(path).unwrap()) }
    }
}

/// Makes a key as an operator might.
fn generate(label: &str, how: &[Attribute]) {
    let module = Pkcs11::new("/usr/lib/softhsm/libsofthsm2.so").unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(PIN))).unwrap();
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    template.extend_from_slice(how);
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

const PIN: &str = "1234";
const TOKENS: &str = "CORDON_TEST_TOKENS";
