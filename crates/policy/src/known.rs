//! The bundle's names as Cedar sees them: one entity for each declared thing.
//!
//! Must never hold a name that the bundle does not declare; what is not here is refused before any statement runs.
//! Tests: `crates/policy/tests/bundle/decisions.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use crate::routes::{EgressRoute, IngressRoute, LeakCheck};
use crate::segments::{Collection, Destination, Role, Segment, Service};

/// One declared thing.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Its place in its table: what cache keys are made of.
    pub(crate) position: usize,
    /// Its name in Cedar.
    pub(crate) uid: EntityUid,
    /// Its data.
    pub(crate) value: Arc<T>,
}

/// Declared things of one kind, by name.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: HashMap<String, Entry<T>>,
}

impl<T> Table<T> {
    fn new(kind: Kind, items: impl IntoIterator<Item = (String, Arc<T>)>) -> Result<Self, EntityProblem> {
        let mut entries = HashMap::new();
        for (position, (name, value)) in items.into_iter().enumerate() {
            let uid = kind.uid(&name)?;
            entries.insert(name, Entry { position, uid, value });
        }
        Ok(Self { entries })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry<T>> {
        self.entries.get(name)
    }
}

/// Everything a decision can name.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) services: Table<Service>,
    pub(crate) collections: Table<Collection>,
    pub(crate) destinations: Table<Destination>,
    pub(crate) segments: HashMap<String, Arc<Segment>>,
    pub(crate) ingress: Table<IngressRoute>,
    pub(crate) egress: Table<EgressRoute>,
    /// The purposes that egress routes declare, each with its place.
    pub(crate) purposes: HashMap<String, (usize, Arc<str>)>,
    pub(crate) entities: Entities,
}

/// What the bundle declares, as it was read.
pub(crate) struct Declarations<'b> {
    pub(crate) segments: &'b [Segment],
    pub(crate) services: &'b [Service],
    pub(crate) collections: &'b [Collection],
    pub(crate) destinations: &'b [Destination],
    pub(crate) ingress: &'b [IngressRoute],
    pub(crate) egress: &'b [EgressRoute],
}

/// The entities do not fit the bundle's schema; text for the operator.
#[derive(Debug)]
pub(crate) struct EntityProblem(pub(crate) String);

impl Known {
    /// Builds the tables and, checked against the schema, the entities.
    pub(crate) fn new(declared: &Declarations<'_>, schema: &Schema) -> Result<Self, EntityProblem> {
        let entities = entities(declared)?;
        let entities = Entities::from_entities(entities, Some(schema)).map_err(|error| {
            EntityProblem(format!("the declared entities do not fit the schema: {error}"))
        })?;
        let mut purposes: Vec<&str> = declared.egress.iter().map(|route| route.purpose.as_str()).collect();
        purposes.sort_unstable();
        purposes.dedup();
        Ok(Self {
            services: table(Kind::Service, declared.services, |item| &item.name)?,
            collections: table(Kind::Collection, declared.collections, |item| item.name.as_str())?,
            destinations: table(Kind::Destination, declared.destinations, |item| &item.name)?,
            segments: declared
                .segments
                .iter()
                .map(|item| (item.name.clone(), Arc::new(item.clone())))
                .collect(),
            ingress: table(Kind::IngressRoute, declared.ingress, |item| &item.name)?,
            egress: table(Kind::EgressRoute, declared.egress, |item| &item.name)?,
            purposes: (0..)
                .zip(purposes)
                .map(|(at, text)| (text.to_owned(), (at, Arc::from(text))))
                .collect(),
            entities,
        })
    }
}

fn table<T: Clone>(kind: Kind, items: &[T], name: impl Fn(&T) -> &str) -> Result<Table<T>, EntityProblem> {
    Table::new(kind, items.iter().map(|item| (name(item).to_owned(), Arc::new(item.clone()))))
}

/// Entity types of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Action,
    Collection,
    Destination,
    EgressRoute,
    IngressRoute,
    Role,
    Segment,
    Service,
    System,
}

