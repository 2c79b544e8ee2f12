//! A route: where it is, what it does, who may use it, and what answers.
//!
//! [`Route::mount`] is the only place where a handler meets the router, and it puts the whole
//! pipeline in front of it. So no route can be outside of authentication and gate.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{MethodFilter, on};
use http::Request;

use crate::api::Api;
use crate::capability::{Access, Reach};
use crate::error::ApiError;
use crate::pipeline;
use crate::reply::Reply;
use crate::request::Call;

type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;
type Handler = Arc<dyn Fn(Arc<Api>, Call) -> Answer + Send + Sync>;

/// The methods that routes have. `GET` serves `HEAD` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    /// The method's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// One route of the Admin API.
#[derive(Clone)]
pub(crate) struct Route {
    /// The method.
    pub(crate) verb: Verb,
    /// The path, with `{parameters}`.
    pub(crate) template: &'static str,
    /// What it does.
    pub(crate) access: Access,
    /// Where it works.
    pub(crate) reach: Reach,
    handler: Handler,
}

impl Route {
    /// Declares a route.
    pub(crate) fn new<F, Fut>(
        verb: Verb,
        template: &'static str,
        access: Access,
        reach: Reach,
        handler: F,
    ) -> Self
    where
        F: Fn(Arc<Api>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, ApiError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |api, call| Box::pin(handler(api, call)));
        Self {
            verb,
            template,
            access,
            reach,
            handler,
        }
    }

    /// Runs the handler.
    pub(crate) async fn handle(&self, api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
        (self.handler)(api, call).await
    }

    /// Puts the route, behind the pipeline, into a router.
    pub(crate) fn mount(self, router: Router, api: &Arc<Api>) -> Router {
        let (template, filter) = (self.template, self.verb.filter());
        let (api, route) = (Arc::clone(api), Arc::new(self));
        let answer = move |request: Request<Body>| {
            let (api, route) = (Arc::clone(&api), Arc::clone(&route));
            async move { pipeline::answer(api, Some(route), request).await }
        };
        router.route(template, on(filter, answer))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {:?} {:?}",
            self.verb.as_str(),
            self.template,
            self.access,
            self.reach
        )
    }
}
