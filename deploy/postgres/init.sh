#!/bin/sh
# Makes the roles of roles.sql in the database POSTGRES_DB, with the passwords of the environment. The image of
# PostgreSQL runs it when its volume is new. By hand, as a superuser, PGHOST and the like say where:
#   POSTGRES_DB=otel_analytics deploy/postgres/init.sh
# Running it again gives the roles the passwords that stand in the environment then.
set -eu

for name in POSTGRES_DB OTEL_ANALYTICS_OWNER_PASSWORD OTEL_ANALYTICS_INGEST_PASSWORD OTEL_ANALYTICS_READER_PASSWORD; do
  eval "value=\${$name:-}"
  if [ -z "$value" ]; then
    echo "init.sh: $name is not set; nothing was done" >&2
    exit 1
  fi
done

# The image sources a file that is not executable, and $0 is its own then.
# shellcheck disable=SC3028 # where there is no such variable, $0 is right
here=$(dirname "${BASH_SOURCE:-$0}")
roles=$here/roles.sql
[ -e "$roles" ] || roles=$here/sql/roles.sql # where whatever lies beside this file is run, too

user=${PGUSER:-${POSTGRES_USER:-postgres}}
psql --no-psqlrc --no-password --quiet --set=ON_ERROR_STOP=1 --username="$user" --dbname="$POSTGRES_DB" \
  --single-transaction --file="$roles"

# psql turns each password into a SCRAM verifier itself, so that neither the server and its log nor the list of processes
# sees one. It asks for each of them twice: on the terminal, if there is one, which is why setsid takes that away.
set_password() {
  said=$(
    printf '%s\n%s\n' "$2" "$2" |
      setsid psql --no-psqlrc --no-password --quiet --set=ON_ERROR_STOP=1 --username="$user" --dbname="$POSTGRES_DB" \
        --command="SET password_encryption = 'scram-sha-256'" --command="\\password $1" 2>&1
  ) || {
    echo "init.sh: $1 got no password: $said" >&2
    exit 1
  }
}
set_password otel_analytics_owner "$OTEL_ANALYTICS_OWNER_PASSWORD"
set_password otel_analytics_ingest "$OTEL_ANALYTICS_INGEST_PASSWORD"
set_password otel_analytics_reader "$OTEL_ANALYTICS_READER_PASSWORD"
