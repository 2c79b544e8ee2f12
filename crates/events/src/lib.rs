//! Topics, signed stream messages, in-process delivery.
