//! Delivery inside one process: the embedded shape's streams.
//!
//! Each topic has a ring of bounded size. A subscriber that falls behind loses the oldest messages
//! and is told how many, so that it can refresh what it caches instead of trusting a gap.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::fields::Fields;
use crate::publisher::{PublishError, Publisher};
use crate::topic::Topic;

type Ring = broadcast::Sender<Arc<Fields>>;

/// The bus. Cheap to clone; all clones are one bus.
#[derive(Debug, Clone)]
pub struct InProcessBus(Arc<Rings>);

#[derive(Debug)]
struct Rings {
    sessions_revoke: Ring,
    delegations_invalidate: Ring,
    policy_invalidate: Ring,
    keys_invalidate: Ring,
    agents_lifecycle: Ring,
    invocations_lifecycle: Ring,
    audit_events: Ring,
}

impl InProcessBus {
    /// The most messages that a topic holds for its slowest subscriber.
    pub const MAX_CAPACITY: usize = 65_536;

    /// A bus whose topics hold `capacity` messages each, within 1 and
    /// [`InProcessBus::MAX_CAPACITY`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let ring = || Ring::new(capacity.clamp(1, Self::MAX_CAPACITY));
        Self(Arc::new(Rings {
            sessions_revoke: ring(),
            delegations_invalidate: ring(),
            policy_invalidate: ring(),
            keys_invalidate: ring(),
            agents_lifecycle: ring(),
            invocations_lifecycle: ring(),
            audit_events: ring(),
        }))
    }

    /// Receives what is published to `topic` from now on.
    #[must_use]
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        Subscription(self.ring(topic).subscribe())
    }

    fn ring(&self, topic: Topic) -> &Ring {
        match topic {
            Topic::SessionsRevoke => &self.0.sessions_revoke,
            Topic::DelegationsInvalidate => &self.0.delegations_invalidate,
            Topic::PolicyInvalidate => &self.0.policy_invalidate,
            Topic::KeysInvalidate => &self.0.keys_invalidate,
            Topic::AgentsLifecycle => &self.0.agents_lifecycle,
            Topic::InvocationsLifecycle => &self.0.invocations_lifecycle,
            Topic::AuditEvents => &self.0.audit_events,
        }
    }
}

#[async_trait]
impl Publisher for InProcessBus {
    /// Never fails: a topic without subscribers takes and forgets.
    async fn publish(&self, topic: Topic, fields: Fields) -> Result<(), PublishError> {
        let _ = self.ring(topic).send(Arc::new(fields));
        Ok(())
    }
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message(Arc<Fields>),
    /// This many messages were lost because the subscriber was too slow. Refresh everything.
    Missed(u64),
}

/// One subscriber's place in a topic.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Arc<Fields>>);

impl Subscription {
    /// The next message, or how many were missed; `None` once the bus is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.0.recv().await {
            Ok(fields) => Some(Delivery::Message(fields)),
            Err(RecvError::Lagged(missed)) => Some(Delivery::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u32) -> Fields {
        Fields::new().with("number", number)
    }

    #[tokio::test]
    async fn every_subscriber_of_the_topic_gets_the_message_and_no_other_topic_does() {
        let bus = InProcessBus::new(4);
        let mut first = bus.subscribe(Topic::SessionsRevoke);
        let mut second = bus.subscribe(Topic::SessionsRevoke);
        let mut other = bus.subscribe(Topic::PolicyInvalidate);
        bus.publish(Topic::SessionsRevoke, numbered(1))
            .await
            .unwrap();
        drop(bus);
        for subscription in [&mut first, &mut second] {
            assert_eq!(
                subscription.next().await,
                Some(Delivery::Message(Arc::new(numbered(1))))
            );
        }
        assert_eq!(other.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_many_it_missed() {
        let bus = InProcessBus::new(2);
        let mut slow = bus.subscribe(Topic::SessionsRevoke);
        for number in 1..=5 {
            bus.publish(Topic::SessionsRevoke, numbered(number))
                .await
                .unwrap();
        }
        assert_eq!(slow.next().await, Some(Delivery::Missed(3)));
        assert_eq!(
            slow.next().await,
            Some(Delivery::Message(Arc::new(numbered(4))))
        );
    }

    #[tokio::test]
    async fn a_topic_without_subscribers_takes_messages() {
        let bus = InProcessBus::new(1);
        assert_eq!(bus.publish(Topic::AuditEvents, numbered(1)).await, Ok(()));
    }
}
