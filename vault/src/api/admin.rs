//! The administration listener: seal, collections, keys, status, audit pages.
//! Must never serve a data call. Tests: `tests/tests/api.rs`, `tests/tests/identity.rs`.

use super::data::collection_name;
use super::{Call, Refused, answer, read_json, refuse, stream, take_leave};
use crate::store::Store;
use crate::vault::Vault;
use cordon_audit::Action;
use cordon_daemon::body::Body;
use cordon_daemon::tls::Peer;
use cordon_policy::{Administer, Approve, Ask, Export, Observe};
use cordon_wire::limits::{MAX_ADMIN_BODY, MAX_AUDIT_PAGE};
use cordon_wire::{
    AcceptRestore, AuditCosigned, CreateCollection, DestroyRequest, ExportRequest, InitRequest,
    KeyStateRequest, ProblemCode, RekeyRequest, RekeyShare, RetentionRequest, RewrapRequest, RotateRequest,
    UnsealRequest,
};
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;

mod approvals;

/// Answers one request on the administration listener.
pub async fn handle<S: Store>(vault: &Vault<S>, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let call = match Call::authenticate(vault, peer, &parts.headers) {
        Ok(call) => call,
        Err((caller, refused)) => return refuse(vault, &caller, refused).await,
    };
    let result = if parts.method == Method::GET {
        read(&call, &parts.uri).await
    } else if parts.method == Method::POST {
        change(&call, parts.uri.path(), &mut body).await
    } else {
        Err(Refused::new(Action::Authenticate, ProblemCode::MethodNotAllowed))
    };
    match result {
        Ok(response) => response,
        Err(refused) => {
            take_leave(&mut body, &parts.headers).await;
            refuse(vault, &call.caller, refused).await
        }
    }
}

async fn read<S: Store>(call: &Call<'_, S>, uri: &Uri) -> Result<Response<Body>, Refused> {
    let (vault, caller) = (call.vault, &call.caller);
    let action = Action::Observe;
    let known = [
        "/v1/seal",
        "/v1/seal/rekey",
        "/v1/custodians",
        "/v1/status",
        "/v1/collections",
        "/v1/keys",
        "/v1/keys/rewrap",
        "/v1/approvals",
        "/v1/retention",
        "/v1/store/verify",
        "/v1/audit",
        SUBMISSION,
    ];
    if !known.contains(&uri.path()) {
        return Err(Refused::new(action, ProblemCode::UnknownRoute));
    }
    let permit = call.decide::<Observe>(action, |ask| ask)?;
    let failed = Refused::of(action);
    Ok(match uri.path() {
        "/v1/seal" => answer(&vault.show_seal(caller, permit).await.map_err(failed)?, caller),
        "/v1/seal/rekey" => answer(&vault.show_rekey(caller, permit).await.map_err(failed)?, caller),
        "/v1/custodians" => answer(&vault.list_custodians(caller, permit).await.map_err(failed)?, caller),
        "/v1/status" => answer(&vault.status(caller, permit).await.map_err(failed)?, caller),
        "/v1/collections" => answer(&vault.list_collections(caller, permit).await.map_err(failed)?, caller),
        "/v1/keys" => answer(&vault.list_keys(caller, permit).await.map_err(failed)?, caller),
        "/v1/keys/rewrap" => answer(&vault.list_rewraps(caller, permit).await.map_err(failed)?, caller),
        "/v1/approvals" => answer(&vault.list_approvals(caller, permit).await.map_err(failed)?, caller),
        SUBMISSION => {
            let (from, _limit) = page(uri.query()).ok_or(Refused::new(action, ProblemCode::Malformed))?;
            answer(&vault.audit_submission(caller, permit, from).await.map_err(failed)?, caller)
        }
        "/v1/store/verify" => answer(&vault.show_store(caller, permit).await.map_err(failed)?, caller),
        "/v1/retention" => answer(&vault.show_retention(caller, permit).await.map_err(failed)?, caller),
        _audit => {
            let (from, limit) = page(uri.query()).ok_or(Refused::new(action, ProblemCode::Malformed))?;
            answer(&vault.audit_page(caller, permit, from, limit).await.map_err(failed)?, caller)
        }
    })
}

