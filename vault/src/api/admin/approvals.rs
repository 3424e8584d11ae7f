//! `POST /v1/approvals` and a custodian's answers.
//! Must never let a caller answer without the `approve` permit. Tests: `tests/tests/approvals.rs`.

use crate::api::{Call, Refused, answer, read_json};
use crate::store::Store;
use crate::vault::Answer;
use cordon_audit::Action;
use cordon_daemon::body::Body;
use cordon_policy::{Administer, Approve};
use cordon_wire::limits::MAX_ADMIN_BODY;
use cordon_wire::{ApprovalRequest, ProblemCode};
use http::Response;
use hyper::body::Incoming;

/// Answers a POST below `/v1/approvals`; `rest` is what follows.
pub(super) async fn change<S: Store>(
    call: &Call<'_, S>,
    rest: &str,
    body: &mut Incoming,
) -> Result<Response<Body>, Refused> {
    let (vault, caller) = (call.vault, &call.caller);
    if rest.is_empty() {
        let action = Action::ApprovalRequest;
        let permit = call.decide::<Administer>(action, |ask| ask)?;
        let request: ApprovalRequest =
            read_json(body, MAX_ADMIN_BODY).await.map_err(|code| Refused::new(action, code))?;
        let asked = vault.request_approval(caller, permit, request.operation).await;
        return Ok(answer(&asked.map_err(Refused::of(action))?, caller));
    }
    let (id, verb) = rest.strip_prefix('/').and_then(|rest| rest.split_once('/')).unwrap_or_default();
    let (said, action) = match verb {
        "approve" => (Answer::Approve, Action::ApprovalGrant),
        "reject" => (Answer::Reject, Action::ApprovalReject),
        _other => return Err(Refused::new(Action::Authenticate, ProblemCode::UnknownRoute)),
    };
    let permit = call.decide::<Approve>(action, |ask| ask)?;
    let answered = vault.answer_approval(caller, permit, id, said).await;
    Ok(answer(&answered.map_err(Refused::of(action))?, caller))
}
