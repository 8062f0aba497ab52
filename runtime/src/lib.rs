//! What the shells of controller and speaker share: flags, logging, health, metrics, watches.
