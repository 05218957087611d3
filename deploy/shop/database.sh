#!/usr/bin/env bash
# A database for the demo's shop, owned by a role that sees nothing else. The image of PostgreSQL runs this when its
# volume is new.
set -euo pipefail

psql --set=ON_ERROR_STOP=1 --no-psqlrc --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv password SHOP_PASSWORD
CREATE ROLE shop LOGIN PASSWORD :'password';
CREATE DATABASE shop OWNER shop;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
SQL

psql --set=ON_ERROR_STOP=1 --no-psqlrc --quiet --username="${POSTGRES_USER:-postgres}" --dbname=shop \
  --command='SET ROLE shop' --file="$(dirname "$0")/sql/shop.sql"
