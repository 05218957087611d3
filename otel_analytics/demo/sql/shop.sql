-- The shop's own data: what a small shop would have, so that its queries are real. In the schema of the search path.

CREATE TABLE IF NOT EXISTS products (
    id          integer PRIMARY KEY,
    name        text    NOT NULL,
    category    text    NOT NULL,
    price_cents integer NOT NULL,
    stock       integer NOT NULL
);

CREATE TABLE IF NOT EXISTS reviews (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id integer NOT NULL REFERENCES products,
    stars      integer NOT NULL,
    body       text    NOT NULL
);
CREATE INDEX IF NOT EXISTS reviews_product ON reviews (product_id);

CREATE TABLE IF NOT EXISTS orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     text        NOT NULL,
    product_id  integer     NOT NULL REFERENCES products,
    quantity    integer     NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO products (id, name, category, price_cents, stock)
SELECT
    n,
    (ARRAY['Oak', 'Linen', 'Copper', 'Velvet', 'Marble', 'Rattan'])[1 + n % 6] || ' '
        || (ARRAY['chair', 'lamp', 'table', 'shelf', 'rug', 'mirror', 'vase'])[1 + n % 7] || ' ' || n,
    (ARRAY['chairs', 'lamps', 'tables', 'shelves', 'rugs'])[1 + n % 5],
    1000 + (n * 7919) % 90000,
    (n * 104729) % 60
FROM generate_series(1, 2000) AS n
ON CONFLICT DO NOTHING;

INSERT INTO reviews (product_id, stars, body)
SELECT 1 + (n * 31) % 2000, 1 + n % 5, 'Review ' || n
FROM generate_series(1, 20000) AS n
WHERE NOT EXISTS (SELECT FROM reviews);

INSERT INTO orders (user_id, product_id, quantity, created_at)
SELECT 'u' || n % 400, 1 + (n * 17) % 2000, 1 + n % 3, now() - n * interval '3 minutes'
FROM generate_series(1, 5000) AS n
WHERE NOT EXISTS (SELECT FROM orders);

ANALYZE products, reviews, orders;