async fn change<S: Store>(
    call: &Call<'_, S>,
    path: &str,
    body: &mut Incoming,
) -> Result<Response<Body>, Refused> {
    let (vault, caller) = (call.vault, &call.caller);
    if let Some(rest) = path.strip_prefix("/v1/approvals") {
        return approvals::change(call, rest, body).await;
    }
    if path == "/v1/export" {
        return export(call, body).await;
    }
    if path == "/v1/custodians/acknowledge" {
        let action = Action::CustodianAcknowledge;
        let permit = call.decide::<Approve>(action, |ask| ask)?;
        return Ok(answer(&vault.acknowledge(caller, permit).await.map_err(Refused::of(action))?, caller));
    }
    let action = action_of(path).ok_or(Refused::new(Action::Authenticate, ProblemCode::UnknownRoute))?;
    let permit = call.decide::<Administer>(action, |ask| ask)?;
    let refused = |code| Refused::new(action, code);
    let failed = Refused::of(action);
    Ok(match path {
        "/v1/seal/init" => {
            let request: InitRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.init(caller, permit, &request).await.map_err(failed)?, caller)
        }
        "/v1/seal/unseal" => {
            let request: UnsealRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.unseal(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/seal/rekey" => {
            let request: RekeyRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.begin_rekey(caller, permit, &request).await.map_err(failed)?, caller)
        }
        "/v1/seal/rekey/share" => {
            let request: RekeyShare = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.give_rekey_share(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/seal/rekey/abort" => answer(&vault.abort_rekey(caller, permit).await.map_err(failed)?, caller),
        "/v1/seal/seal" => answer(&vault.seal(caller, permit).await.map_err(failed)?, caller),
        "/v1/backup" => stream(vault.backup(caller, permit).await.map_err(failed)?, caller),
        "/v1/restore/accept" => {
            let request: AcceptRestore = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.accept_restore(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/collections" => {
            let request: CreateCollection = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.create_collection(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/audit/cosigned" => {
            let request: AuditCosigned = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.keep_cosigned(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/keys/rewrap" => {
            let request: RewrapRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.rewrap(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/keys/destroy" => {
            let request: DestroyRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.destroy_key(caller, permit, &request).await.map_err(failed)?, caller)
        }
        "/v1/retention" => {
            let request: RetentionRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.set_retention(caller, permit, request).await.map_err(failed)?, caller)
        }
        "/v1/retention/verify" => {
            answer(&vault.verify_retention(caller, permit).await.map_err(failed)?, caller)
        }
        "/v1/store/verify" => answer(&vault.verify_store(caller, permit).await.map_err(failed)?, caller),
        "/v1/keys/state" => {
            let request: KeyStateRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.change_key_state(caller, permit, &request).await.map_err(failed)?, caller)
        }
        _rotate => {
            let request: RotateRequest = read_json(body, MAX_ADMIN_BODY).await.map_err(refused)?;
            answer(&vault.rotate(caller, permit, request).await.map_err(failed)?, caller)
        }
    })
}

/// What an administrative change is, by its path.
fn action_of(path: &str) -> Option<Action> {
    Some(match path {
        "/v1/seal/rekey" | "/v1/seal/rekey/share" | "/v1/seal/rekey/abort" => Action::Rekey,
        "/v1/seal/init" => Action::Init,
        "/v1/seal/unseal" => Action::Unseal,
        "/v1/seal/seal" => Action::Seal,
        "/v1/collections" => Action::CollectionCreate,
        "/v1/audit/cosigned" => Action::AuditCosign,
        "/v1/keys/rotate" => Action::KeyRotate,
        "/v1/keys/rewrap" => Action::Rewrap,
        "/v1/keys/destroy" => Action::KeyDestroy,
        "/v1/backup" => Action::Backup,
        "/v1/restore/accept" => Action::Restore,
        "/v1/keys/state" => Action::KeyState,
        "/v1/retention" => Action::CollectionChange,
        "/v1/retention/verify" => Action::Retention,
        "/v1/store/verify" => Action::StoreVerify,
        _other => return None,
    })
}

/// Decided for the collection that the body names.
async fn export<S: Store>(call: &Call<'_, S>, body: &mut Incoming) -> Result<Response<Body>, Refused> {
    let action = Action::Export;
    let request: ExportRequest =
        read_json(body, MAX_ADMIN_BODY).await.map_err(|code| Refused::new(action, code))?;
    let known = collection_name(call.vault.bundle(), request.collection.as_str());
    let permit = call.decide::<Export>(action, |ask| Ask { collection: known, ..ask })?;
    let exported = call.vault.export(&call.caller, permit, request).await;
    Ok(stream(exported.map_err(Refused::of(action))?, &call.caller))
}

/// `from` and `limit` of an audit page; both have defaults, anything else is malformed.
fn page(query: Option<&str>) -> Option<(u64, usize)> {
    let (mut from, mut limit) = (0, MAX_AUDIT_PAGE);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("from", value) => from = value.parse().ok()?,
            ("limit", value) => limit = value.parse().ok()?,
            _other => return None,
        }
    }
    Some((from, limit))
}

const SUBMISSION: &str = "/v1/audit/submission";

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn a_page_is_from_and_limit_and_nothing_else() {
        assert_eq!(page(None), Some((0, 1_000)));
        assert_eq!(page(Some("from=7&limit=2")), Some((7, 2)));
        for bad in ["from", "from=x", "limit=-1", "other=1", "from=1&&x"] {
            assert_eq!(page(Some(bad)), None, "{bad}");
        }
    }
}