impl Kind {
    /// The entity of this type with this name.
    pub(crate) fn uid(self, name: &str) -> Result<EntityUid, EntityProblem> {
        let kind = match self {
            Self::Action => "Action",
            Self::Collection => "Collection",
            Self::Destination => "Destination",
            Self::EgressRoute => "EgressRoute",
            Self::IngressRoute => "IngressRoute",
            Self::Role => "Role",
            Self::Segment => "Segment",
            Self::Service => "Service",
            Self::System => "System",
        };
        let kind: EntityTypeName =
            kind.parse().map_err(|error| EntityProblem(format!("entity type {kind}: {error}")))?;
        Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
    }

    fn expression(self, name: &str) -> Result<RestrictedExpression, EntityProblem> {
        self.uid(name).map(RestrictedExpression::new_entity_uid)
    }

    fn set<'n>(
        self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<RestrictedExpression, EntityProblem> {
        let members = names.into_iter().map(|name| self.expression(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(RestrictedExpression::new_set(members))
    }
}

fn entities(declared: &Declarations<'_>) -> Result<Vec<Entity>, EntityProblem> {
    let mut entities = Vec::new();
    for segment in declared.segments {
        let scope = RestrictedExpression::new_string(segment.scope.as_str().to_owned());
        entities.push(entity(Kind::Segment, &segment.name, [("scope", scope)], None)?);
    }
    for collection in declared.collections {
        entities.push(entity(Kind::Collection, collection.name.as_str(), [], None)?);
    }
    for destination in declared.destinations {
        let host = RestrictedExpression::new_string(destination.host.clone());
        let port = RestrictedExpression::new_long(i64::from(destination.port));
        entities.push(entity(Kind::Destination, &destination.name, [("host", host), ("port", port)], None)?);
    }
    for service in declared.services {
        entities.push(service_entity(service, declared.ingress)?);
    }
    for route in declared.ingress {
        let attributes = [
            ("service", Kind::Service.expression(&route.service)?),
            ("collection", Kind::Collection.expression(route.collection.as_str())?),
        ];
        entities.push(entity(Kind::IngressRoute, &route.name, attributes, None)?);
    }
    for route in declared.egress {
        let attributes = [
            ("services", Kind::Service.set(route.services.iter().map(String::as_str))?),
            ("destination", Kind::Destination.expression(&route.destination)?),
            ("collection", Kind::Collection.expression(route.collection.as_str())?),
            ("purpose", RestrictedExpression::new_string(route.purpose.clone())),
            ("reveals", RestrictedExpression::new_bool(route.reveals())),
        ];
        entities.push(entity(Kind::EgressRoute, &route.name, attributes, None)?);
    }
    Ok(entities)
}

fn service_entity(service: &Service, routes: &[IngressRoute]) -> Result<Entity, EntityProblem> {
    // Asked for by routes and by nothing else, so that no gateway may ask which cards are known unless one needs it.
    let exact = routes.iter().filter(|route| {
        service.role == Role::GatewayIngress
            && route.leak_check == LeakCheck::Exact
            && service.collections.contains(&route.collection)
    });
    let attributes = [
        ("role", Kind::Role.expression(service.role.as_str())?),
        ("out_of_scope", RestrictedExpression::new_bool(service.out_of_scope())),
        ("may_lookup", RestrictedExpression::new_bool(service.may_lookup)),
        ("recognizes", Kind::Collection.set(exact.map(|route| route.collection.as_str()))?),
        ("collections", Kind::Collection.set(service.collections.iter().map(|name| name.as_str()))?),
        ("destinations", Kind::Destination.set(service.destinations.iter().map(String::as_str))?),
    ];
    entity(Kind::Service, &service.name, attributes, Some(Kind::Segment.uid(&service.segment)?))
}

fn entity<const N: usize>(
    kind: Kind,
    name: &str,
    attributes: [(&str, RestrictedExpression); N],
    parent: Option<EntityUid>,
) -> Result<Entity, EntityProblem> {
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Entity::new(kind.uid(name)?, attributes, HashSet::from_iter(parent))
        .map_err(|error| EntityProblem(format!("the entity \"{name}\" cannot be built: {error}")))
}
