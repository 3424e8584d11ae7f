//! The data listener: the seven batch calls and nothing else.
//! Must never reach a seal, key or collection operation. Tests: `tests/tests/api.rs`, `tests/tests/identity.rs`.

use super::{Call, Refused, answer, card_answer, read_json, refuse, take_leave};
use crate::store::Store;
use crate::vault::Vault;
use cordon_audit::Action;
use cordon_daemon::body::Body;
use cordon_daemon::tls::Peer;
use cordon_policy::Ask;
use cordon_wire::limits::{MAX_DATA_BODY, MAX_ITEMS};
use cordon_wire::{
    DeleteRequest, DetokenizeRequest, InspectRequest, LookupRequest, ProblemCode, SettleRequest,
    TokenizeRequest,
};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::time::Instant;

/// Answers one request on the data listener.
pub async fn handle<S: Store>(vault: &Vault<S>, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let (parts, mut body) = request.into_parts();
    let call = match Call::authenticate(vault, peer, &parts.headers) {
        Ok(call) => call,
        Err((caller, refused)) => return refuse(vault, &caller, refused).await,
    };
    let Some((collection, operation)) = route(parts.uri.path()) else {
        return refuse(vault, &call.caller, Refused::new(Action::Authenticate, ProblemCode::UnknownRoute))
            .await;
    };
    let result = if parts.method == Method::POST {
        dispatch(&call, operation, collection, &mut body).await
    } else {
        Err(Refused::new(operation.action(), ProblemCode::MethodNotAllowed))
    };
    let response = match result {
        Ok(response) => response,
        Err(refused) => {
            take_leave(&mut body, &parts.headers).await;
            refuse(vault, &call.caller, refused).await
        }
    };
    vault.metrics().observe(operation.name(), response.status(), started.elapsed());
    response
}

#[derive(Clone, Copy)]
enum Operation {
    Tokenize,
    Detokenize,
    Settle,
    Lookup,
    Recognize,
    Inspect,
    Delete,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::Settle => "settle",
            Self::Lookup => "lookup",
            Self::Recognize => "recognize",
            Self::Inspect => "inspect",
            Self::Delete => "delete",
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Tokenize => Action::Tokenize,
            Self::Detokenize => Action::Detokenize,
            Self::Settle => Action::SecurityCode,
            Self::Lookup | Self::Recognize => Action::Lookup,
            Self::Inspect => Action::Inspect,
            Self::Delete => Action::Delete,
        }
    }
}

/// `/v1/collections/{collection}/{operation}`.
fn route(path: &str) -> Option<(&str, Operation)> {
    let (collection, operation) = path.strip_prefix("/v1/collections/")?.split_once('/')?;
    let operation = match operation {
        "tokenize" => Operation::Tokenize,
        "detokenize" => Operation::Detokenize,
        "settle" => Operation::Settle,
        "lookup" => Operation::Lookup,
        "recognize" => Operation::Recognize,
        "inspect" => Operation::Inspect,
        "delete" => Operation::Delete,
        _other => return None,
    };
    Some((collection, operation))
}

async fn dispatch<S: Store>(
    call: &Call<'_, S>,
    operation: Operation,
    collection: &str,
    body: &mut Incoming,
) -> Result<Response<Body>, Refused> {
    let action = operation.action();
    let (vault, caller) = (call.vault, &call.caller);
    let refused = |code| Refused::new(action, code);
    let failed = Refused::of(action);
    Ok(match operation {
        Operation::Tokenize => {
            let permit = call.about_collection(action, collection)?;
            let request: TokenizeRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            answer(&vault.tokenize(caller, permit, request).await.map_err(failed)?, caller)
        }
        Operation::Detokenize => {
            // The body names the destination that the decision is about; it holds tokens, never a card.
            let request: DetokenizeRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            let DetokenizeRequest { service, destination, purpose, route, .. } = &request;
            let permit = call.about_reveal(action, collection, [service, destination, purpose, route])?;
            card_answer(&vault.detokenize(caller, permit, request.items).await.map_err(failed)?, caller)
        }
        Operation::Settle => {
            let request: SettleRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            let SettleRequest { service, destination, purpose, route, .. } = &request;
            let permit = call.about_reveal(action, collection, [service, destination, purpose, route])?;
            answer(&vault.settle(caller, permit, request.items).await.map_err(failed)?, caller)
        }
        Operation::Lookup => {
            let permit = call.about_collection(action, collection)?;
            let request: LookupRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            answer(&vault.lookup(caller, permit, request.items).await.map_err(failed)?, caller)
        }
        Operation::Recognize => {
            let permit = call.about_collection(action, collection)?;
            let request: LookupRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            answer(&vault.recognize(caller, permit, request.items).await.map_err(failed)?, caller)
        }
        Operation::Inspect => {
            let permit = call.about_collection(action, collection)?;
            let request: InspectRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            answer(&vault.inspect(caller, permit, request.items).await.map_err(failed)?, caller)
        }
        Operation::Delete => {
            let permit = call.about_collection(action, collection)?;
            let request: DeleteRequest = read_json(body, MAX_DATA_BODY).await.map_err(refused)?;
            bounded(request.items.len()).map_err(refused)?;
            answer(&vault.delete(caller, permit, request.items).await.map_err(failed)?, caller)
        }
    })
}

impl<'a, S: Store> Call<'a, S> {
    fn about_collection<A: cordon_policy::Action>(
        &self,
        action: Action,
        collection: &str,
    ) -> Result<cordon_policy::Permit<A>, Refused> {
        let name = collection_name(self.vault.bundle(), collection);
        self.decide(action, |ask| Ask { collection: name, ..ask })
    }

    /// Names the bundle does not know are refused by the policy as a whole, so none of the request's text outlives the
    /// call.
    fn about_reveal<A: cordon_policy::Action>(
        &self,
        action: Action,
        collection: &str,
        [service, destination, purpose, route]: [&str; 4],
    ) -> Result<cordon_policy::Permit<A>, Refused> {
        let bundle = self.vault.bundle();
        let route = bundle.egress().iter().find(|known| known.name == *route);
        self.decide(action, |ask| Ask {
            collection: collection_name(bundle, collection),
            destination: bundle.destination(destination).map(|known| known.name.as_str()),
            acting_for: bundle.service(service).map(|known| known.name.as_str()),
            route: route.map(|route| route.name.as_str()),
            purpose: route.map(|route| route.purpose.as_str()).filter(|declared| *declared == purpose),
            ..ask
        })
    }
}

/// The bundle's own text of a collection name, if it knows it.
pub(super) fn collection_name<'b>(bundle: &'b cordon_policy::Bundle, name: &str) -> Option<&'b str> {
    bundle.collections().map(|collection| collection.name.as_str()).find(|known| *known == name)
}

fn bounded(items: usize) -> Result<(), ProblemCode> {
    if items > MAX_ITEMS { Err(ProblemCode::TooManyItems) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_seven_calls_are_routed() {
        assert!(matches!(route("/v1/collections/cards/tokenize"), Some(("cards", Operation::Tokenize))));
        for path in [
            "/v1/collections/cards",
            "/v1/collections/cards/tokenize/",
            "/v1/collections/cards/export",
            "/v1/seal/unseal",
            "/v1/status",
            "/",
            "//v1/collections/cards/tokenize",
        ] {
            assert!(route(path).is_none(), "{path}");
        }
    }
}
