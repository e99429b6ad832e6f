-- What SQLite and PostgreSQL both understand: BIGINT for ids and milliseconds since 1970, TEXT for the rest. Ids are
-- random and made by the program, and so is each time that is stored: the database's clock is asked for it first.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    -- Below 2^53, so that JavaScript can read it as a number too.
    id         BIGINT PRIMARY KEY,
    name       TEXT NOT NULL,
    -- Equal for names that read or look the same (see name.rs).
    name_key   TEXT NOT NULL UNIQUE,
    name_look  TEXT NOT NULL UNIQUE,
    -- 1 for a program that plays.
    bot        BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    -- SHA-256 of what the cookie holds, in hexadecimal.
    token_hash TEXT PRIMARY KEY,
    user_id    BIGINT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE games (
    id            TEXT PRIMARY KEY,
    white         BIGINT NOT NULL REFERENCES users (id),
    black         BIGINT NOT NULL REFERENCES users (id),
    initial_ms    BIGINT NOT NULL,
    increment_ms  BIGINT NOT NULL,
    -- Every change of a game is an UPDATE that names the version it was made from.
    version       BIGINT NOT NULL,
    ply           BIGINT NOT NULL,
    -- For the lobby: the position and the last move, which moves says too.
    fen           TEXT NOT NULL,
    last          TEXT,
    -- What each clock showed at turn_at, when the side to move began to think.
    white_ms      BIGINT NOT NULL,
    black_ms      BIGINT NOT NULL,
    turn_at       BIGINT NOT NULL,
    -- When the flag of the side to move falls.
    deadline_at   BIGINT NOT NULL,
    draw_offer    TEXT,
    -- Since when a player has no connection, and whether the page said goodbye before.
    white_gone_at BIGINT,
    black_gone_at BIGINT,
    white_bye     BIGINT NOT NULL,
    black_bye     BIGINT NOT NULL,
    -- Of an ended game: the winner, or none; why; a rematch that is offered; the game that it became.
    winner        TEXT,
    reason        TEXT,
    rematch_offer TEXT,
    rematch       TEXT,
    -- The game that this one is the rematch of: it has one at most.
    rematch_of    TEXT UNIQUE,
    created_at    BIGINT NOT NULL,
    ended_at      BIGINT
);
CREATE INDEX games_due ON games (deadline_at) WHERE ended_at IS NULL;
CREATE INDEX games_of_white ON games (white, created_at);
CREATE INDEX games_of_black ON games (black, created_at);

CREATE TABLE moves (
    game    TEXT NOT NULL REFERENCES games (id),
    -- 0 for White's first move.
    ply     BIGINT NOT NULL,
    uci     TEXT NOT NULL,
    at_ms   BIGINT NOT NULL,
    -- The mover's clock after the move.
    left_ms BIGINT NOT NULL,
    PRIMARY KEY (game, ply)
);

-- A person has one running game at most. Bots are not in it.
CREATE TABLE playing (
    user_id BIGINT PRIMARY KEY REFERENCES users (id),
    game    TEXT NOT NULL REFERENCES games (id)
);
CREATE INDEX playing_by_game ON playing (game);

-- Seeks (to nobody in particular) and invites.
CREATE TABLE offers (
    id           TEXT PRIMARY KEY,
    from_user    BIGINT NOT NULL REFERENCES users (id),
    to_user      BIGINT REFERENCES users (id),
    -- What from_user wants to play: white, black or random.
    color        TEXT NOT NULL,
    initial_ms   BIGINT NOT NULL,
    increment_ms BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    -- open, accepted, declined, withdrawn, expired or left.
    state        TEXT NOT NULL,
    game         TEXT
);
CREATE UNIQUE INDEX one_seek ON offers (from_user) WHERE state = 'open' AND to_user IS NULL;
CREATE UNIQUE INDEX one_invite ON offers (from_user, to_user) WHERE state = 'open';
CREATE INDEX open_offers_to ON offers (to_user) WHERE state = 'open';
CREATE INDEX offers_by_age ON offers (created_at);
