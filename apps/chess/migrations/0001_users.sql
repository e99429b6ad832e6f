CREATE TABLE users (
    -- AUTOINCREMENT: an id is never given out twice, so an old cookie cannot become somebody else.
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    -- The name folded so that two names people would read as the same are the same (see name.rs).
    name_key   TEXT NOT NULL UNIQUE,
    -- Seconds since 1970.
    created_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;
