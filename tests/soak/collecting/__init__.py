"""The soak of collection: clients, collectors that are killed and stopped, wrong clocks, late deletes."""
