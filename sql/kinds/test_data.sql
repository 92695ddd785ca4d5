-- Rows of the development environment, counted by table. They are removed in batches: sql/queries/purge.sql.

-- name: read
SELECT d.name AS key, d.name AS row_id, false AS referenced, d.rows
FROM fivrec.development_rows() d
WHERE d.rows > 0;
