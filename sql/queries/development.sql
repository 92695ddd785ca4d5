-- Test data: rows of the environment development. Children go before their parents.

-- name: counts
SELECT (SELECT count(*) FROM messages WHERE environment = 'development') AS messages,
       (SELECT count(*) FROM conversations WHERE environment = 'development') AS conversations,
       (SELECT count(*) FROM clients WHERE environment = 'development') AS clients,
       (SELECT count(*) FROM queues WHERE environment = 'development') AS queues,
       (SELECT count(*) FROM users WHERE environment = 'development') AS users;

-- name: delete_messages
DELETE FROM messages WHERE environment = 'development';

-- name: delete_conversations
DELETE FROM conversations WHERE environment = 'development';

-- name: delete_clients
DELETE FROM clients WHERE environment = 'development';

-- name: delete_queues
DELETE FROM queues WHERE environment = 'development';

-- name: delete_users
DELETE FROM users WHERE environment = 'development';
