-- name: open_epoch
-- Begin an epoch; returns it to the one who does.
INSERT INTO route_analytics_ledger (epoch) VALUES (%(epoch)s) ON CONFLICT DO NOTHING RETURNING epoch;

-- name: rows
-- All epochs, latest first.
SELECT epoch, accepted, replayed, purged, stored, duplicates, dead, life
FROM route_analytics_ledger ORDER BY first_seen DESC, epoch;

-- name: claim_entries
-- Enter the entries of a batch, in the order that keeps workers from deadlocking; returns the new ones.
INSERT INTO route_analytics_stream_entries (epoch, entry_id)
SELECT %(epoch)s, id FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS given (id, place) ORDER BY place
ON CONFLICT DO NOTHING
RETURNING entry_id;

-- name: record_dead
-- Remember which events of an entry are dead letters.
UPDATE route_analytics_stream_entries SET dead = %(dead)s::jsonb WHERE epoch = %(epoch)s AND entry_id = %(id)s;

-- name: recorded_dead
-- The dead letters of entries delivered again.
SELECT entry_id, dead FROM route_analytics_stream_entries
WHERE epoch = %(epoch)s AND entry_id = ANY (%(ids)s::text[]) AND dead IS NOT NULL;

-- name: known_entries
-- Those of the entries that are in the ledger.
SELECT entry_id FROM route_analytics_stream_entries
WHERE epoch = %(epoch)s AND entry_id = ANY (%(ids)s::text[]);

-- name: add
-- What became of a batch. What Redis says only grows within a life of the server, and that of another life does not
-- count; a late transaction may not set it back. The epoch is open, unless an older database was put in place of this
-- one a moment ago.
INSERT INTO route_analytics_ledger AS known (epoch, accepted, replayed, purged, stored, duplicates, dead, life)
VALUES (
    %(epoch)s, %(accepted)s, %(replayed)s, %(purged)s, %(stored)s, %(duplicates)s, %(dead)s, %(life)s
)
ON CONFLICT (epoch) DO UPDATE SET
    accepted = greatest(known.accepted, CASE WHEN known.life = excluded.life THEN excluded.accepted END),
    replayed = greatest(known.replayed, CASE WHEN known.life = excluded.life THEN excluded.replayed END),
    purged = greatest(known.purged, excluded.purged),
    stored = known.stored + excluded.stored,
    duplicates = known.duplicates + excluded.duplicates,
    dead = known.dead + excluded.dead,
    last_seen = clock_timestamp();

-- name: adopt_life
-- From now on figures are those of another life of the server; nothing where another worker was faster.
UPDATE route_analytics_ledger SET life = %(life)s WHERE epoch = %(epoch)s AND life = %(known)s;

-- name: raise_accepted
-- An epoch that is over turns out to have come further; returns what then is missing of it.
INSERT INTO route_analytics_ledger (epoch, accepted, first_seen) VALUES (%(epoch)s, %(count)s, 'epoch')
ON CONFLICT (epoch) DO UPDATE SET accepted = excluded.accepted - route_analytics_ledger.replayed
WHERE excluded.accepted > route_analytics_ledger.accepted + route_analytics_ledger.replayed
RETURNING accepted + replayed - stored - duplicates - dead;

-- name: add_drops
-- Count events that applications had to give up.
INSERT INTO route_analytics_drops (hour, reason, events)
SELECT %(hour)s, reason, events
FROM unnest(%(reasons)s::text[], %(counts)s::bigint[]) AS given (reason, events) ORDER BY reason
ON CONFLICT (hour, reason) DO UPDATE SET events = route_analytics_drops.events + excluded.events;

-- name: drops
-- Events that applications had to give up, by reason, without those of long ago.
SELECT reason, sum(events) FROM route_analytics_drops WHERE hour > 'epoch' GROUP BY reason ORDER BY reason;

-- name: drops_ever
-- The same of all times.
SELECT reason, sum(events) FROM route_analytics_drops GROUP BY reason ORDER BY reason;

-- name: forget_entries
-- Forget entries that are gone from the stream; those of an epoch that is over, and reports, a day later. A minute is more than a
-- Redis that was killed forgets of its last commands: what was taken off the stream then is on it again.
DELETE FROM route_analytics_stream_entries
WHERE (epoch = %(epoch)s AND entry_id < %(first_id)s AND processed_at < clock_timestamp() - interval '1 minute')
   OR ((epoch <> %(epoch)s OR entry_id LIKE 'report/%%') AND processed_at < now() - interval '1 day');

-- name: forget_drops
-- Forget when drops of long ago were reported: they are summed under the hour 1970-01-01, because a sum over
-- all times that shrank would look to Prometheus like a counter that began anew.
WITH old AS (
    DELETE FROM route_analytics_drops WHERE hour < %(before)s AND hour > 'epoch' RETURNING reason, events
)
INSERT INTO route_analytics_drops (hour, reason, events)
SELECT 'epoch', reason, sum(events) FROM old GROUP BY reason ORDER BY reason
ON CONFLICT (hour, reason) DO UPDATE SET events = route_analytics_drops.events + excluded.events;

-- name: make_durable
-- The commit must be on disk before the stream is told to forget, whatever the role's default is.
SET LOCAL synchronous_commit = on;
