-- How long in all nobody's clock ran, as no node was up.
ALTER TABLE games ADD COLUMN paused_ms BIGINT NOT NULL DEFAULT 0;
