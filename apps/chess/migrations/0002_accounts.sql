-- With a password somebody can come back from another browser: its Argon2 hash, as PHC writes it.
ALTER TABLE users ADD COLUMN password TEXT;
-- When they last had a tab open, if that is known.
ALTER TABLE users ADD COLUMN seen_at BIGINT;
