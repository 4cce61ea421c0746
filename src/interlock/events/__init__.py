"""Events: published through an outbox, kept by a broker, consumed with retries, an inbox and dead letters."""
