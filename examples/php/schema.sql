-- The shop's products and orders. The ledger of Caddy makes its own tables, in its own database.

CREATE TABLE products (
    id    VARCHAR(20)  NOT NULL PRIMARY KEY,
    name  VARCHAR(40)  NOT NULL,
    price INT UNSIGNED NOT NULL, -- in won
    stock INT UNSIGNED NOT NULL  -- without what is held for an order
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE orders (
    -- Also what Caddy and PortOne call merchant_uid. Two numbers that differ in case are two orders.
    id       VARCHAR(40)  COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    product  VARCHAR(20)  NOT NULL REFERENCES products (id),
    name     VARCHAR(40)  NOT NULL,
    amount   INT UNSIGNED NOT NULL, -- in won
    state    ENUM ('waiting', 'paid', 'cancelled', 'expired') NOT NULL DEFAULT 'waiting',
    held     BOOLEAN      NOT NULL DEFAULT FALSE, -- whether an item was taken out of the stock for it
    expires  BIGINT       NOT NULL, -- when the barcode does, in Unix seconds
    barcode  VARCHAR(48)  COLLATE utf8mb4_bin,
    imp_uid  VARCHAR(64)  COLLATE utf8mb4_bin, -- the payment that the barcode stands for
    paid_at  BIGINT, -- in Unix seconds
    refunded INT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

INSERT INTO products VALUES ('umbrella', '접이식 우산', 15000, 100), ('lamp', '한정판 램프', 30000, 1);
