-- In which life of the Redis server its figures were last heard: a server that comes back, or takes over, may be behind.
ALTER TABLE route_analytics_ledger ADD COLUMN life text NOT NULL DEFAULT '';
