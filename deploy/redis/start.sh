#!/bin/sh
# Runs Redis with redis.conf and three users, whose passwords come from the environment. The access list is made anew at
# each start, in the working directory. Arguments are settings of Redis, such as --port 6380.
set -eu
here=$(dirname "$0")

for name in APP WORKER READER; do
  eval "value=\${OTEL_ANALYTICS_REDIS_${name}_PASSWORD:-}"
  if [ -z "$value" ]; then
    echo "start.sh: OTEL_ANALYTICS_REDIS_${name}_PASSWORD is not set; Redis was not started" >&2
    exit 1
  fi
done

# What a user of the list has to begin with: one password, of which only the hash is written down, and no right at all.
user() {
  hash=$(printf '%s' "$2" | sha256sum)
  printf 'user %s on #%s resetkeys resetchannels -@all' "$1" "${hash%% *}"
}

umask 077
{
  echo "user default off resetpass resetkeys resetchannels -@all"
  # Adds events and counts them. It can neither read the stream nor take anything off it.
  user app "$OTEL_ANALYTICS_REDIS_APP_PASSWORD"
  echo " ~route_analytics:stream ~route_analytics:ledger +eval +info +xadd +xlen +hmget +hset +hincrby"
  # Drains the stream, again where PostgreSQL had to be restored, writes dead letters, replays and purges them, and
  # forgets users.
  user worker "$OTEL_ANALYTICS_REDIS_WORKER_PASSWORD"
  printf ' ~route_analytics:* +eval +info +time +hgetall +hmget +hset +hincrby +xadd +xlen +xrange +xrevrange'
  printf ' +xreadgroup +xautoclaim +xclaim +xack +xpending +xtrim +xdel +xinfo|groups +xinfo|consumers'
  echo ' +xgroup|create +xgroup|setid +xgroup|delconsumer +rename +bgrewriteaof'
  # Looks: live, audit, doctor, dlq list, and a health check.
  user reader "$OTEL_ANALYTICS_REDIS_READER_PASSWORD"
  echo ' ~route_analytics:* +ping +info +time +hgetall +xlen +xrange +xrevrange +xpending +xinfo|groups'
} >users.acl

unset OTEL_ANALYTICS_REDIS_APP_PASSWORD OTEL_ANALYTICS_REDIS_WORKER_PASSWORD OTEL_ANALYTICS_REDIS_READER_PASSWORD
exec redis-server "$here/redis.conf" --aclfile "$PWD/users.acl" "$@"
