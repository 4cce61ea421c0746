"""The brokers, a file each; `interlock.events.broker.open_broker` picks one by URL."""
