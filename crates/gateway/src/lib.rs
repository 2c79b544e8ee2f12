//! The enforcing reverse proxy.
//!
//! A caller presents a one-shot mandate and names a resource. The Gateway proves the mandate, makes
//! sure that its authority stands at this moment, spends it, asks the STS for authority for this one
//! call, swaps the caller's credential for the upstream's, forwards, and streams the answer back for
//! as long as the authority lasts. One step, one file, in this order:
//!
//! | file | step |
//! |---|---|
//! | `listener` | connections: bounds, deadlines, drain |
//! | `preflight` | 2–10: the request head |
//! | `prove` | 11: the signature, then the claims |
//! | `anchors` | 1 and 13: the freshness barrier and the four anchors |
//! | `circuit`, `exchange` | 14 and 15: the STS; makes the permit |
//! | `replay` | 12: the mandate is spent, just before the exchange |
//! | `host_guard` | 16 and 17: where the call may go |
//! | `build` | 18: the upstream request |
//! | `upstream`, `upload` | 19: the call |
//! | `respond`, `relay`, `rejudge` | 20: the answer, and its end when authority ends |
//! | `audit` | the evidence |
//! | `exchange_client` | the STS when it runs elsewhere |
//! | `refusal` | every reason to answer instead of the upstream |

mod anchors;
mod answer;
mod audit;
mod build;
mod call;
mod circuit;
mod exchange;
mod exchange_client;
pub mod fuzz;
mod gateway;
mod host_guard;
mod listener;
mod meter;
mod ops;
mod options;
mod preflight;
mod prove;
mod refusal;
mod rejudge;
mod relay;
mod replay;
mod respond;
mod trust;
mod upload;
mod upstream;

pub use exchange_client::{
    HttpExchange, HttpExchangeDeps, HttpExchangeOptions, StsUrl, StsUrlError,
};
pub use fuzz::fuzz_head;
pub use gateway::{Gateway, GatewayDeps};
pub use host_guard::{Resolve, SystemResolver};
pub use listener::TlsUnusable;
pub use options::{Endpoint, GatewayOptions, TlsFiles};
pub use replay::{Mark, MarksUnavailable, ProcessMarks, ReplayMarks};
