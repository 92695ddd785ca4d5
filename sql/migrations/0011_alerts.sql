-- Alerts on their way to receivers, stored in the transaction of what they tell. payload is what is posted.
CREATE TABLE IF NOT EXISTS fivrec.alert_outbox (
  id text PRIMARY KEY,
  instance text NOT NULL,
  alert text NOT NULL,
  payload json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz
);
