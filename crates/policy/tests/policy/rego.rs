//! The contract in Rego, run by an interpreter.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use caracal_core::Timestamp;
use caracal_policy::contract_source;
use regorus::{Engine, Value};

/// The contract and a zone's documents, ready for many requests.
pub(crate) struct Contract {
    engine: Engine,
    now: Arc<AtomicI64>,
}

impl Contract {
    /// The contract without documents.
    pub(crate) fn new() -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let mut engine = Engine::new();
        let clock = now.clone();
        let read = move |_: Vec<Value>| Ok(Value::from(clock.load(Ordering::SeqCst)));
        engine
            .add_extension("time.now_ns".to_owned(), 0, Box::new(read))
            .unwrap();
        let parse = |arguments: Vec<Value>| {
            let text = arguments.first().and_then(|text| text.as_string().ok());
            let at = text.and_then(|text| Timestamp::parse_rfc3339(text));
            Ok(at.map_or(Value::Undefined, |at| Value::from(at.micros() * 1_000)))
        };
        engine
            .add_extension("time.parse_rfc3339_ns".to_owned(), 1, Box::new(parse))
            .unwrap();
        engine
            .add_policy("contract".to_owned(), contract_source().to_owned())
            .unwrap();
        Self { engine, now }
    }

    /// The same contract with a zone's documents beside it.
    pub(crate) fn with(documents: &[String]) -> Self {
        let mut contract = Self::new();
        for (at, document) in documents.iter().enumerate() {
            contract
                .engine
                .add_policy(format!("document-{at}"), document.clone())
                .unwrap();
        }
        contract
    }

    /// The result document.
    pub(crate) fn decide(
        &mut self,
        input: &serde_json::Value,
        now: Timestamp,
    ) -> serde_json::Value {
        self.now.store(now.micros() * 1_000, Ordering::SeqCst);
        self.engine.set_input(Value::from(input.clone()));
        let result = self
            .engine
            .eval_rule("data.caracal.authz.result".to_owned());
        serde_json::to_value(result.unwrap()).unwrap()
    }
}
